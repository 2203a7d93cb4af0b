"""Running a simulation together with its display, from the start to the summary."""

import structlog
from rich.console import Console

from app.clock import now_us
from app.simulate.display import progress_display
from app.simulate.plan import Plan
from app.simulate.simulation import Simulation, SimulationSummary
from app.simulate.world.timeline import EventTimeline

log = structlog.get_logger()


async def simulate(plan: Plan, console: Console) -> SimulationSummary:
    """Run a plan until it ends or a signal stops it, and show its progress on `console`; raise SettingsError."""
    plan.check()
    log_event = _ignore_event if console.is_terminal else log.info
    simulation = Simulation(plan, EventTimeline.of(plan, now_us()), log_event)
    with simulation.stopped_by_signals():
        async with progress_display(simulation, console):
            return await simulation.run()


def _ignore_event(_event: str, **_data: object) -> None:
    """Log nothing: on a terminal the table shows everything, and log lines would break its display."""
