"""Deletion of old answers and of old records of the replaced sensor server."""

from app.db.pool import Pool
from app.ingest.sql import SQL


async def prune_answers(pool: Pool) -> None:
    """Delete answers to Idempotency-Keys that are older than a day."""
    await pool.execute(SQL["prune_idempotency"])


async def prune_legacy_readings(pool: Pool) -> None:
    """Delete all but the newest records of the replaced sensor server; only the last one is read again."""
    await pool.execute(SQL["prune_legacy_readings"])
