"""Registration of sensors and series: ids, caps of keys, and tags and gateways in any order of arrival."""

import asyncio
from collections.abc import AsyncIterator
from itertools import permutations
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.db.pool import Connection
from app.ingest.series import limits
from app.ingest.series.registry import SeriesRegistry
from app.ingest.uploads.upload import Upload
from app.model import Reading
from tests.conftest import Database
from tests.ingest.uploads import HOUR, SECOND, T0, as_objects, key, reading, upload

NAMES = iter(range(10**9))
#: Time of a reading, its tag (None: no tags) and its gateway.
DESCRIBING = st.tuples(
    st.sampled_from([0, 1, 2, HOUR + 2]),
    st.sampled_from("ab") | st.none(),
    st.sampled_from("xy"),
)


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[Connection]:
    """Yield a connection as a flusher has one."""
    async with database.pool.acquire() as connection:
        yield connection


async def test_series_have_the_same_ids_in_every_process(connection: Connection) -> None:
    uploads = [upload(reading("pi1", a=1, b=2), reading("pi2", a=3)), upload(reading("pi1", b=1, c=2))]
    first, second = SeriesRegistry(), SeriesRegistry()
    await first.register(connection, uploads)
    await second.register(connection, uploads)
    assert first.series_of == second.series_of
    assert {sensor: sorted(metrics) for sensor, metrics in first.series_of.items()} == {
        "pi1": ["a", "b", "c"],
        "pi2": ["a"],
    }
    ids = [series_id for metrics in first.series_of.values() for series_id in metrics.values()]
    assert len(set(ids)) == 4
    assert all(
        first.names[first.series_of[sensor][metric]] == (sensor, metric) for sensor in ("pi1",) for metric in "abc"
    )


async def test_metric_is_registered_when_it_is_new_for_a_known_sensor(connection: Connection) -> None:
    registry = SeriesRegistry()
    await registry.register(connection, [upload(reading("pi1", a=1))])
    await registry.register(connection, [upload(reading("pi1", a=1, b=1))])
    assert list(registry.series_of["pi1"]) == ["a", "b"]
    assert await connection.fetchval("SELECT count(*) FROM series") == 2


async def test_registration_does_not_deadlock_when_processes_register_the_same_sensors(database: Database) -> None:
    async def register(number: int) -> SeriesRegistry:
        registry = SeriesRegistry()
        readings = [reading(f"pi{n}", a=1, b=1, c=1) for n in range(50)]
        async with database.pool.acquire() as connection:
            await registry.register(connection, [upload(*(readings if number % 2 else reversed(readings)))])
        return registry

    registries = await asyncio.gather(*(register(number) for number in range(4)))
    assert all(registry.series_of == registries[0].series_of for registry in registries)
    assert await database.pool.fetchval("SELECT count(*) FROM series") == 150


async def test_readings_of_new_sensors_are_rejected_when_the_cap_is_reached(connection: Connection) -> None:
    registry, capped = SeriesRegistry(), key("roof", sensors=2)
    sent = upload(reading("b"), reading("a"), reading("c", x=1, y=2), reading("a", T0 + 1), api_key=capped)
    (first,) = await registry.register(connection, [sent])
    assert (len(as_objects(sent.readings)), sent.rejected.count) == (4, 0)
    assert [item.sensor for item in as_objects(first.readings)] == ["b", "a", "a"]
    assert (first.value_count, first.rejected.count, first.rejected.by_code) == (3, 1, {"too_many_sensors": 1})
    (listed,) = first.rejected.listed
    assert listed.message == (
        "sensor 'c' is new, and the key 'roof' has brought as many sensors as it may; raise its limit, or stop "
        "whatever invents new names"
    )
    (later,) = await SeriesRegistry().register(connection, [upload(reading("a", z=1), reading("d"), api_key=capped)])
    assert [item.sensor for item in as_objects(later.readings)] == ["a"]
    assert await connection.fetchval("SELECT array_agg(name ORDER BY name) FROM sensor") == ["a", "b"]


async def test_values_are_rejected_one_by_one_when_their_sensor_has_too_many_metrics(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "METRICS_PER_SENSOR", 3)
    registry = SeriesRegistry()
    await registry.register(connection, [upload(reading("a", x=1), reading("b", x=1))])
    described = Reading("a", T0, {"x": 1, "y": 2, "z": 3, "zz": 4}, {"site": "roof"}, 1, {"y": "m", "zz": "K"})
    sent = upload(reading("b", y=1), described, reading("a", T0 + 1, zz=5), reading("a", T0 + 2, x=6))
    (kept,) = await registry.register(connection, [sent])
    assert as_objects(kept.readings) == [
        Reading("b", T0, {"y": 1}, index=0),
        Reading("a", T0, {"x": 1, "y": 2, "z": 3}, {"site": "roof"}, 1, {"y": "m"}),
        Reading("a", T0 + 2, {"x": 6}, index=3),
    ]
    assert [(each.index, each.code, each.metric) for each in kept.rejected.listed] == [
        (1, "too_many_metrics", "zz"),
        (2, "too_many_metrics", "zz"),
    ]
    assert kept.rejected.listed[0].message == (
        "sensor 'a' has 3 metrics already; stop whatever invents new names, or spread the metrics over several sensors"
    )
    (again,) = await SeriesRegistry().register(connection, [upload(reading("a", new=1))])
    assert (again.value_count, again.rejected.by_code) == (0, {"too_many_metrics": 1})
    await registry.describe(connection, [kept])
    assert await connection.fetchval("SELECT count(*) FROM series") == 5


async def test_values_are_rejected_when_the_sensors_of_a_key_have_too_many_series(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SERIES_PER_KEY", 3)
    registry = SeriesRegistry()
    await registry.register(connection, [upload(reading("a", x=1, y=2), api_key=key("roof"))])
    uploads = [
        upload(reading("a", z=3, zz=4), reading("c", x=1), api_key=key("roof")),
        upload(reading("d", x=1, y=2, z=3), api_key=key("other")),
        upload(reading("a", other=3), api_key=key("other")),
    ]
    kept = await registry.register(connection, uploads)
    assert [each.value_count for each in kept] == [0, 3, 1]
    assert kept[0].rejected.by_code == {"too_many_series": 3}
    (again,) = await SeriesRegistry().register(connection, [upload(reading("a", last=1), api_key=key("other"))])
    assert again.rejected.listed[0].message == (
        "the sensors of the key 'roof' have 3 series already; stop whatever invents new names, or use another key for "
        "some of the sensors"
    )


async def test_cap_counts_only_sensors_that_the_key_brought_first(connection: Connection) -> None:
    registry = SeriesRegistry()
    uploads = [
        upload(reading("a"), api_key=key("open")),
        upload(reading("a"), reading("b"), api_key=key("roof", sensors=1)),
        upload(reading("b"), reading("c"), api_key=key("roof", sensors=1)),
        upload(reading("c"), api_key=key("closed", sensors=0)),
    ]
    kept = await registry.register(connection, uploads)
    assert [[item.sensor for item in as_objects(each.readings)] for each in kept] == [["a"], ["a", "b"], ["b"], []]
    rows = await connection.fetch("SELECT name, created_by FROM sensor ORDER BY name")
    assert [tuple(row) for row in rows] == [("a", "open"), ("b", "roof")]


async def test_tags_and_gateway_are_those_of_the_newest_reading_in_any_order_of_arrival(connection: Connection) -> None:
    described = [(T0, "old", "x"), (T0 + SECOND, "new", "y"), (T0 - SECOND, "oldest", "z")]
    for order in permutations(described):
        for together in (False, True):
            name = f"pi{next(NAMES)}"
            uploads = [upload(reading(name, at, {"is": tag}), gateway=gateway) for at, tag, gateway in order]
            await _describe(connection, SeriesRegistry(), *([uploads] if together else [[each] for each in uploads]))
            assert await _description(connection, name) == ({"is": "new"}, "y")


async def test_tags_stay_when_newer_readings_have_none(connection: Connection) -> None:
    await _describe(connection, SeriesRegistry(), [upload(reading("pi1", T0, {"is": "here"}), gateway="x")])
    await _describe(connection, SeriesRegistry(), [upload(reading("pi1", T0 + SECOND))])
    assert await _description(connection, "pi1") == ({"is": "here"}, "x")
    await _describe(connection, SeriesRegistry(), [upload(reading("pi1", T0 + SECOND, {}))])
    assert await _description(connection, "pi1") == ({}, "x")


async def test_gateway_is_updated_when_it_lost_at_an_equal_time_before(connection: Connection) -> None:
    registry = SeriesRegistry()
    for at, gateway in ((T0, "b"), (T0, "a"), (T0 + SECOND, "a")):
        await _describe(connection, registry, [upload(reading("pi1", at), gateway=gateway)])
    assert (await _description(connection, "pi1"))[1] == "a"


async def test_gateway_is_the_newest_when_another_process_stored_a_newer_one_before(connection: Connection) -> None:
    here, there = SeriesRegistry(), SeriesRegistry()
    await _describe(connection, here, [upload(reading("pi1", T0))])
    await _describe(connection, there, [upload(reading("pi1", T0 + 2 * SECOND), gateway="b")])
    await _describe(connection, here, [upload(reading("pi1", T0 + SECOND), gateway="a")])
    await _describe(connection, here, [upload(reading("pi1", T0 + 3 * SECOND), gateway="a")])
    assert (await _description(connection, "pi1"))[1] == "a"


async def test_gateway_is_the_newest_when_a_flush_has_an_older_one_too(connection: Connection) -> None:
    registry = SeriesRegistry()
    await _describe(connection, registry, [upload(reading("pi1", T0), gateway="a")])
    await _describe(
        connection,
        registry,
        [upload(reading("pi1", T0 + SECOND), gateway="b"), upload(reading("pi1", T0 + 2 * SECOND), gateway="a")],
    )
    assert (await _description(connection, "pi1"))[1] == "a"


async def test_tags_are_stored_again_only_after_an_hour_when_they_are_the_same(connection: Connection) -> None:
    registry = SeriesRegistry()
    for at in (T0, T0 + HOUR, T0 + HOUR + 1, T0 + HOUR + 2):
        await _describe(connection, registry, [upload(reading("pi1", at, {"is": "here"}))])
    at = await connection.fetchval("SELECT to_us(tags_at) FROM sensor")
    assert at == T0 + HOUR + 1


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(describing=st.lists(DESCRIBING, min_size=1, max_size=5), data=st.data())
async def test_tags_and_gateway_do_not_depend_on_order_and_flushes(
    connection: Connection, describing: list[tuple[int, str | None, str | None]], data: st.DataObject
) -> None:
    name = f"pi{next(NAMES)}"
    uploads = [
        upload(reading(name, T0 + at, None if tag is None else {"is": tag}), gateway=gateway)
        for at, tag, gateway in describing
    ]
    flushes: list[list[Upload]] = [[]]
    for each in data.draw(st.permutations(uploads)):
        flushes[-1].append(each)
        if data.draw(st.booleans()):
            flushes.append([])
    await _describe(connection, SeriesRegistry(), *flushes)
    tags = max(((at, tag) for at, tag, _ in describing if tag is not None), default=(0, None))[1]
    gateway = max(((at, gateway) for at, _, gateway in describing if gateway is not None), default=(0, None))[1]
    assert await _description(connection, name) == ({} if tags is None else {"is": tags}, gateway)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tags=st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5), st.text(max_size=3)
    )
)
async def test_tags_are_written_as_postgresql_writes_them(connection: Connection, tags: dict[str, str]) -> None:
    clean = {name: value.replace("\0", "").encode("utf-8", "ignore").decode() for name, value in tags.items()}
    name = f"pi{next(NAMES)}"
    registry = SeriesRegistry()
    await _describe(connection, registry, [upload(reading(name, T0, clean))])
    assert registry.sensors[name].tags.text == await connection.fetchval(
        "SELECT tags::text FROM sensor WHERE name = $1", name
    )


async def test_descriptions_do_not_deadlock_when_processes_describe_the_same_sensors(database: Database) -> None:
    names = [f"pi{number}" for number in range(40)]
    async with database.pool.acquire() as connection:
        await SeriesRegistry().register(connection, [upload(*map(reading, names))])

    async def describe_all(number: int) -> None:
        registry = SeriesRegistry()
        for round_number in range(5):
            at, text = T0 + round_number * SECOND + number, f"{round_number}-{number}"
            readings = [reading(name, at, {"is": text}) for name in names]
            flush = [upload(*(readings if number % 2 else reversed(readings)), gateway=text)]
            async with database.pool.acquire() as connection:
                await _describe(connection, registry, flush)

    await asyncio.gather(*(describe_all(number) for number in range(4)))
    rows = await database.pool.fetch("SELECT DISTINCT tags, gateway FROM sensor")
    assert [tuple(row) for row in rows] == [({"is": "4-3"}, "4-3")]


async def _describe(connection: Connection, registry: SeriesRegistry, *flushes: list[Upload]) -> None:
    for uploads in flushes:
        await registry.register(connection, uploads)
        await registry.describe(connection, uploads)


async def _description(connection: Connection, name: str) -> tuple[Any, str | None]:
    row = await connection.fetchrow("SELECT tags, gateway FROM sensor WHERE name = $1", name)
    assert row is not None
    return row["tags"], row["gateway"]
