"""Removal of series: their readings, chunk by chunk, then their rows in the aggregates."""

from collections.abc import Sequence

from app.db.aggregates.levels import LEVELS, STATEMENT_TIMEOUT_S
from app.db.aggregates.roll_up import wait_for_earlier_transactions
from app.db.aggregates.sql import ROLL_UP, SQL
from app.db.edition import detect_edition
from app.db.pool import Connection
from app.db.sql import SQL as DB_SQL
from app.model import SeriesId


async def remove_series(connection: Connection, series_ids: Sequence[SeriesId], wait_s: float) -> bool:
    """Delete readings and aggregates of series that get no new readings; return whether nothing is left of them.

    Nobody may upload to them any more. A flush that began earlier may still do so, so return False if such a
    transaction is open for `wait_s`. Call again later if anything was deleted: a refresh that ran meanwhile may have
    brought some of it back. `connection` must not be in a transaction.
    """
    if not await wait_for_earlier_transactions(connection, wait_s):
        return False
    deleted = 0
    is_community = await detect_edition(connection) == "community"
    prepare = DB_SQL["allow_any_decompression"] if is_community else None
    for chunk in await connection.fetch(SQL["list_reading_chunks"]):
        deleted += await _delete(connection, prepare, SQL["delete_readings"], series_ids, *chunk)
    prepare = prepare or ROLL_UP["lock_watermark"]
    for level in LEVELS:
        table = await connection.fetchval(SQL["find_stored_aggregate"], level.relation)
        if table is None:
            continue
        statement = f"DELETE FROM {table} WHERE series_id = ANY($1::int[])"  # noqa: S608 -- a relation of ours
        deleted += await _delete(connection, prepare, statement, series_ids)
    return deleted == 0


async def _delete(connection: Connection, prepare: str | None, statement: str, *parameters: object) -> int:
    """Run a DELETE in a transaction of its own, after another statement; return the number of rows."""
    async with connection.transaction(isolation="read_committed"):
        if prepare is not None:
            await connection.execute(prepare, timeout=STATEMENT_TIMEOUT_S)
        status = await connection.execute(statement, *parameters, timeout=STATEMENT_TIMEOUT_S)
    return int(status.rpartition(" ")[2])
