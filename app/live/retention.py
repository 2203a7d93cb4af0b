"""Retention of the feed: rows are kept long enough for clients to resume after a short outage."""

from datetime import timedelta

from app.db.pool import Pool
from app.live.sql import SQL

FEED_AGE = timedelta(hours=1)
FEED_BYTES = 2**30


async def prune_feed(pool: Pool, age: timedelta = FEED_AGE, payload_bytes: int = FEED_BYTES) -> None:
    """Delete the oldest rows beyond either limit; a client whose cursor lies before the rest gets a resync."""
    await pool.execute(SQL["prune_feed"], age, payload_bytes)
