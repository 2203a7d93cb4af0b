"""Steps at the start of every long-running process: wait for the database, and check that it can be used."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any, TypeVar

import asyncpg
import structlog

from app.db.clock import follow_clock
from app.db.edition import Edition, detect_edition
from app.db.migrations import check_migrated
from app.db.pool import DATABASE_ERRORS, HOST_ERRORS, BoundedPool, Pool, open_pool
from app.db.sql import SQL
from app.errors import SettingsError
from app.metrics import Metrics
from app.problems import is_database_away

#: How long the start waits for a database that is still starting.
DATABASE_WAIT_S = 30.0
#: Interval between two measurements of the database's size and of the pool.
MEASURE_EVERY_S = 15.0
#: Time from the beginning of a stop until it cuts the connections that are still in use: their database hangs.
CUT_AFTER_S = 3.0
#: Longest time that a stop waits for the connections of one pool that are still in use.
CLOSE_WITHIN_S = 2.0
Answer = TypeVar("Answer")
log = structlog.get_logger()


@asynccontextmanager
async def opened_pool(name: str, dsn: str, **options: Any) -> AsyncIterator[BoundedPool]:
    """Open a pool until the block ends; raise SettingsError, which names the variable, when that is impossible.

    `options` are those of open_pool.
    """
    pool = await _wait_for_pool(name, dsn, options)
    try:
        yield pool
    finally:
        await _close_pool(pool)


async def patiently(ask: Callable[[], Awaitable[Answer]]) -> Answer:
    """Return the answer of the database; while it is away, ask again for DATABASE_WAIT_S, then raise its error."""
    deadline = monotonic() + DATABASE_WAIT_S
    while True:
        try:
            return await ask()
        except DATABASE_ERRORS as error:
            if not is_database_away(error) or monotonic() > deadline:
                raise
            log.info("waiting_for_database", error=repr(error))
            await asyncio.sleep(1)


async def check_schema(pool: Pool) -> Edition:
    """Return the edition of the database, and set the clock by it; raise MigrationError when migrations are pending."""
    async with pool.acquire() as connection:
        await check_migrated(connection)
        await follow_clock(connection)
        return await detect_edition(connection)


async def measure(metrics: Metrics, *pools: Pool) -> None:
    """Set the gauges of the database's size and of all pools together."""
    metrics.database_bytes.set(await pools[0].fetchval(SQL["get_database_size"]))
    metrics.pool_connections.labels("open").set(sum(each.get_size() for each in pools))
    metrics.pool_connections.labels("idle").set(sum(each.get_idle_size() for each in pools))


def observe_waits(metrics: Metrics, *pools: BoundedPool) -> None:
    """Let the metrics follow how long connections of these pools are waited for."""
    for pool in pools:
        pool.on_wait = metrics.pool_wait_seconds.observe


def require_dsn(dsn: str | None) -> str:
    """Return the address of the database; raise SettingsError when there is none."""
    if dsn is None:
        raise SettingsError("DATABASE_URL is not set; `tidegauge up` runs a database of its own")
    return dsn


async def _wait_for_pool(name: str, dsn: str, options: Mapping[str, Any]) -> BoundedPool:
    """Open a pool, waiting at most DATABASE_WAIT_S for a database that is starting or failing over."""
    deadline = monotonic() + DATABASE_WAIT_S
    while True:
        try:
            return await open_pool(dsn, **options)
        except HOST_ERRORS as error:
            if monotonic() > deadline:
                raise SettingsError(
                    f"The database at {name} does not answer: {error or type(error).__name__}"
                ) from None
            log.info("waiting_for_database", error=str(error))
            await asyncio.sleep(1)
        except asyncpg.PostgresError as error:
            raise SettingsError(f"The database at {name} refuses: {error}") from None


async def _close_pool(pool: Any) -> None:
    """Close a pool; after CLOSE_WITHIN_S, terminate the connections that are still in use: they hang."""
    try:
        async with asyncio.timeout(CLOSE_WITHIN_S):
            await pool.close()
    except TimeoutError:
        pool.terminate()
