"""`tidegauge simulate`: a simulation with its display, from start to summary."""

import structlog
from rich.console import Console

from app.clock import now_us
from app.simulate.display import shown
from app.simulate.plan import Plan
from app.simulate.simulation import Simulation, Summary
from app.simulate.world.timeline import Timeline

log = structlog.get_logger()


async def simulate(plan: Plan, console: Console) -> Summary:
    """Run a plan until it ends or a signal stops it, and show it on `console`; raise SettingsError."""
    plan.check()
    say = _say_nothing if console.is_terminal else log.info
    simulation = Simulation(plan, Timeline.of(plan, now_us()), say)
    with simulation.stopped_by_signals():
        async with shown(simulation, console):
            return await simulation.run()


def _say_nothing(_event: str, **_data: object) -> None:
    """On a terminal the table shows it all, and lines between would tear it."""
