import asyncio
from collections.abc import Callable, Mapping

import msgspec

from app.clock import HOUR_US, MINUTE_US, SECOND_US, now_us
from app.simulate.delivery import DeliveryCounts
from app.simulate.plan import Plan
from app.simulate.simulation import Simulation, SimulationSummary
from app.simulate.world.behaviour import Behaviour, OfflinePeriods, behaviour_of
from app.simulate.world.sites import list_sensors
from app.simulate.world.timeline import EventTimeline
from tests.conftest import API_KEY, Database, Server, wait_until
from tests.ports import free_port
from tests.simulate.scripted import ScriptedServer

#: (sensor, metric, microseconds since 1970) -> value
Rows = Mapping[tuple[str, str, int], float]
_STORED = """
SELECT sensor.name, series.metric, to_us(reading.time) AS us, reading.value
FROM reading JOIN series ON series.id = reading.series_id JOIN sensor ON sensor.id = series.sensor_id
WHERE reading.time > now() - INTERVAL '2 days'
"""


def make_plan(url: str, **options: object) -> Plan:
    return Plan(url=url, key=API_KEY, **{"retry_s": 0.01, **options})  # type: ignore[arg-type]


def make_timeline(
    end_us: int, minutes: int = 20, history_us: int = HOUR_US // 2, speed: float = 2_400
) -> EventTimeline:
    """Return a timeline of a history and some live minutes, of which 20 take half a second at the default speed."""
    live_us = end_us - minutes * MINUTE_US
    return EventTimeline(live_us - history_us, live_us, end_us, speed)


class EventLog:
    """The events that a simulation has logged."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []

    def __call__(self, event: str, **data: object) -> None:
        self.events.append((event, data))

    def of(self, event: str) -> list[dict[str, object]]:
        return [data for name, data in self.events if name == event]


def expected_rows(plan: Plan, start_us: int, end_us: int) -> Rows:
    """Compute independently which readings the gateways make from start to end, each by its own clock."""
    rows: dict[tuple[str, str, int], float] = {}
    for number in range(plan.gateways):
        skew_us = behaviour_of(plan.seed, number).skew_us
        for sensor in list_sensors(plan.seed, number, plan.sensors):
            first_us = (start_us + skew_us) // plan.every_us * plan.every_us + int(sensor.offset * plan.every_us)
            for time_us in range(first_us // 1_000 * 1_000, end_us + skew_us, plan.every_us):
                if time_us >= start_us + skew_us:
                    values = sensor.measure(time_us)
                    rows |= {(sensor.name, metric, time_us): value for metric, value in values.items()}
    return rows


async def stored_rows(database: Database) -> Rows:
    rows = await database.pool.fetch(_STORED)
    return {(row["name"], row["metric"], row["us"]): row["value"] for row in rows}


def lossy(seed: int, number: int, demo_start_us: int | None) -> Behaviour:
    """Return a behaviour that loses the first answer to every upload and is never offline."""
    return msgspec.structs.replace(behaviour_of(seed, number, demo_start_us), offline=None, lost_answers=1.0)


def offline_since(begin_us: int) -> Callable[[int, int, int | None], Behaviour]:
    """Return a function that chooses a behaviour: offline for 18 minutes from a time on, and no lost answers."""

    def choose(seed: int, number: int, demo_start_us: int | None) -> Behaviour:
        offline = OfflinePeriods(HOUR_US, 18 * MINUTE_US, begin_us)
        return msgspec.structs.replace(behaviour_of(seed, number, demo_start_us), offline=offline, lost_answers=0.0)

    return choose


def without_keys(seed: int, number: int, demo_start_us: int | None) -> Behaviour:
    """Return a behaviour without Idempotency-Key, so that two equal uploads get an answer each."""
    return msgspec.structs.replace(behaviour_of(seed, number, demo_start_us), idempotent=False)


async def simulate(
    plan: Plan, timeline: EventTimeline, events: EventLog | None = None, behaviour: object = behaviour_of
) -> SimulationSummary:
    async with asyncio.timeout(60):
        return await Simulation(plan, timeline, events or EventLog(), behaviour).run()  # type: ignore[arg-type]


async def test_simulation_stores_exactly_what_was_made_when_gateways_go_offline(
    server: Server, database: Database
) -> None:
    plan, timeline, events = make_plan(server.address), make_timeline(now_us(), history_us=0, speed=1_000), EventLog()
    summary = await simulate(plan, timeline, events, offline_since(timeline.live_us))
    expected = expected_rows(plan, timeline.start_us, timeline.end_us or 0)
    assert await stored_rows(database) == expected
    assert summary.total == DeliveryCounts(made=len(expected), sent=len(expected), accepted=len(expected))
    assert summary.is_clean
    assert {data["gateway"] for data in events.of("gateway_offline")} == {"gw-harbour", "gw-bakery", "gw-dairy"}
    assert all(isinstance(data["buffered"], int) and data["buffered"] > 0 for data in events.of("gateway_back"))


async def test_simulation_stores_each_reading_once_when_answers_are_lost(server: Server, database: Database) -> None:
    plan, timeline = make_plan(server.address), make_timeline(now_us(), minutes=5)
    summary = await simulate(plan, timeline, behaviour=lossy)
    expected = expected_rows(plan, timeline.start_us, timeline.end_us or 0)
    assert await stored_rows(database) == expected
    assert summary.is_clean
    for gateway in summary.gateways:
        # With an Idempotency-Key, a retry gets the answer that was lost. Without, all its values are duplicates.
        counts = (gateway.made, 0) if gateway.gateway == "gw-bakery" else (0, gateway.made)
        assert (gateway.accepted, gateway.duplicates) == counts
        assert gateway.sent == 2 * gateway.made
        assert gateway.lost_answers == gateway.retries == gateway.uploads


async def test_simulation_stores_nothing_new_when_another_schedule_has_the_same_seed(
    server: Server, database: Database
) -> None:
    end_us = now_us()
    offline = offline_since(end_us - 20 * MINUTE_US)
    first = await simulate(make_plan(server.address), make_timeline(end_us), behaviour=offline)
    stored = await stored_rows(database)
    slower = make_plan(server.address, batch_us=3 * MINUTE_US + SECOND_US)
    timeline = make_timeline(end_us, minutes=7, history_us=43 * MINUTE_US, speed=1_500)
    second = await simulate(slower, timeline, behaviour=without_keys)
    assert second.total.made == first.total.made == len(stored)
    assert (second.total.accepted, second.total.duplicates) == (0, second.total.made)
    assert await stored_rows(database) == stored


async def test_simulation_makes_other_values_when_the_seed_differs() -> None:
    values = [list_sensors(seed, 0, 1)[0].measure(1_780_272_000_000_000) for seed in (1, 2)]
    assert values[0] != values[1]


async def test_simulation_counts_dropped_values_when_the_buffer_is_full() -> None:
    plan = make_plan(f"http://127.0.0.1:{free_port()}", gateways=1, sensors=1, buffer_readings=10, patience_s=0.1)
    events = EventLog()
    # 60 readings of one value. Some are in an upload that the server never answers, and are dropped at the end.
    summary = await simulate(plan, make_timeline(now_us(), minutes=5, history_us=0), events)
    assert summary.total == DeliveryCounts(made=60, dropped=60)
    assert not summary.is_clean
    assert events.of("readings_dropped")
    assert events.of("gateway_gave_up") == [{"gateway": "gw-harbour", "buffered": 60 - _dropped_before(events)}]


def _dropped_before(events: EventLog) -> int:
    return sum(int(str(data["values"])) for data in events.of("readings_dropped"))


async def test_simulation_sends_buffered_readings_when_it_is_stopped() -> None:
    async with ScriptedServer() as server:
        plan = make_plan(server.url, gateways=1, sensors=2, every_us=20_000, batch_us=HOUR_US)
        start_us = now_us()
        simulation = Simulation(plan, EventTimeline(start_us, start_us, None), EventLog())
        running = asyncio.create_task(simulation.run())
        await wait_until(lambda: simulation.summarize().total.made >= 20)
        simulation.stop()
        summary = await running
    received = [reading for request in server.requests for reading in request.readings]
    assert summary.total.made == summary.total.accepted == sum(len(reading["values"]) for reading in received)
    assert summary.is_clean


async def test_simulation_drops_buffered_readings_when_it_is_stopped_twice() -> None:
    plan = make_plan(f"http://127.0.0.1:{free_port()}", gateways=2, patience_s=60, history_us=MINUTE_US)
    simulation = Simulation(plan, EventTimeline.of(plan, now_us()), EventLog())
    running = asyncio.create_task(simulation.run())
    await wait_until(lambda: simulation.summarize().total.made > 0)
    simulation.stop()
    simulation.stop()
    async with asyncio.timeout(5):
        summary = await running
    assert summary.total.dropped == summary.total.made > 0
