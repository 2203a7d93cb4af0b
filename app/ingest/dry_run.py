"""Uploads that are only tried: the receipt that they would get, while nothing is stored."""

from app.db.pool import DATABASE_ERRORS, Connection, Pool
from app.errors import DatabaseUnavailableError
from app.ingest.flush.batch import Batch
from app.ingest.series.registry import SeriesRegistry
from app.ingest.sql import SQL
from app.ingest.uploads.receipt import Receipt
from app.ingest.uploads.upload import Upload, make_receipt
from app.ingest.writer import NOT_STORED
from app.problems import is_database_away
from app.tasks import run_off_loop

#: Readings that are looked for at a time.
_AT_ONCE = 5_000


async def try_upload(pool: Pool, upload: Upload) -> Receipt:
    """Return the receipt that an upload would get now; its `seq` is None. Raise DatabaseUnavailableError."""
    try:
        async with pool.acquire() as connection:
            return await _try(connection, upload)
    except DATABASE_ERRORS as error:
        raise (DatabaseUnavailableError(NOT_STORED) if is_database_away(error) else error) from error


async def _try(connection: Connection, upload: Upload) -> Receipt:
    registry = SeriesRegistry()
    upload = await registry.preview(connection, upload)
    batch = await run_off_loop(upload.value_count, Batch, [upload], registry.series_of)
    stored = 0
    for start in range(0, batch.size, _AT_ONCE):
        ids, times_us, _ = batch.samples.take(slice(start, start + _AT_ONCE)).columns()
        stored += await connection.fetchval(SQL["count_stored"], ids, times_us, min(times_us), max(times_us))
    return make_receipt(upload, batch.size - stored)
