"""Sensors, readings and trends over HTTP."""

import asyncio
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from yarl import URL

from app.trends.resolution import RESOLUTIONS
from tests.conftest import Database, Server
from tests.trends.storage import store_series

START = datetime(2026, 3, 2, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
RAW_BUCKETS = """
SELECT date_bin($2, time, '2000-01-03T00:00:00Z') AS at, avg(value), min(value), max(value), count(*),
       (array_agg(value ORDER BY time))[1] AS first, (array_agg(value ORDER BY time DESC))[1] AS last
  FROM reading WHERE series_id = $1 AND time >= $3 AND time < $4 GROUP BY 1 ORDER BY 1
"""
ODD_NAMES = [
    "/begins/and//ends/",
    "a b",
    'it\'s "quoted"',
    "100%",
    "a+b",
    "a?b#c",
    "pi1,cpu=cpu0",
    "Pegelstände",
    "水位",
    "😀",
]


async def test_trend_equals_the_raw_readings_when_requested_at_each_resolution(
    server: Server, database: Database
) -> None:
    random = Random(7)
    rows = {START + random.random() * 40 * DAY: random.gauss(20, 5) for _ in range(4_000)}
    series_id = await store_series(database.pool, "pi1", "temperature", rows.items())
    end = START + 40 * DAY
    for resolution in RESOLUTIONS:
        begin = max(end - 400 * resolution.width, START - 10 * DAY)
        trend = await _trend(server, begin, end, points=-(-(end - begin) // resolution.width))
        assert trend["resolution"] == resolution.name
        first_bucket = _floor(begin, resolution.width)
        raw = await database.pool.fetch(RAW_BUCKETS, series_id, resolution.width, first_bucket, end)
        assert raw
        assert [_as_row(bucket) for bucket in trend["buckets"]] == [
            (row["at"], pytest.approx(row["avg"]), row["min"], row["max"], row["count"], row["first"], row["last"])
            for row in raw
        ], resolution.name


async def test_average_of_equal_values_is_that_value_when_their_sum_is_rounded(
    server: Server, database: Database
) -> None:
    await store_series(database.pool, "pi1", "temperature", [(START + second * SECOND, 0.1) for second in range(3)])
    (bucket,) = (await _trend(server, START, START + MINUTE, points=1))["buckets"]
    assert (bucket["avg"], bucket["min"], bucket["max"]) == (0.1, 0.1, 0.1)


async def test_trend_weights_each_reading_equally_when_minutes_have_different_counts(
    server: Server, database: Database
) -> None:
    rows = [
        (START + at, value) for at, value in ((0 * SECOND, 1.0), (20 * SECOND, 2.0), (59 * SECOND, 3.0), (MINUTE, 10.0))
    ]
    await store_series(database.pool, "pi1", "temperature", rows)
    for points, name in ((1, "2m"), (2, "1m")):
        trend = await _trend(server, START, START + 2 * MINUTE, points=points)
        assert trend["resolution"] == name
        assert [(bucket["avg"], bucket["count"]) for bucket in trend["buckets"]] == {
            "2m": [(4.0, 4)],
            "1m": [(2.0, 3), (10.0, 1)],
        }[name]
    (hour,) = (await _trend(server, START, START + HOUR, points=1))["buckets"]
    assert hour == {
        "time": "2026-03-02T00:00:00Z",
        "avg": 4.0,
        "min": 1.0,
        "max": 10.0,
        "count": 4,
        "first": 1.0,
        "last": 10.0,
    }


async def test_trend_leaves_out_empty_buckets_when_a_sensor_was_silent(server: Server, database: Database) -> None:
    rows = [(START, 1.0), (START + 2 * HOUR, 2.0), (START + 3 * HOUR - timedelta(microseconds=1), 3.0)]
    await store_series(database.pool, "pi1", "temperature", rows)
    trend = await _trend(server, START, START + DAY, points=24)
    assert [(bucket["time"], bucket["avg"]) for bucket in trend["buckets"]] == [
        ("2026-03-02T00:00:00Z", 1.0),
        ("2026-03-02T02:00:00Z", 2.5),
    ]
    assert (await _trend(server, START - DAY, START))["buckets"] == []


async def test_trend_covers_the_last_day_in_buckets_of_five_minutes_when_no_range_is_given(
    server: Server, database: Database
) -> None:
    now = datetime.now(UTC)
    rows = [(now - 25 * HOUR, 1.0), (now - 23 * HOUR, 2.0), (now - MINUTE, 3.0), (now + HOUR, 4.0)]
    await store_series(database.pool, "pi1", "temperature", rows)
    trend: Any = await server.get("/api/v1/trends", sensor="pi1", metric="temperature")
    assert trend["resolution"] == "5m"
    assert [bucket["avg"] for bucket in trend["buckets"]] == [2.0, 3.0]


async def test_trend_is_not_found_with_the_existing_names_when_a_name_is_wrong(
    server: Server, database: Database
) -> None:
    await store_series(database.pool, "pi1", "temperature", [(START, 1.0)])
    await store_series(database.pool, "pi1", "humidity", [(START, 1.0)])
    assert await _refusal(server, "/api/v1/trends?sensor=pi1&metric=flow") == (
        404,
        "Sensor 'pi1' has no metric 'flow'; it has humidity, temperature",
    )
    no_sensor = (404, "There is no sensor 'pi2'; /api/v1/sensors lists them")
    assert await _refusal(server, "/api/v1/trends?sensor=pi2&metric=flow") == no_sensor
    assert await _refusal(server, "/api/v1/readings?sensor=pi1&sensor=pi2") == no_sensor
    assert await _refusal(server, "/api/v1/sensors/pi2") == no_sensor


async def test_ranges_are_the_same_when_times_are_written_in_any_accepted_format(
    server: Server, database: Database
) -> None:
    await store_series(database.pool, "pi1", "temperature", [(START, 1.0), (START + HOUR, 2.0)])
    for start in (
        "2026-03-02T00:00:00Z",
        "2026-03-02T02:00:00%2B02:00",
        "2026-03-02T02:00:00+02:00",
        "2026-03-01T19:00:00-05:00",
        "1772409600000",
    ):
        for path in ("readings?sensor=pi1", "trends?sensor=pi1&metric=temperature"):
            url = URL(f"{server.address}/api/v1/{path}&from={start}&to=2026-03-02T01:00:00Z", encoded=True)
            async with server.http.get(url) as response:
                answer = await response.json()
            assert [item["time"] for item in answer.get("items") or answer["buckets"]] == ["2026-03-02T00:00:00Z"], url


async def test_request_is_refused_with_the_parameter_and_a_remedy_when_one_is_wrong(server: Server) -> None:
    for path, detail in {
        "trends?sensor=pi1&metric=t&from=yesterday": "from is 'yesterday'; send RFC 3339 with a zone",
        "trends?sensor=pi1&metric=t&to=%C2%B2": "to is '²'; send RFC 3339 with a zone",
        "trends?sensor=pi1&metric=t&to=2026-03-02T00:00:00": "to is '2026-03-02T00:00:00': it has no zone; send",
        "trends?sensor=pi1&metric=t&from=2&to=1": "; from must be earlier",
        "trends?sensor=pi1&metric=t&points=0": "points",
        "trends?sensor=pi1&metric=t&points=10001": "points",
        "trends?sensor=pi1&metric=t&from=24h": "from is '24h'; times before now begin with a minus",
        "trends?sensor=pi1&metric=t&tz=Berlin": "tz is 'Berlin'; send a name of the IANA time zone database",
        "trends?sensor=pi1&metric=t&format=xml": "format is 'xml'; send json or csv",
        "readings?format=xml": "format is 'xml'; send json or csv",
        "trends?metric=t": "sensor",
        "trends?sensor=pi%00&metric=t": r"sensor is 'pi\x00'; leave out the NUL character",
        "trends?sensor=pi1&metric=%00": r"metric is '\x00'; leave out the NUL character",
        "readings?limit=0": "limit",
        "readings?limit=many": "limit",
        "readings?cursor=last": "cursor is 'last'; send the `next` of the page before, unchanged",
        "readings?metric=%00": r"metric is '\x00'; leave out the NUL character",
        "readings?sensor=%00": r"sensor is '\x00'; leave out the NUL character",
        "sensors?limit=10001": "limit",
        "sensors?cursor=%00": r"cursor is '\x00'; leave out the NUL character",
        "sensors/%00": r"sensor is '\x00'; leave out the NUL character",
    }.items():
        status, message = await _refusal(server, f"/api/v1/{path}")
        assert (status, detail in message) == (400, True), (path, message)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from(["readings", "trends", "sensors"]),
    query=st.dictionaries(
        st.sampled_from(["sensor", "metric", "from", "to", "limit", "points", "cursor", "tz", "format"]),
        st.text(max_size=12)
        | st.sampled_from(["pi1", "t", "0", "1", "-1", "9" * 30, "1.1", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
        | st.sampled_from(["-24h", "now", "Asia/Kathmandu", "America/New_York", "csv"])
        | st.datetimes().map(lambda moment: f"{moment.isoformat()}Z")
        | st.integers(-(10**15), 10**15).map(str),
    ),
)
async def test_request_is_answered_or_refused_when_its_parameters_are_random(
    server: Server, path: str, query: dict[str, str]
) -> None:
    encoded = "&".join(f"{name}={quote(value, safe='', errors='replace')}" for name, value in query.items())
    async with server.http.get(URL(f"{server.address}/api/v1/{path}?{encoded}", encoded=True)) as response:
        assert response.status in (200, 400, 404), await response.text()
        assert await response.text() if response.content_type == "text/csv" else await response.json()


async def test_sensor_is_found_by_its_path_when_its_name_has_special_characters(server: Server) -> None:
    await server.post_readings([{"sensor": name, "values": {"level": 1.5}} for name in ODD_NAMES])
    for name in ODD_NAMES:
        for safe in ("", "/"):
            url = URL(f"{server.address}/api/v1/sensors/{quote(name, safe=safe)}", encoded=True)
            async with server.http.get(url) as response:
                assert (response.status, (await response.json()).get("name")) == (200, name), url
        items: Any = (await server.get("/api/v1/readings", sensor=name))["items"]
        assert [(item["sensor"], item["values"]) for item in items] == [(name, {"level": 1.5})]
        trend: Any = await server.get("/api/v1/trends", sensor=name, metric="level")
        assert [bucket["last"] for bucket in trend["buckets"]] == [1.5]


async def test_readings_join_metrics_of_one_time_when_listed(server: Server, database: Database) -> None:
    await store_series(database.pool, "pi1", "t", [(START, 1.0), (START + SECOND, 2.0)])
    await store_series(database.pool, "pi1", "h", [(START, 50.0)])
    await store_series(database.pool, "pi2", "t", [(START, 3.0)])
    span: Any = {"from": "2026-03-02T00:00:00Z", "to": "2026-03-02T00:00:01Z"}
    both = {"sensor": "pi1", "time": "2026-03-02T00:00:00Z", "values": {"t": 1.0, "h": 50.0}}
    other = {"sensor": "pi2", "time": "2026-03-02T00:00:00Z", "values": {"t": 3.0}}
    assert await server.get("/api/v1/readings", **span) == {"items": [both, other], "next": None}
    assert await server.get("/api/v1/readings", sensor="pi2", **span) == {"items": [other], "next": None}
    humid = {"sensor": "pi1", "time": "2026-03-02T00:00:00Z", "values": {"h": 50.0}}
    assert await server.get("/api/v1/readings", metric="h", **span) == {"items": [humid], "next": None}


@pytest.mark.parametrize("limit", [1, 7, 1_000])
async def test_pages_omit_and_repeat_no_reading_when_more_are_stored_meanwhile(
    server: Server, database: Database, limit: int
) -> None:
    # Ten sensors share each time, so pages end between readings of one time.
    times = [START + n * SECOND for n in range(5 if limit == 1 else 30)]
    for number in range(10):
        for metric in ("t", "h"):
            await store_series(database.pool, f"pi{number}", metric, [(time, 1.0) for time in times])
    span: Any = {"from": START.isoformat(), "to": (START + HOUR).isoformat(), "limit": limit}
    seen: list[tuple[str, str]] = []
    cursor: dict[str, str] = {}
    pages = 0
    while pages == 0 or cursor:
        page: Any = await server.get("/api/v1/readings", **span, **cursor)
        assert len(page["items"]) <= limit
        seen += [(item["time"], item["sensor"]) for item in page["items"]]
        cursor = {"cursor": page["next"]} if page["next"] else {}
        if pages < 20:
            behind, ahead = (
                START + offset + pages * timedelta(microseconds=10) for offset in (MINUTE / 1_000, HOUR / 2)
            )
            await server.post_readings(
                [
                    {"sensor": f"pi{pages % 10}", "time": time.isoformat(), "values": {"t": 2, "new": 1}}
                    for time in (behind, ahead)
                ]
            )
        pages += 1
    assert len(seen) == len(set(seen))
    assert seen == sorted(seen, key=lambda item: (datetime.fromisoformat(item[0]), item[1]))
    stored = {(time.isoformat().replace("+00:00", "Z"), f"pi{number}") for time in times for number in range(10)}
    assert stored <= set(seen)


async def test_pages_omit_and_repeat_no_sensor_when_more_are_registered_meanwhile(server: Server) -> None:
    names = {f"sensor {number} 水'{number:03}" for number in range(60)}
    await server.post_readings([{"sensor": name, "values": {"t": 1}} for name in sorted(names)])

    async def add_more() -> None:
        for number in range(30):
            await server.post_readings([{"sensor": f"sensor {number} between", "values": {"t": 1}}])

    adding = asyncio.create_task(add_more())
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while not seen or cursor:
        page: Any = await server.get("/api/v1/sensors", limit=4, **cursor)
        seen += [item["name"] for item in page["items"]]
        cursor = {"cursor": page["next"]} if page["next"] else {}
    await adding
    assert len(seen) == len(set(seen))
    assert names <= set(seen)


async def _trend(server: Server, start: datetime, end: datetime, points: int = 500) -> Any:
    span: Any = {"from": start.isoformat(), "to": end.isoformat()}
    return await server.get("/api/v1/trends", sensor="pi1", metric="temperature", points=points, **span)


async def _refusal(server: Server, path: str) -> tuple[int, str]:
    """Send a request that must be refused; return the status and the detail of its problem."""
    async with server.http.get(URL(server.address + path, encoded=True)) as response:
        assert response.content_type == "application/problem+json"
        problem = msgspec.json.decode(await response.read())
        assert problem["status"] == response.status
        return response.status, problem["detail"]


def _as_row(bucket: dict[str, Any]) -> tuple[Any, ...]:
    return datetime.fromisoformat(bucket["time"]), *(
        bucket[name] for name in ("avg", "min", "max", "count", "first", "last")
    )


def _floor(moment: datetime, width: timedelta) -> datetime:
    """Return the start of the bucket that contains a moment; weeks begin on Mondays."""
    return moment - (moment - datetime(2000, 1, 3, tzinfo=UTC)) % width
