"""The plans of frequent queries: they use indexes and read only the chunks of their range."""

import re
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from app.auth import sql as auth_sql
from app.db.aggregates import LEVELS
from app.db.edition import detect_edition
from app.db.pool import Connection
from app.ingest import sql as ingest_sql
from app.sensors import sql as sensors_sql
from app.trends import sql as trends_sql
from tests.conftest import Database

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
FROM, NO_CURSOR = START + 10 * DAY, -1
FROM_US, MANY = int(FROM.timestamp()) * 1_000_000, list(range(1, 21))
#: Three days that begin at 23:00 UTC.
LOCAL_EDGES = [FROM + number * DAY - timedelta(hours=1) for number in range(4)]
#: 2,000 sensors, and for 20 series a reading every 20 minutes over 20 days.
FILL = """
INSERT INTO sensor (name, created_by) SELECT 'pi' || n, 'test' FROM generate_series(1, 2000) AS n;
INSERT INTO series (sensor_id, metric) SELECT id, metric FROM sensor, unnest(ARRAY['t', 'h']) AS metric;
INSERT INTO reading SELECT s, TIMESTAMPTZ '2026-01-01Z' + n * INTERVAL '20 minutes', n
  FROM generate_series(1, 20) AS s, generate_series(0, 72 * 20 - 1) AS n;
INSERT INTO series_state SELECT id, now(), 1, now() FROM series;
INSERT INTO idempotency (api_key, key, body_sha256, answer)
SELECT 'API_KEY', n, '', '{}' FROM generate_series(1, 2000) AS n;
INSERT INTO api_key (sha256, label, scopes) SELECT sha256(n::text::bytea), n, '{}' FROM generate_series(1, 2000) AS n;
ANALYZE
"""
#: Query, arguments, and the largest number of chunks that it may read.
ON_READINGS: dict[str, tuple[str, tuple[object, ...], int]] = {
    "one sensor's readings": ("list_readings", ([3], None, FROM, FROM + 2 * DAY, FROM, NO_CURSOR, 1_001), 2),
    "a later page": ("list_readings", ([3], None, START, START + 20 * DAY, FROM, 3, 101), 10),
    "readings of all sensors": ("list_readings", (None, None, FROM, FROM + DAY / 12, FROM, NO_CURSOR, 101), 1),
    "first times of many series": ("list_first_times", (MANY, MANY, [FROM_US] * 20, FROM + DAY / 12, 3, 101), 1),
    "minutes": ("list_buckets_1m", ([5], timedelta(minutes=5), FROM, FROM + DAY), 1),
    "hours": ("list_buckets_1h", ([5], timedelta(hours=1), FROM, FROM + 3 * DAY), 3),
    "hours of several series": ("list_buckets_1h", ([5, 6, 7], timedelta(hours=1), FROM, FROM + 3 * DAY), 3),
    "local days from hours": ("list_local_buckets_1h", ([5, 6], LOCAL_EDGES, LOCAL_EDGES[0], LOCAL_EDGES[-1]), 4),
    "local days from minutes": ("list_local_buckets_1m", ([5, 6], LOCAL_EDGES, LOCAL_EDGES[0], LOCAL_EDGES[-1]), 4),
    "days": ("list_buckets_1d", ([5], DAY, FROM, FROM + 5 * DAY), 5),
}
LOOK_UPS = {
    "sensor": ("SELECT id FROM sensor WHERE name = $1", ("pi77",)),
    "series of sensors": (trends_sql.SQL["list_series"], (["pi77", "pi78"],)),
    "one sensor with its values": (sensors_sql.SQL["list_sensors"], ("", 1, "pi77", False)),
    "series of a batch": (ingest_sql.SQL["find_series"], (["pi1", "pi2"],)),
    "descriptions of a batch": (ingest_sql.SQL["list_descriptions"], ([1, 2],)),
    "answer": (ingest_sql.SQL["find_idempotency"], ("API_KEY", "77")),
    "key": (auth_sql.SQL["find_live_key"], (b"77",)),
}
_CHUNK = re.compile(r"_hyper_\d+_\d+_chunk")


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[Connection]:
    """A connection to a database with so many rows that indexes are faster."""
    async with database.pool.acquire() as connection:
        await connection.execute(FILL)
        if await detect_edition(connection) == "community":
            for level in LEVELS:
                await connection.execute(f"CALL refresh_continuous_aggregate('{level.relation}', NULL, '2026-02-01Z')")
        yield connection


async def test_queries_read_only_chunks_of_their_range_and_by_index_when_there_are_many(
    connection: Connection,
) -> None:
    for subject, (name, arguments, most) in ON_READINGS.items():
        for mode in ("force_custom_plan", "force_generic_plan"):
            scans = await _scans(connection, mode, trends_sql.SQL[name], arguments)
            chunks = {relation: node for node, relation in scans if _CHUNK.fullmatch(relation)}
            assert 1 <= len(chunks) <= most, (subject, mode, scans)
            assert set(chunks.values()) <= {"Index Scan", "Index Only Scan", "Bitmap Heap Scan"}, (subject, mode, scans)


async def test_look_ups_use_an_index_when_tables_are_large(connection: Connection) -> None:
    for subject, (sql, arguments) in LOOK_UPS.items():
        scans = await _scans(connection, "auto", sql, arguments)
        assert scans, subject
        # These hold at most one row here.
        large = [node for node, relation in scans if relation not in ("ingest_state", "alert_episode", "sensor_alias")]
        assert "Seq Scan" not in large, (subject, scans)


async def _scans(
    connection: Connection, plan_cache_mode: str, sql: str, arguments: tuple[object, ...]
) -> list[tuple[str, str]]:
    """Run a query as a prepared statement; return the kind and the relation of each scan that was executed."""
    await connection.execute(f"SET plan_cache_mode = {plan_cache_mode}; PREPARE explained AS {sql}")
    literals = ", ".join(map(_literal, arguments))
    plan = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON, TIMING OFF) EXECUTE explained({literals})")
    await connection.execute("DEALLOCATE explained")
    return [
        (node["Node Type"], node["Relation Name"])
        for node in _nodes(msgspec.json.decode(plan)[0]["Plan"])
        if "Relation Name" in node and node["Actual Loops"]
    ]


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from _nodes(inner)


def _literal(value: object) -> str:
    match value:
        case None:
            return "NULL"
        case list():
            return "'{{{}}}'".format(", ".join(f'"{item}"' for item in value))
        case bytes():
            return f"'\\x{value.hex()}'"
        case _:
            return f"'{value}'"
