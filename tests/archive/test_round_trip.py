"""The journey of a database through an archive: the same rows, the same trends, and the same behaviour afterwards.

The databases are on the server of the tests. With DATABASE_URL, the archive also goes from the embedded server, whose
edition is Apache-2, to that server and back.
"""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from app.archive.load import import_archive
from app.archive.tables import LEFT_OUT, TABLES
from app.db.aggregates import RAW_RETENTION, refresh_late_days
from app.db.edition import detect_edition
from app.db.embedded.cluster import cluster_folder
from app.db.embedded.server import EmbeddedServer
from app.db.lease import Lease
from app.db.migrations import load_migrations, migrate
from app.settings import Settings
from app.tasks import supervised
from app.worker import Worker
from tests.archive.databases import connected, move, read_rows, refresh_all, write_archive
from tests.conftest import API_KEY, API_KEY_WS, Database, Server, copied, running_api, running_server
from tests.db.aggregate_checks import DAY, MINUTE, WIDTHS, check_aggregates, make_rows, store

EPISODES = """
SELECT rule, sensor.name, metric, kind, level, started_at, fired_at, resolved_at, steps, threshold, reason
  FROM alert_episode JOIN series ON series.id = series_id JOIN sensor ON sensor.id = sensor_id ORDER BY 1, 2, 3, 7
"""
AGGREGATED = "SELECT bucket, series_id, n, sum, min, max, first, last FROM {relation} ORDER BY series_id, bucket"
TABLE_NAMES = """
SELECT relname FROM pg_class
 WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
   AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_class.oid AND deptype = 'e')
"""


@pytest.fixture
async def target(server_dsn: str, template: str) -> AsyncIterator[str]:
    """The address of a second database, migrated and empty."""
    async with copied(server_dsn, template) as dsn:
        yield dsn


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an embedded server, whatever DATABASE_URL is."""
    folder = tmp_path_factory.mktemp("other-edition")
    try:
        options = {"fsync": "off", "timescaledb.max_background_workers": "0"}
        with EmbeddedServer.start(folder, say=lambda line: None, options=options) as server:
            yield server.dsn
    finally:
        shutil.rmtree(cluster_folder(folder), ignore_errors=True)


def settings(dsn: str) -> Settings:
    return Settings(database_url=dsn, api_key=API_KEY, api_key_ws=API_KEY_WS)


def minutes_ago(minutes: float) -> int:
    """Return a time in milliseconds since 1970."""
    return int((datetime.now(UTC) - minutes * MINUTE).timestamp() * 1_000)


def oven(*minutes: float, value: float = 45) -> list[dict[str, Any]]:
    """Make readings that are too warm for the example rules."""
    return [{"sensor": "oven", "time": minutes_ago(each), "values": {"temperature": value}} for each in minutes]


async def use(dsn: str) -> dict[str, Any]:
    """Use a database as people do: alerts, acknowledgement, silence, rename. Return an upload with its answer."""
    async with running_server(settings(dsn)) as server:
        await server.tick()
        week = [
            {
                "sensor": 'cellar, "old" 水位',
                "time": minutes_ago(each * 60),
                "values": {"temperature": 20 + each / 300, "humidity": 40},
            }
            for each in range(24 * 7)
        ]
        assert (await server.post_readings(week)).status == 200
        assert (await server.post_readings(oven(30, 28))).status == 200
        await server.tick()
        alerts: Any = await server.get("/api/v1/alerts")
        (alert,) = alerts["items"]
        http = server.http
        tomorrow = (datetime.now(UTC) + DAY).isoformat()
        silence = {"matchers": {"sensor": "roof"}, "to": tomorrow, "author": "ana", "comment": "\\N"}
        for request in (
            http.post(f"/api/v1/alerts/{alert['id']}/ack", json={"by": "ana"}),
            http.post("/api/v1/silences", json=silence),
            http.put("/api/v1/sensors/oven", json={"name": "bakery oven", "tags": {"site": "quay"}}),
            http.post("/api/temperature_reading", json=LEGACY),
        ):
            async with request as response:
                assert response.status in (200, 201), await response.text()
        body = {"readings": [{"sensor": "roof", "values": {"temperature": 3.25}}]}
        async with http.post("/api/v1/readings", json=body, headers={"Idempotency-Key": "roof-1"}) as response:
            answer: dict[str, Any] = {"body": body, "answer": await response.json()}
        assert answer["answer"]["accepted"] == 1
    return answer


LEGACY = {"temperature": 25.5, "humidity": 60.2, "pressure": 1012.5, "sensor_id": "sensor_001"}


async def upload_without_worker(dsn: str, readings: list[dict[str, Any]]) -> None:
    """Upload readings that nobody evaluates."""
    given = settings(dsn)
    async with running_api(given, Worker(given)) as server:
        assert (await server.post_readings(readings)).status == 200


async def read_episodes(dsn: str) -> list[tuple[Any, ...]]:
    async with connected(dsn) as connection:
        return [tuple(row) for row in await connection.fetch(EPISODES)]


async def list_too_warm(dsn: str) -> list[bool]:
    """Return whether each alert of too warm an oven is open, the oldest first."""
    return [episode[7] is None for episode in await read_episodes(dsn) if episode[0] == "temperature-high"]


async def evaluate(dsn: str) -> list[tuple[Any, ...]]:
    """Evaluate all new readings and return all episodes."""
    async with running_server(settings(dsn)) as server:
        await server.tick()
    return await read_episodes(dsn)


async def test_every_table_is_either_in_the_archive_or_left_out_for_a_reason(database: Database) -> None:
    found = {row["relname"] for row in await database.pool.fetch(TABLE_NAMES)}
    in_archive = {table.name for table in TABLES}
    assert not in_archive & LEFT_OUT.keys()
    assert found - in_archive - LEFT_OUT.keys() == set()
    assert in_archive <= found
    assert all(LEFT_OUT.values())


async def test_rows_trends_and_episodes_are_the_same_when_a_used_database_is_moved(
    database: Database, target: str, tmp_path: Path
) -> None:
    answered = await use(database.dsn)
    # The alert ends and another begins, and nobody has evaluated it yet.
    await upload_without_worker(database.dsn, [*oven(20, 14, value=20), *oven(5, 2)])
    imported = await move(database.dsn, target, tmp_path / "all.tar.zst")
    assert (imported.sensors, imported.alerts, imported.left_messages) == (4, 1, 0)
    rows = await read_rows(database.dsn)
    assert await read_rows(target) == rows
    empty = {name for name, stored in rows.items() if not stored}
    assert empty <= {"alert_told", "notification", "notification_item", "notification_attempt", "channel_state",
                     "channel_move", "broker_notification", "api_key", "sensor_change", "gateway_refusal"}  # fmt: skip
    await _check_same_trends(database.dsn, target)
    assert await evaluate(target) == await evaluate(database.dsn)
    assert await list_too_warm(target) == [False, True]
    await _check_goes_on(target, answered)


async def _check_same_trends(source: str, target: str) -> None:
    for dsn in (source, target):
        async with connected(dsn) as connection:
            await check_aggregates(connection)


async def _check_goes_on(dsn: str, answered: dict[str, Any]) -> None:
    """Check that duplicates, old names and keys are recognised, that ids go on, and that the next alert fires."""
    async with running_server(settings(dsn)) as server:
        async with server.http.post(
            "/api/v1/readings", json=answered["body"], headers={"Idempotency-Key": "roof-1"}
        ) as response:
            assert await response.json() == answered["answer"]
        again = [{"sensor": "oven", "time": None, "values": {"temperature": 45}}]
        async with connected(dsn) as connection:
            stored = await connection.fetchval(
                "SELECT time FROM reading JOIN series ON series.id = series_id JOIN sensor ON sensor.id = sensor_id"
                " WHERE sensor.name = 'bakery oven' AND time > '-infinity' ORDER BY time DESC LIMIT 1"
            )
        again[0]["time"] = stored.isoformat()
        response = await server.post_readings(again)
        assert {name: (await response.json())[name] for name in ("accepted", "duplicates")} == {
            "accepted": 0,
            "duplicates": 1,
        }
        fresh = [{"sensor": "new", "time": minutes_ago(each), "values": {"temperature": 45}} for each in (3, 1)]
        assert (await server.post_readings(fresh)).status == 200
        await server.tick()
        alerts: Any = await server.get("/api/v1/alerts")
        assert {alert["sensor"] for alert in alerts["items"]} == {"bakery oven", "new"}


async def test_database_goes_to_the_other_edition_and_back_when_there_is_a_server_of_it(
    embedded: str, server_dsn: str, template: str, database: Database, tmp_path: Path
) -> None:
    if "DATABASE_URL" not in os.environ:
        pytest.skip("DATABASE_URL names no other server")
    await migrate(embedded)
    answered = await use(embedded)
    await upload_without_worker(embedded, oven(5, 2))
    await move(embedded, database.dsn, tmp_path / "there.tar.zst")
    rows = await read_rows(embedded)
    assert await read_rows(database.dsn) == rows
    async with connected(database.dsn) as connection:
        if await detect_edition(connection) == "community":
            await connection.execute("SELECT compress_chunk(chunk) FROM show_chunks('reading') AS chunk")
        await check_aggregates(connection)
    admin = await asyncpg.connect(embedded)
    try:
        await admin.execute("CREATE DATABASE back")
    finally:
        await admin.close()
    back = f"{embedded.rpartition('/')[0]}/back"
    await move(database.dsn, back, tmp_path / "back.tar.zst")
    assert await read_rows(back) == rows
    await _check_same_trends(embedded, back)
    assert await evaluate(back) == await evaluate(embedded) == await evaluate(database.dsn)
    await _check_goes_on(database.dsn, answered)


async def test_aggregates_are_kept_when_their_readings_are_gone(
    database: Database, target: str, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    async with database.pool.acquire() as connection:
        await store(connection, [(id_, at - timedelta(days=380), value) for id_, at, value in make_rows(now, days=40)])
        await store(connection, make_rows(now, seed=2, days=20))
    await refresh_all(database.dsn)
    async with database.pool.acquire() as connection:
        before = {relation: await connection.fetch(AGGREGATED.format(relation=relation)) for relation in WIDTHS}
        stored = await connection.fetchval("SELECT count(*) FROM reading WHERE time > '-infinity'")
        await connection.execute("SELECT drop_chunks('reading', older_than => now() - $1::interval)", RAW_RETENTION)
    manifest = await write_archive(database.dsn, tmp_path / "all.tar")
    assert manifest.aggregates_before is not None
    # Chunks are dropped as a whole, so how many readings go depends on the day.
    assert manifest.count("reading") < stored
    await import_archive(tmp_path / "all.tar", target)
    async with connected(target) as connection:
        for relation, rows in before.items():
            moved = await connection.fetch(AGGREGATED.format(relation=relation))
            assert [tuple(row)[:3] for row in moved] == [tuple(row)[:3] for row in rows], relation
            assert [row["sum"] for row in moved] == pytest.approx([row["sum"] for row in rows], rel=1e-12)
            assert [tuple(row)[4:] for row in moved] == [tuple(row)[4:] for row in rows]
        assert (
            await connection.fetchval("SELECT min(time) FROM reading WHERE time > '-infinity'")
            > now - RAW_RETENTION - DAY
        )


async def test_archive_is_of_one_moment_when_readings_come_in_meanwhile(
    database: Database, target: str, tmp_path: Path
) -> None:
    given = settings(database.dsn)
    async with running_api(given, Worker(given)) as server:
        sending = asyncio.create_task(_keep_sending(server))
        while await database.pool.fetchval("SELECT count(*) FROM reading WHERE time > '-infinity'") < 200:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await write_archive(database.dsn, tmp_path / "all.tar")
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    await import_archive(tmp_path / "all.tar", target)
    async with connected(target) as connection:
        (row,) = await connection.fetch("SELECT count(*), max(value) FROM reading WHERE time > '-infinity'")
        stored, newest = row
        assert stored >= 200
        assert await connection.fetchval("SELECT last_value FROM series_state") == newest
        summaries = "SELECT count(*) FROM dirty"
        assert await connection.fetchval(summaries) == stored


async def _keep_sending(server: Server) -> None:
    for number in range(1_000_000):
        at = int(datetime.now(UTC).timestamp() * 1_000)
        await server.post_readings([{"sensor": "a", "time": at + number, "values": {"t": number}}])


async def test_running_processes_use_what_was_imported_when_their_database_was_empty(
    database: Database, target: str, tmp_path: Path
) -> None:
    await use(database.dsn)
    await write_archive(database.dsn, tmp_path / "all.tar")
    async with running_server(settings(target)) as server:
        await server.tick()
        await import_archive(tmp_path / "all.tar", target)
        assert {each["name"] for each in (await server.get("/api/v1/sensors"))["items"]} == {  # type: ignore[attr-defined]
            'cellar, "old" 水位',
            "bakery oven",
            "roof",
            "sensor_001",
        }
        response = await server.post_readings([*oven(20, 14, value=20), *oven(4, 2)])
        assert (await response.json())["accepted"] == 4
        async with asyncio.timeout(20):
            while await list_too_warm(target) != [False, True]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    async with connected(target) as connection:
        assert await connection.fetchval("SELECT count(*) FROM sensor") == 4
        await refresh_late_days(connection, datetime.now(UTC))
        await check_aggregates(connection)


async def test_archive_of_an_older_schema_is_imported_with_the_defaults_of_new_columns(
    empty_dsn: str, target: str, tmp_path: Path
) -> None:
    older = load_migrations()[:14]
    await migrate(empty_dsn, migrations=older)
    async with connected(empty_dsn) as connection:
        await connection.execute("INSERT INTO sensor (name, created_by) VALUES ('a', 'key')")
        await connection.execute("INSERT INTO series (sensor_id, metric) VALUES (1, 't')")
        await connection.execute("INSERT INTO reading VALUES (1, now(), 1.5)")
        await connection.execute(
            "INSERT INTO dirty (series_ids, from_times, to_times, late)"
            " VALUES ('{1}', ARRAY[now()], ARRAY[now()], FALSE)"
        )
    manifest = await write_archive(empty_dsn, tmp_path / "old.tar.gz")
    assert manifest.schema_version == 14
    assert [entry.columns for entry in manifest.tables if entry.name == "dirty"] == [
        ["id", "series_ids", "from_times", "to_times", "late"]
    ]
    await import_archive(tmp_path / "old.tar.gz", target)
    async with connected(target) as connection:
        assert await connection.fetchval("SELECT summaries IS NULL FROM dirty WHERE series_ids = '{1}'") is True
        assert await connection.fetchval("SELECT sum(n) FROM reading_1d") == 1


async def test_database_without_schema_is_migrated_when_an_archive_is_imported(
    database: Database, empty_dsn: str, tmp_path: Path
) -> None:
    await database.pool.execute("INSERT INTO sensor (name, created_by) VALUES ('a', 'key')")
    version = await database.pool.fetchval("SELECT version FROM sensor_version")
    await move(database.dsn, empty_dsn, tmp_path / "all.tar")
    async with connected(empty_dsn) as connection:
        assert await connection.fetchval("SELECT name FROM sensor") == "a"
        assert await connection.fetchval("SELECT version FROM sensor_version") > version


@pytest.mark.parametrize("has_worker", [False, True])
async def test_pending_messages_are_sent_by_one_installation_when_a_database_is_copied(
    database: Database, target: str, tmp_path: Path, has_worker: bool
) -> None:
    await database.pool.execute(PENDING)
    if has_worker:
        lease = Lease(database.dsn)
        async with supervised({"lease": lease.keep}):
            await lease.tried.wait()
            imported = await move(database.dsn, target, tmp_path / "all.tar")
    else:
        imported = await move(database.dsn, target, tmp_path / "all.tar")
    assert imported.left_messages == (2 if has_worker else 0)
    async with connected(target) as connection:
        states = [tuple(row) for row in await connection.fetch("SELECT id, state, error FROM notification ORDER BY id")]
        unsettled = [
            row["id"] for row in await connection.fetch("SELECT id FROM alert_episode WHERE NOT settled ORDER BY 1")
        ]
    if has_worker:
        left = "Was being sent when it was exported; a worker of the exported database sends it"
        assert states == [(1, "sent", None), (3, "dead", left)]
        assert unsettled == [2]
    else:
        assert states == [(1, "sent", None), (2, "waiting", None), (3, "sending", None)]
        assert unsettled == [1, 2, 3]


#: Nobody was told about episode 1; the channel was told the present state of 2; 3 has ended and was told as firing.
PENDING = """
INSERT INTO sensor (name, created_by) VALUES ('a', 'key');
INSERT INTO series (sensor_id, metric) VALUES (1, 't');
INSERT INTO alert_episode (rule, series_id, era, started_at, fired_at, resolved_at, steps, level)
VALUES ('gone-1', 1, 1, now(), now(), NULL, '[]', 'warning'), ('gone-2', 1, 1, now(), now(), NULL, '[]', 'warning'),
       ('gone-3', 1, 1, now(), now(), now(), '[]', 'warning');
INSERT INTO alert_told (channel, episode_id, told, told_level) VALUES ('ops', 2, 'firing', 'warning'),
       ('ops', 3, 'firing', 'warning');
INSERT INTO notification (channel, group_key, state, due_at, next_attempt_at, claimed_at)
VALUES ('ops', 'a', 'sent', now(), NULL, now()), ('ops', 'b', 'waiting', now() + INTERVAL '1 hour', NULL, NULL),
       ('ops', 'c', 'sending', now(), now() + INTERVAL '1 hour', now());
"""
