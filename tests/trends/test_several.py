"""Trends of several series, in local days, and trends and readings as CSV."""

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urljoin
from zoneinfo import ZoneInfo

import pytest
from yarl import URL

from tests.conftest import Database, Server
from tests.trends.storage import store_series

START = datetime(2026, 3, 2, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
SPAN = "from=2026-03-02T00:00:00Z&to=2026-03-03T00:00:00Z"


async def ask(server: Server, path: str, **headers: str) -> tuple[int, str, Any]:
    """Get a path as it is written; return the status, the media type and the body, decoded if it is JSON."""
    async with server.http.get(URL(f"{server.address}/api/v1/{path}", encoded=True), headers=headers) as response:
        is_json = response.content_type.endswith("json")
        return response.status, response.content_type, await (response.json() if is_json else response.text())


async def store_two_sensors(database: Database) -> None:
    """Store two metrics of the sensor b, of which one has a unit, and one of the sensor a."""
    await store_series(database.pool, "b", "t", [(START, 1.0), (START + HOUR, 2.0)])
    await store_series(database.pool, "b", "h", [(START, 50.0)])
    await store_series(database.pool, "a", "t", [(START, 3.0)])
    await database.pool.execute("UPDATE series SET unit = '°C' WHERE metric = 't'")


def shape(trends: Any) -> list[tuple[str, str, str | None, list[float]]]:
    """Return the names of each series with the averages of its buckets."""
    return [
        (each["sensor"], each["metric"], each["unit"], [bucket["avg"] for bucket in each["buckets"]])
        for each in trends["series"]
    ]


async def test_trends_have_every_combination_that_exists_when_several_are_asked(
    server: Server, database: Database
) -> None:
    await store_two_sensors(database)
    _, _, trends = await ask(server, f"trends?sensor=b&sensor=a&metric=h&metric=t&points=24&{SPAN}")
    assert trends["resolution"] == "1h"
    assert shape(trends) == [("b", "h", None, [50.0]), ("b", "t", "°C", [1.0, 2.0]), ("a", "t", "°C", [3.0])]
    assert trends["series"][2]["buckets"] == [
        {"time": "2026-03-02T00:00:00Z", "avg": 3.0, "min": 3.0, "max": 3.0, "count": 1, "first": 3.0, "last": 3.0}
    ]


async def test_trends_have_all_metrics_when_none_is_named(server: Server, database: Database) -> None:
    await store_two_sensors(database)
    _, _, trends = await ask(server, f"trends?sensor=b&points=1&{SPAN}")
    assert shape(trends) == [("b", "h", None, [50.0]), ("b", "t", "°C", [1.5])]
    _, _, trends = await ask(server, "trends?sensor=b&sensor=b&metric=t&from=-1h")
    assert shape(trends) == [("b", "t", "°C", [])]


async def test_trend_has_its_old_form_when_one_sensor_and_one_metric_are_asked(
    server: Server, database: Database
) -> None:
    await store_two_sensors(database)
    _, _, trend = await ask(server, f"trends?sensor=a&metric=t&points=24&{SPAN}")
    assert trend.keys() == {"resolution", "buckets"}


async def test_trends_are_refused_when_names_are_unknown_or_buckets_would_be_too_many(
    server: Server, database: Database
) -> None:
    await store_two_sensors(database)
    await database.pool.execute("INSERT INTO sensor (name, created_by) VALUES ('empty', 'test')")
    for path, status, detail in (
        ("trends?sensor=a&sensor=c", 404, "There is no sensor 'c'; /api/v1/sensors lists them"),
        ("trends?sensor=a&sensor=b&metric=x", 404, "None of the 2 sensors has a metric 'x'; they have h, t"),
        ("trends?sensor=a&metric=h", 404, "Sensor 'a' has no metric 'h'; it has t"),
        (
            "trends?sensor=a&sensor=b&points=20000",
            400,
            "points: Expected `int` <= 10000",
        ),
    ):
        answer = await ask(server, path)
        assert (answer[0], answer[2]["detail"]) == (status, detail), path
    assert (await ask(server, "trends?sensor=empty"))[2]["series"] == []
    for number in range(4):
        await store_series(database.pool, "a", f"m{number}", [(START, 1.0)])
    for name in ("a&sensor=b", "b&sensor=a"):
        status, _, problem = await ask(server, f"trends?sensor={name}&points=10000&{SPAN}")
        assert status == 400
        assert problem["detail"] == (
            "points is 10000; 7 series of as many buckets are more than 50,000 buckets. "
            "Ask for fewer series, or at most points=7142"
        )


async def test_readings_since_a_day_are_found_when_from_is_relative(server: Server) -> None:
    now = datetime.now(UTC)
    await server.post_readings(
        [{"sensor": "a", "time": (now - ago).isoformat(), "values": {"t": ago / HOUR}} for ago in (HOUR, 25 * HOUR)]
    )
    readings: Any = await server.get("/api/v1/readings", **{"from": "-24h"})
    assert [item["values"] for item in readings["items"]] == [{"t": 1.0}]
    readings = await server.get("/api/v1/readings", **{"from": "-2d", "to": "-90m"})
    assert [item["values"] for item in readings["items"]] == [{"t": 25.0}]
    trend: Any = await server.get("/api/v1/trends", sensor="a", metric="t", **{"from": "-7d", "to": "now"})
    assert [bucket["avg"] for bucket in trend["buckets"]] == [25.0, 1.0]


@pytest.mark.parametrize(
    ("zone", "first", "buckets"),
    [
        # Each reading's value is the number of its hour since the range began; clocks change on the second day.
        ("Europe/Berlin", "2026-03-27T23:00:00Z", [("03-27T23:00", 24), ("03-28T23:00", 23), ("03-29T22:00", 24)]),
        ("Europe/Berlin", "2026-10-23T22:00:00Z", [("10-23T22:00", 24), ("10-24T22:00", 25), ("10-25T23:00", 24)]),
        ("America/New_York", "2026-03-07T05:00:00Z", [("03-07T05:00", 24), ("03-08T05:00", 23), ("03-09T04:00", 24)]),
        ("America/New_York", "2025-11-01T04:00:00Z", [("11-01T04:00", 24), ("11-02T04:00", 25), ("11-03T05:00", 24)]),
    ],
)
async def test_buckets_are_local_days_when_clocks_change(
    server: Server, database: Database, zone: str, first: str, buckets: list[tuple[str, int]]
) -> None:
    start = datetime.fromisoformat(first)
    end = datetime.combine(start.astimezone(ZoneInfo(zone)).date() + 3 * DAY, datetime.min.time(), ZoneInfo(zone))
    hours = (end.astimezone(UTC) - start) // HOUR
    await store_series(database.pool, "a", "t", [(start + number * HOUR, float(number)) for number in range(hours)])
    middle = {"from": (start + 13 * HOUR).isoformat(), "to": (end - 13 * HOUR).isoformat()}
    trend: Any = await server.get("/api/v1/trends", sensor="a", metric="t", points=2, tz=zone, **middle)
    assert trend["resolution"] == "1d"
    assert [(bucket["time"][5:16], bucket["count"]) for bucket in trend["buckets"]] == buckets
    assert [bucket["first"] for bucket in trend["buckets"]] == [0.0, float(buckets[0][1]), float(hours - 24)]


@pytest.mark.parametrize(("zone", "edge"), [("Asia/Kolkata", "18:30"), ("Asia/Kathmandu", "18:15")])
async def test_buckets_are_local_days_when_midnight_is_no_full_hour(
    server: Server, database: Database, zone: str, edge: str
) -> None:
    midnight = (datetime.now(UTC) - 3 * DAY).replace(hour=18, minute=int(edge[3:]), second=0, microsecond=0)
    rows = [(midnight - SECOND, 1.0), (midnight, 2.0), (midnight + DAY - SECOND, 4.0), (midnight + DAY, 8.0)]
    await store_series(database.pool, "a", "t", rows)
    span = {"from": (midnight - HOUR).isoformat(), "to": (midnight + DAY + HOUR).isoformat()}
    trend: Any = await server.get("/api/v1/trends", sensor="a", metric="t", points=2, tz=zone, **span)
    assert trend["resolution"] == "1d"
    assert [(bucket["time"], bucket["avg"]) for bucket in trend["buckets"]] == [
        (f"{midnight - DAY:%Y-%m-%d}T{edge}:00Z", 1.0),
        (f"{midnight:%Y-%m-%d}T{edge}:00Z", 3.0),
        (f"{midnight + DAY:%Y-%m-%d}T{edge}:00Z", 8.0),
    ]


async def test_buckets_are_those_of_utc_when_the_zone_is_utc_or_they_are_hours(
    server: Server, database: Database
) -> None:
    await store_series(database.pool, "a", "t", [(START + number * HOUR, float(number)) for number in range(100)])
    for points, zone in ((4, "UTC"), (1, "UTC"), (8, "Asia/Kolkata")):
        span = {"from": "2026-03-02T05:00:00Z", "to": "2026-03-06T01:00:00Z"}
        plain = await server.get("/api/v1/trends", sensor="a", metric="t", points=points, **span)
        assert await server.get("/api/v1/trends", sensor="a", metric="t", points=points, tz=zone, **span) == plain


async def test_trends_are_csv_when_asked_by_format_or_by_accept(server: Server, database: Database) -> None:
    await store_two_sensors(database)
    lines = [
        "sensor,metric,unit,time,avg,min,max,count,first,last",
        "b,t,°C,2026-03-02T00:00:00Z,1.0,1.0,1.0,1,1.0,1.0",
        "b,t,°C,2026-03-02T01:00:00Z,2.0,2.0,2.0,1,2.0,2.0",
        "a,t,°C,2026-03-02T00:00:00Z,3.0,3.0,3.0,1,3.0,3.0",
    ]
    several, one = f"trends?sensor=b&sensor=a&metric=t&points=24&{SPAN}", f"trends?sensor=a&metric=t&points=24&{SPAN}"
    text = "".join(f"{line}\n" for line in lines)
    assert await ask(server, f"{several}&format=csv") == (200, "text/csv", text)
    assert await ask(server, several, Accept="text/csv") == (200, "text/csv", text)
    assert await ask(server, several, Accept="text/csv;q=0.5, application/json") == await ask(server, several)
    assert (await ask(server, f"{several}&format=json", Accept="text/csv"))[1] == "application/json"
    assert (await ask(server, one, Accept="text/csv"))[2] == f"{lines[0]}\n{lines[3]}\n"
    async with server.http.get(f"/api/v1/{one}&format=csv") as response:
        assert response.headers["Content-Type"] == "text/csv; header=present; charset=utf-8"
        assert response.headers["Content-Disposition"] == (
            'attachment; filename="tidegauge-trends-20260302T000000Z-20260303T000000Z.csv"'
        )


async def test_names_are_read_back_from_csv_when_they_have_any_letters(server: Server) -> None:
    now = datetime.now(UTC).replace(microsecond=123)
    names = ['a,b "c"', "Pegelstände", "水位 😀", "semi;colon", "two  blanks"]
    formulas = ["=1+1", "@SUM(A1)", "+49", "-5"]
    await server.post_readings(
        [{"sensor": name, "time": now.isoformat(), "values": {"t": -1.5}} for name in [*names, *formulas]]
    )
    _, _, text = await ask(server, "readings?from=-1h&format=csv")
    rows = list(csv.reader(io.StringIO(text), strict=True))
    time = now.isoformat().replace("+00:00", "Z")
    expected = [*names, *(f"'{name}" for name in formulas)]
    assert rows[0] == ["sensor", "time", "metric", "value"]
    assert sorted(rows[1:]) == sorted([name, time, "t", "-1.5"] for name in expected)


async def test_csv_of_readings_leads_to_the_next_page_when_there_is_more(server: Server, database: Database) -> None:
    await store_series(database.pool, "a", "t", [(START + number * SECOND, number / 10) for number in range(5)])
    path, seen = f"/api/v1/readings?sensor=a&metric=t&format=csv&limit=2&{SPAN}", []
    while path:
        async with server.http.get(URL(server.address + path, encoded=True)) as response:
            header, *rows = (await response.text()).splitlines()
            assert header == "sensor,time,metric,value"
            seen += rows
            link = response.headers.get("Link", "")
            path = urljoin(path, link.partition("<")[2].partition(">")[0]) if link else ""
            assert not link or link.endswith('; rel="next"')
    assert seen == [f"a,2026-03-02T00:00:0{number}Z,t,{number / 10}" for number in range(5)]
