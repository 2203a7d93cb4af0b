"""Migrations: numbered SQL files, applied in order and recorded with a checksum, then the aggregates of the edition."""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TypeVar

import asyncpg
import msgspec
import structlog

from app.db.aggregates import ensure_aggregates
from app.db.pool import Connection, connect
from app.db.rights import ensure_rights
from app.db.servers.restored import check_restored
from app.db.sql import SQL
from app.errors import AppError
from app.model import ReportProgress

_FILE_NAME = re.compile(r"^(\d{4})_\w+\.sql$")
#: First line of a file whose statements cannot run in one transaction.
_OUTSIDE_TRANSACTION = "-- outside a transaction"
_LOCK_POLL_S = 0.1
#: Longest wait for locks of one attempt of a step, and of all attempts together.
LOCK_TIMEOUT_S = 2
LOCKED_S = 120.0
#: Errors of CREATE TABLE IF NOT EXISTS when another process creates the table at the same moment.
_CREATED_MEANWHILE = (asyncpg.UniqueViolationError, asyncpg.DuplicateObjectError, asyncpg.DuplicateTableError)
log = structlog.get_logger()
Result = TypeVar("Result")


class MigrationError(AppError):
    """The migrations on disk and those in the database do not fit together."""

    code = "migration"
    title = "Migrations do not fit"


class LockedError(AppError):
    """Another session holds a lock that a migration needs."""

    code = "locked"
    title = "A table is locked"


class Migration(msgspec.Struct, frozen=True):
    """One numbered SQL file."""

    version: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """Return the SHA-256 of the file's text, in hex."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations_folder() -> Path:
    """Return the folder of the SQL files: beside the package in a checkout, inside it in a wheel."""
    package = Path(__file__).parents[1]
    inside = package / "migrations"
    return inside if inside.is_dir() else package.parent / "migrations"


def load_migrations(folder: Path | None = None) -> list[Migration]:
    """Read the files in order; raise MigrationError for a wrong name and for a missing or repeated number."""
    migrations: list[Migration] = []
    for path in sorted((folder or migrations_folder()).glob("*.sql")):
        match = _FILE_NAME.match(path.name)
        if match is None or int(match[1]) != len(migrations) + 1:
            raise MigrationError(f"{path.name} should be named {len(migrations) + 1:04}_what_it_does.sql")
        migrations.append(Migration(int(match[1]), path.name, path.read_text(encoding="utf-8")))
    return migrations


async def migrate(
    dsn: str, *, migrations: Sequence[Migration] | None = None, progress: ReportProgress = lambda done, total: None
) -> list[str]:
    """Apply pending migrations and return their names; several processes may run this at once.

    Raise MigrationError, and RestoreError for a database that was restored in part.
    """
    wanted = load_migrations() if migrations is None else migrations
    await _ensure_extension(dsn)
    applied = []
    async with _migration_lock(dsn) as connection:
        await check_restored(connection)
        for migration in await _pending(connection, wanted):
            await _patiently(connection, partial(_apply, connection, migration))
            applied.append(migration.name)
        if await _patiently(connection, partial(ensure_aggregates, connection, progress)):
            applied.append("aggregates")
        await ensure_rights(connection)
    return applied


async def list_pending(connection: Connection) -> list[str]:
    """Return the names of pending migrations; raise MigrationError when an applied file was edited or is unknown."""
    wanted = load_migrations()
    if not await connection.fetchval(SQL["find_migration_table"]):
        return [migration.name for migration in wanted]
    return [migration.name for migration in await _pending(connection, wanted)]


async def check_migrated(connection: Connection) -> None:
    """Raise MigrationError if a migration is pending, and RestoreError for a database that was restored in part."""
    await check_restored(connection)
    pending = await list_pending(connection)
    if pending:
        raise MigrationError(f"The database lacks {', '.join(pending)}; run `tidegauge migrate` first")


async def set_password(dsn: str, role: str, password: str) -> None:
    """Set the password of a role of ours and let it log in; the server quotes the password."""
    connection = await connect(dsn)
    try:
        literal = await connection.fetchval("SELECT quote_literal($1::text)", password)
        await connection.execute(f"ALTER ROLE {role} LOGIN PASSWORD {literal}")
    finally:
        await connection.close()


async def _ensure_extension(dsn: str) -> None:
    """Create the extension in a session of its own: TimescaleDB requires that to be the session's first statement."""
    connection = await connect(dsn)
    try:
        await connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
    except asyncpg.UniqueViolationError:
        pass  # another process created it in the same moment
    except asyncpg.FeatureNotSupportedError:
        raise MigrationError(
            "This PostgreSQL has no TimescaleDB. Use a server that has the extension, for example the image "
            "timescale/timescaledb, or leave DATABASE_URL out to run the embedded server."
        ) from None
    finally:
        await connection.close()


@asynccontextmanager
async def _migration_lock(dsn: str) -> AsyncIterator[Connection]:
    """Open a connection that holds the lock of migrations until the block ends."""
    connection = await connect(dsn, statement_timeout="0")
    try:
        for create in ("create_migration_table", "create_migration_lock"):
            with suppress(*_CREATED_MEANWHILE):
                await connection.execute(SQL[create])
        # Polled, because a statement that waits for the lock is an open transaction, and CREATE INDEX CONCURRENTLY in
        # the process that holds the lock would wait for that transaction.
        while not await connection.fetchval(SQL["try_lock_migrations"]):  # noqa: ASYNC110 -- held by another process
            await asyncio.sleep(_LOCK_POLL_S)
        yield connection
        await connection.execute(SQL["unlock_migrations"])
    finally:
        await connection.close()


async def _pending(connection: Connection, wanted: Sequence[Migration]) -> list[Migration]:
    applied = {row["version"]: row for row in await connection.fetch(SQL["list_migrations"])}
    unknown = sorted(set(applied) - {migration.version for migration in wanted})
    if unknown:
        raise MigrationError(
            f"The database has migration {applied[unknown[0]]['name']}, which this version of Tidegauge does not "
            "know. Run the version that wrote it, or a newer one."
        )
    for migration in wanted:
        row = applied.get(migration.version)
        if row is not None and row["sha256"] != migration.sha256:
            raise MigrationError(
                f"{migration.name} was edited after it was applied. Restore the file and put the change into a new "
                "migration."
            )
    return [migration for migration in wanted if migration.version not in applied]


async def _patiently(connection: Connection, step: Callable[[], Awaitable[Result]]) -> Result:
    """Run a step, again while another session holds a lock that it needs; finally raise LockedError.

    Uploads wait behind a step that waits for a lock, so each attempt waits only LOCK_TIMEOUT_S.
    """
    await connection.execute(f"SET lock_timeout = '{LOCK_TIMEOUT_S}s'")
    deadline = monotonic() + LOCKED_S
    while True:
        try:
            return await step()
        except asyncpg.LockNotAvailableError as error:
            if monotonic() > deadline:
                raise LockedError(
                    f"A lock was not free for {LOCKED_S:.0f} s: {error}. pg_stat_activity shows which session has "
                    "had a transaction open for long; end it and try again"
                ) from None
            log.info("migration_postponed", reason=str(error))
        await asyncio.sleep(LOCK_TIMEOUT_S)


async def _apply(connection: Connection, migration: Migration) -> None:
    record = (migration.version, migration.name, migration.sha256)
    if migration.sql.startswith(_OUTSIDE_TRANSACTION):
        await connection.execute(migration.sql)
        await connection.execute(SQL["record_migration"], *record)
    else:
        async with connection.transaction():
            await connection.execute(migration.sql)
            await connection.execute(SQL["record_migration"], *record)
    log.info("migration_applied", name=migration.name)
