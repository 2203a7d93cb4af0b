import asyncio
from io import StringIO

from rich.console import Console

from app.clock import MINUTE_US
from app.simulate.display import progress_display, render_progress, render_summary
from app.simulate.plan import Plan
from app.simulate.simulation import Simulation
from app.simulate.world.timeline import EventTimeline
from tests.simulate.scripted import ScriptedServer

#: 2026-06-01T00:00:00Z
NOW_US = 1_780_272_000_000_000


def make_simulation(url: str) -> Simulation:
    plan = Plan(url=url, key="key", gateways=1, sensors=1, batch_us=MINUTE_US)
    timeline = EventTimeline(NOW_US - 20 * MINUTE_US, NOW_US, NOW_US + MINUTE_US, speed=600)
    return Simulation(plan, timeline, lambda event, **data: None)


def lines_of(console: Console) -> list[list[str]]:
    return [line.split() for line in console.export_text().splitlines()]


async def test_display_and_summary_show_every_gateway() -> None:
    console = Console(record=True, width=130, file=StringIO())
    async with ScriptedServer() as server:
        simulation = make_simulation(server.url)
        console.print(render_progress(simulation))
        summary = await simulation.run()
    assert ["gw-harbour", "starting", "0", "0", "0", "0", "0", "0", "–"] in lines_of(console)
    console.print(render_progress(simulation))
    assert ["gw-harbour", "done", "0", "252", "252", "0", "0", "0", "200"] in lines_of(console)
    console.print(render_summary(summary))
    lines = lines_of(console)
    assert ["gateway", "made", "accepted", "duplicates", "rejected", "dropped", "uploads", "retries", "lost"] in lines
    assert ["all", "252", "252", "0", "0", "0"] in lines


async def test_summary_fits_when_the_output_is_80_columns_wide() -> None:
    console = Console(record=True, width=80, file=StringIO())
    console.print(render_summary(make_simulation("http://127.0.0.1:8000").summarize()))
    assert ["gw-harbour", *["0"] * 8] in lines_of(console)


async def test_summary_shows_the_reason_when_the_server_refused_readings() -> None:
    console = Console(record=True, width=130, file=StringIO())
    async with ScriptedServer((422, {})) as server:
        summary = await make_simulation(server.url).run()
    console.print(render_summary(summary))
    assert "refused: as the script says" in console.export_text()


async def test_display_changes_in_place_when_the_console_is_a_terminal() -> None:
    console = Console(record=True, width=130, force_terminal=True, file=StringIO())
    simulation = make_simulation("http://127.0.0.1:8000")
    async with progress_display(simulation, console):
        await asyncio.sleep(0)
    assert "gw-harbour" in console.export_text()
