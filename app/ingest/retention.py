"""What of this domain is kept for a while only."""

from app.db.pool import Pool
from app.ingest.sql import SQL


async def prune_answers(pool: Pool) -> None:
    """Forget answers to Idempotency-Keys after a day."""
    await pool.execute(SQL["prune_idempotency"])


async def prune_legacy_readings(pool: Pool) -> None:
    """Keep the newest records of the replaced sensor server; only the very last is ever read again."""
    await pool.execute(SQL["prune_legacy_readings"])
