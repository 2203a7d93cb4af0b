"""The reader, like everyone who can connect, cannot stop the work of others; forbidden statements are refused."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

import asyncpg
import pytest
from structlog.testing import capture_logs

from app.db import rights
from app.db.embedded.cluster import cluster_folder
from app.db.embedded.server import EmbeddedServer
from app.db.lease import Lease
from app.db.migrations import migrate
from app.db.pool import DATABASE_ERRORS, Connection
from app.db.rights import end_reader_transactions, ensure_rights, list_open_rights
from app.db.rights.locks import lock_evaluation
from tests.conftest import Database, Server, project_folder, wait_until

#: Statements that a reader who has made its session read-write is refused.
REFUSED = [
    # locks
    *(
        f"LOCK TABLE {table} IN {mode} MODE"
        for table in ("feed_lock", "evaluation_lock", "connection_lock", "migration_lock", "lease", "schema_migration")
        for mode in ("ACCESS SHARE", "EXCLUSIVE")
    ),
    *(f"LOCK TABLE {table} IN ROW SHARE MODE" for table in ("reading", "sensor", "series", "series_state")),
    "LOCK TABLE sensor_view IN ROW SHARE MODE",
    "SELECT FROM sensor FOR KEY SHARE",
    "SELECT FROM lease",
    # rows and definitions
    "INSERT INTO reading VALUES (1, now(), 1)",
    "UPDATE sensor SET name = 'x'",
    "DELETE FROM series",
    "TRUNCATE reading",
    "DROP TABLE reading",
    "ALTER TABLE sensor ADD COLUMN x int",
    "CREATE INDEX ON reading (value)",
    "SELECT drop_chunks('reading', older_than => now())",
    "SELECT setval('feed_seq', 1)",
    "SELECT nextval('feed_seq')",
    "SELECT take_connection_1('key', gen_random_uuid(), 1, 1)",
    "SELECT take_turn_1('destination', '{1}', '{1}', 1)",
    # what fills the disk
    "CREATE TEMPORARY TABLE x (i int)",
    "CREATE TABLE x (i int)",
    "SELECT lo_create(0)",
    "SELECT lo_from_bytea(0, 'x')",
    "SELECT pg_logical_emit_message(FALSE, 'x', 'x')",
    "SET temp_file_limit = -1",
    "ALTER ROLE tidegauge_reader SET temp_file_limit = -1",
    # other roles, other sessions, the server
    "SET ROLE tidegauge_app",
    "SET ROLE tidegauge",
    "SET SESSION AUTHORIZATION tidegauge",
    "ALTER ROLE tidegauge_app LOGIN PASSWORD 'x'",
    "ALTER ROLE tidegauge_reader CONNECTION LIMIT -1",
    "ALTER ROLE tidegauge_reader CREATEROLE",
    "GRANT tidegauge_app TO tidegauge_reader",
    "SELECT pg_cancel_backend({owner})",
    "SELECT pg_terminate_backend({owner})",
    "ALTER DATABASE {database} SET statement_timeout = 1",
    "ALTER SYSTEM SET work_mem = '1GB'",
    "SELECT pg_reload_conf()",
    "CREATE EXTENSION dblink",
    "COPY (SELECT 1) TO PROGRAM 'cat'",
    "COPY (SELECT 1) TO '/x'",
    "SELECT pg_read_file('postgresql.conf')",
    "SELECT sha256 FROM api_key",
    "SELECT text FROM notification",
    "SELECT _timescaledb_functions.stop_background_workers()",
    "SELECT add_job('pg_sleep', INTERVAL '1 second')",
]
#: What the API, which works with rows, is refused.
REFUSED_TO_APP = [
    "TRUNCATE reading",
    "DROP TABLE reading",
    "ALTER TABLE sensor ADD COLUMN x int",
    "CREATE TABLE x (i int)",
    "CREATE TEMPORARY TABLE x (i int)",
    "CREATE INDEX ON reading (value)",
    "CREATE ROLE x",
    "ALTER ROLE tidegauge_app SUPERUSER",
    "SELECT drop_chunks('reading', older_than => now())",
    "DELETE FROM schema_migration",
    "UPDATE lease SET term = 9",
    "INSERT INTO migration_lock (session_pid) VALUES (1)",
    "LOCK TABLE evaluation_lock IN SHARE MODE",
    "CREATE OR REPLACE FUNCTION feed_publish() RETURNS trigger LANGUAGE sql AS ''",
    "COPY reading TO '/x'",
    "SELECT pg_terminate_backend({owner})",
]


@pytest.fixture(autouse=True)
async def _rights(database: Database) -> None:
    """A copy of a database lacks the rights on the database itself."""
    async with database.pool.acquire() as connection:
        await ensure_rights(connection)


@pytest.fixture
async def reader(database: Database) -> AsyncIterator[Connection]:
    """A session of the reader that has made itself read-write."""
    connection = await asyncpg.connect(database.reader_dsn)
    await connection.execute("SET default_transaction_read_only = off")
    yield connection
    await connection.close()


async def test_reader_is_refused_whatever_is_more_than_to_read(database: Database, reader: Connection) -> None:
    assert await _list_allowed(database, reader, REFUSED) == []


async def test_api_is_refused_whatever_is_more_than_rows(database: Database) -> None:
    async with database.pool.acquire() as connection:
        await connection.execute("SET ROLE tidegauge_app")
        try:
            assert await _list_allowed(database, connection, REFUSED_TO_APP) == []
        finally:
            await connection.execute("RESET ROLE")


async def test_no_advisory_lock_is_left_in_code_and_functions(database: Database) -> None:
    app = project_folder() / "app"
    files = [path for suffix in ("py", "sql") for path in app.rglob(f"*.{suffix}")]
    assert [path for path in files if "pg_advisory" in path.read_text() or "pg_try_advisory" in path.read_text()] == []
    functions = "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosrc ~ 'advisory'"
    assert await database.pool.fetch(functions) == []


async def test_every_function_that_writes_is_kept_from_the_reader(database: Database) -> None:
    functions = """
        SELECT proname FROM pg_proc
         WHERE pronamespace = 'public'::regnamespace AND provolatile = 'v'
           AND has_function_privilege('tidegauge_reader', oid, 'EXECUTE')
           AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_proc.oid AND deptype = 'e')
    """
    assert await database.pool.fetch(functions) == []


async def test_uploads_and_evaluation_go_on_when_the_reader_holds_all_it_can(
    server: Server, database: Database, reader: Connection
) -> None:
    assert (await server.post_readings([{"sensor": "s", "values": {"m": 1}}])).status == 200
    async with reader.transaction():
        keys = [(7420, 1), (7420, 2), (7421, 1), (7422, 1)]
        await reader.execute(";".join(f"SELECT pg_advisory_lock({one}, {two})" for one, two in keys))
        await reader.execute(";".join(f"SELECT pg_advisory_lock_shared({one}, {two})" for one, two in keys))
        await reader.execute("LOCK TABLE reading, sensor, series, series_state, sensor_view IN ACCESS SHARE MODE")
        await reader.execute("SELECT pg_current_xact_id(), count(*) FROM reading WHERE time > now() - INTERVAL '1 day'")
        async with asyncio.timeout(5):
            for number in range(3):
                body = [{"sensor": f"s{number}", "values": {"m": number}}]
                assert (await server.post_readings(body)).status == 200
            await server.tick()
            async with database.pool.acquire() as connection, connection.transaction():
                await lock_evaluation(connection)


async def test_lease_is_taken_and_kept_when_another_user_holds_every_advisory_lock(
    database: Database, reader: Connection
) -> None:
    await reader.execute("SELECT pg_advisory_lock(7421, n) FROM generate_series(1, 100) AS n")
    lease = Lease(database.dsn)
    keeping = asyncio.create_task(lease.keep())
    try:
        await wait_until(lambda: lease.held, 5)
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


async def test_readers_transaction_is_ended_when_it_lasts_too_long(
    database: Database, reader: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _hold(reader)
    await end_reader_transactions(database.pool)
    assert await reader.fetchval("SELECT 1") == 1
    monkeypatch.setattr(rights, "READER_TRANSACTION_S", 0)
    with capture_logs() as logs:
        await end_reader_transactions(database.pool)
    assert logs == [{"event": "reader_transactions_ended", "log_level": "warning", "pids": [reader.get_server_pid()]}]
    with pytest.raises(DATABASE_ERRORS):
        await reader.fetchval("SELECT 1")


async def test_readers_transaction_is_ended_when_it_keeps_others_waiting(
    database: Database, reader: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rights, "READER_BLOCKS_S", 0)
    await _hold(reader)
    await end_reader_transactions(database.pool)
    assert await reader.fetchval("SELECT 1") == 1, "nobody waits for it"
    async with _connected(database.reader_dsn) as other:
        await other.execute("BEGIN; SELECT count(*) FROM sensor")
        locking = asyncio.create_task(database.pool.execute("ALTER TABLE series ADD COLUMN x int"))
        async with asyncio.timeout(5):
            while not await database.pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                pass
            await end_reader_transactions(database.pool)
            await locking
        assert await other.fetchval("SELECT 1") == 1, "nobody waits for this one"
    with pytest.raises(DATABASE_ERRORS):
        await reader.fetchval("SELECT 1")


async def _hold(reader: Connection) -> None:
    """Hold a lock, after lifting the reader's own limits, which it may."""
    await reader.execute("SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0")
    await reader.execute("BEGIN; LOCK TABLE reading, series IN ACCESS SHARE MODE")


async def test_nothing_is_open_when_a_superuser_has_migrated(database: Database) -> None:
    assert await list_open_rights(database.pool) == []


async def test_rights_come_back_when_they_are_lost_and_migrated_again(database: Database) -> None:
    await database.pool.execute(
        """
        REVOKE SELECT ON reading, reading_1h FROM tidegauge_app;
        REVOKE USAGE ON SEQUENCE feed_seq FROM tidegauge_app;
        GRANT EXECUTE ON FUNCTION feed_publish() TO PUBLIC;
        GRANT CREATE ON SCHEMA public TO PUBLIC;
        DO $$ BEGIN EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO PUBLIC', current_database()); END $$;
        """
    )
    assert [text.partition(":")[0] for text in await list_open_rights(database.pool)] == [
        "everyone may fill the disk with temporary tables",
        "everyone may create tables",
    ]
    assert await migrate(database.dsn) == []
    assert await list_open_rights(database.pool) == []
    given = """
        SELECT has_table_privilege('tidegauge_app', 'reading', 'SELECT'),
               has_table_privilege('tidegauge_app', 'reading_1h', 'SELECT'),
               has_sequence_privilege('tidegauge_app', 'feed_seq', 'USAGE'),
               has_function_privilege('tidegauge_reader', 'feed_publish()', 'EXECUTE')
    """
    assert tuple(await database.pool.fetchrow(given) or ()) == (True, True, True, False)


async def test_limits_of_the_reader_stay_when_an_operator_has_changed_them(own_server: EmbeddedServer) -> None:
    await migrate(own_server.dsn)
    async with _connected(own_server.dsn) as connection:
        await connection.execute("ALTER ROLE tidegauge_reader SET statement_timeout = '5min'")
        await ensure_rights(connection)
        settings = await connection.fetchval("SELECT rolconfig FROM pg_roles WHERE rolname = 'tidegauge_reader'")
    assert sorted(settings) == [
        "default_transaction_read_only=on",
        "idle_in_transaction_session_timeout=30s",
        "statement_timeout=5min",
        "temp_file_limit=1GB",
    ]


async def test_flush_is_stored_when_notifications_have_filled_their_queue(own_server: EmbeddedServer) -> None:
    await migrate(own_server.dsn)
    async with _connected(own_server.dsn) as lagging, _connected(own_server.dsn) as connection:
        await lagging.execute("LISTEN other")
        await lagging.execute("BEGIN; SELECT 1")  # whoever is in a transaction reads no notifications
        flood = "SELECT count(pg_notify('other', repeat('x', 7000) || n)) FROM generate_series(1, 40) AS n"
        await connection.execute(flood)
        with pytest.raises(asyncpg.PostgresError, match="too many notifications"):
            await connection.execute(flood)
        assert await connection.fetchval("SELECT pg_notification_queue_usage()") > 0.5
        await connection.execute("INSERT INTO feed (kind, n, payload) VALUES ('readings', 1, '')")
        assert await connection.fetchval("SELECT max(seq) FROM feed") == 1


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A server whose roles a test may change, and that holds few notifications."""
    options = {
        "shared_buffers": "16MB",
        "max_connections": "20",
        "timescaledb.max_background_workers": "0",
        "max_notify_queue_pages": "64",
    }
    folder = tmp_path_factory.mktemp("own-server")
    try:
        with EmbeddedServer.start(folder, say=lambda line: None, options=options) as server:
            yield server
    finally:
        shutil.rmtree(cluster_folder(folder), ignore_errors=True)


@asynccontextmanager
async def _connected(dsn: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


async def _list_allowed(database: Database, connection: Connection, statements: Sequence[str]) -> list[str]:
    """Return the statements that fail for want of rights not at all, or for another reason."""
    allowed = []
    async with database.pool.acquire() as owner:
        name = await owner.fetchval("SELECT quote_ident(current_database())")
        for statement in statements:
            text = statement.replace("{owner}", str(owner.get_server_pid())).replace("{database}", name)
            try:
                await _run(connection, text)
            except asyncpg.InsufficientPrivilegeError:
                continue
            except asyncpg.PostgresError as error:
                text += f": {error}"
            allowed.append(text)
        assert await owner.fetchval("SELECT 1") == 1, "the owner's session must not be ended"
    return allowed


async def _run(connection: Connection, statement: str) -> None:
    """Run a statement, LOCK TABLE in the transaction that it needs."""
    if not statement.startswith("LOCK TABLE"):
        await connection.execute(statement)
        return
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(statement)
    finally:
        await transaction.rollback()
