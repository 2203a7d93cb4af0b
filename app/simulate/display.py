"""The display of a simulation: a live table on a terminal, and otherwise a log line every ten seconds."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import structlog
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from app.clock import SECOND_US, rfc3339
from app.simulate.gateway import Gateway
from app.simulate.simulation import Simulation, SimulationSummary
from app.tasks import running

_REFRESH_S = 0.25
_LINE_EVERY_S = 10.0
_STATE_STYLES = {
    "online": "green",
    "replaying": "cyan",
    "offline": "bright_black",
    "retrying": "yellow",
    "starting": "dim",
    "done": "dim",
}
_SUMMED = ("made", "accepted", "duplicates", "rejected", "dropped")
log = structlog.get_logger()


@asynccontextmanager
async def progress_display(simulation: Simulation, console: Console) -> AsyncIterator[None]:
    """Show the progress of a simulation until the block ends."""
    show = _show_table if console.is_terminal else _log_lines
    async with running(show(simulation, console), "simulation display"):
        yield


def render_summary(summary: SimulationSummary) -> Table:
    """Return a table with the counts of each gateway and their total."""
    table = Table(box=None, padding=(0, 1, 0, 0), title="in values", title_justify="left", title_style="dim")
    table.add_column("gateway", no_wrap=True)
    for name in (*_SUMMED, "uploads", "retries", "lost"):
        table.add_column(name, justify="right")
    for gateway in summary.gateways:
        requests = (gateway.uploads, gateway.retries, gateway.lost_answers)
        counts = (*(getattr(gateway, name) for name in _SUMMED), *requests)
        table.add_row(gateway.gateway, *(f"{count:,}" for count in counts))
    refusals = [gateway.last_refusal for gateway in summary.gateways if gateway.last_refusal]
    if refusals:
        table.caption = Text(f"refused: {refusals[0]}", style="red", justify="left")
    table.add_section()
    table.add_row("all", *(f"{getattr(summary.total, name):,}" for name in _SUMMED), style="bold")
    return table


async def _show_table(simulation: Simulation, console: Console) -> None:
    with Live(console=console, auto_refresh=False) as live:
        try:
            while True:
                live.update(render_progress(simulation), refresh=True)
                await asyncio.sleep(_REFRESH_S)
        finally:
            live.update(render_progress(simulation), refresh=True)


async def _log_lines(simulation: Simulation, _console: Console) -> None:
    while True:
        await asyncio.sleep(_LINE_EVERY_S)
        total = msgspec.structs.asdict(simulation.summarize().total)
        log.info("simulation_progressed", **total, buffered=sum(gateway.buffered for gateway in simulation.gateways))


def render_progress(simulation: Simulation) -> RenderableType:
    """Return a table with the present state of each gateway."""
    table = Table(box=None)
    table.add_column("gateway")
    table.add_column("state", min_width=9)
    for name in ("buffered", "sent", "accepted", "duplicates", "rejected", "dropped"):
        table.add_column(name, justify="right")
    table.add_column("last answer", min_width=24)
    for gateway in simulation.gateways:
        table.add_row(*_cells(gateway))
    return Group(_render_head(simulation), table)


def _cells(gateway: Gateway) -> list[RenderableType]:
    counts = gateway.counts
    return [
        gateway.name,
        Text(gateway.state, style=_STATE_STYLES.get(gateway.state, "")),
        f"{gateway.buffered:,}",
        f"{counts.sent:,}",
        f"{counts.accepted:,}",
        Text(f"{counts.duplicates:,}", style="cyan" if counts.duplicates else ""),
        Text(f"{counts.rejected:,}", style="bold red" if counts.rejected else ""),
        Text(f"{counts.dropped:,}", style="bold red" if counts.dropped else ""),
        gateway.tries.last_answer,
    ]


def _render_head(simulation: Simulation) -> RenderableType:
    """Return the event time and a progress bar, which covers the history, or everything if the timeline has an end."""
    timeline = simulation.timeline
    made_us = min(gateway.made_us for gateway in simulation.gateways)
    until_us = timeline.end_us or timeline.live_us
    grid = Table.grid(padding=(0, 2))
    event_time = rfc3339((timeline.start_us + made_us) // SECOND_US * SECOND_US)
    cells: list[RenderableType] = [Text(event_time, style="bold"), f"seed {simulation.plan.seed}"]
    if timeline.start_us + made_us < until_us:
        total_us = until_us - timeline.start_us
        cells += [ProgressBar(total=total_us, completed=made_us, width=40), f"{made_us / total_us:.0%}"]
    grid.add_row(*cells)
    return grid
