"""The simulation: all gateways of a plan, which run at the same time against one server."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import aiohttp
import msgspec

from app.simulate.delivery import DeliveryCounts
from app.simulate.gateway import Gateway, LogEvent
from app.simulate.plan import Plan
from app.simulate.world.behaviour import Behaviour, behaviour_of
from app.simulate.world.demo_sites import demo_behaviours, demo_sensors
from app.simulate.world.sites import gateway_name, list_sensors
from app.simulate.world.timeline import EventTimeline
from app.uplink import Uplink


class GatewaySummary(msgspec.Struct, frozen=True, kw_only=True):
    """The counts of one gateway: uploads, retries and lost answers are requests, all other counts are values."""

    gateway: str
    made: int
    sent: int
    accepted: int
    duplicates: int
    rejected: int
    dropped: int
    uploads: int
    retries: int
    lost_answers: int
    last_answer: str
    last_refusal: str


class SimulationSummary(msgspec.Struct, frozen=True):
    """The counts of a simulation, for each gateway and in total."""

    seed: int
    gateways: list[GatewaySummary]
    total: DeliveryCounts

    @property
    def is_clean(self) -> bool:
        """Return whether no value was rejected or dropped."""
        return self.total.rejected == 0 and self.total.dropped == 0


class Simulation:
    """Gateways that run until the timeline ends."""

    def __init__(
        self,
        plan: Plan,
        timeline: EventTimeline,
        log_event: LogEvent,
        choose_behaviour: Callable[[int, int, int | None], Behaviour] = behaviour_of,
    ) -> None:
        plan.check()
        self.plan = plan
        self.timeline = timeline
        self._tasks: list[asyncio.Task[None]] = []
        behaviours = {
            gateway_name(number): choose_behaviour(plan.seed, number, plan.demo_start_us)
            for number in range(plan.gateways)
        }
        sensors = {
            gateway_name(number): list_sensors(plan.seed, number, plan.sensors, plan.demo_start_us)
            for number in range(plan.gateways)
        }
        if plan.demo_start_us is not None:
            behaviours |= demo_behaviours(plan.seed, plan.demo_start_us)
            for name, further in demo_sensors(plan.seed, plan.demo_start_us).items():
                sensors[name] = [*sensors.get(name, ()), *further]
        self.gateways = [
            Gateway(name, sensors[name], behaviour, plan, timeline, log_event) for name, behaviour in behaviours.items()
        ]

    async def run(self) -> SimulationSummary:
        """Run until the timeline ends and everything is sent; raise SettingsError for a wrong key or address."""
        async with aiohttp.ClientSession() as http:
            self._tasks = [
                asyncio.create_task(self._run(gateway, http), name=gateway.name) for gateway in self.gateways
            ]
            try:
                await asyncio.wait(self._tasks, return_when=asyncio.FIRST_EXCEPTION)
            finally:
                for task in self._tasks:
                    task.cancel()
                results = await asyncio.gather(*self._tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result
        return self.summarize()

    def stop(self) -> None:
        """End the timeline; on the second call, drop the readings that are not sent."""
        if self.timeline.is_stopped:
            for task in self._tasks:
                task.cancel()
        self.timeline.stop()

    @contextmanager
    def stopped_by_signals(self) -> Iterator[None]:
        """Until the block ends, let SIGINT and SIGTERM stop the simulation instead of the process."""
        loop = asyncio.get_running_loop()
        signals = (signal.SIGINT, signal.SIGTERM)
        for number in signals:
            loop.add_signal_handler(number, self.stop)
        try:
            yield
        finally:
            for number in signals:
                loop.remove_signal_handler(number)

    def summarize(self) -> SimulationSummary:
        """Return the counts so far."""
        gateways = [
            GatewaySummary(
                gateway=gateway.name, **msgspec.structs.asdict(gateway.counts), **msgspec.structs.asdict(gateway.tries)
            )
            for gateway in self.gateways
        ]
        columns = zip(*(msgspec.structs.astuple(gateway.counts) for gateway in self.gateways), strict=True)
        return SimulationSummary(self.plan.seed, gateways, DeliveryCounts(*map(sum, columns)))

    async def _run(self, gateway: Gateway, http: aiohttp.ClientSession) -> None:
        await gateway.run(Uplink(http, self.plan.url, self.plan.key, gateway.behaviour.encoding))
