"""What of the feed is kept: enough to resume after an outage, not more."""

from datetime import timedelta

from app.db.pool import Pool
from app.live.sql import SQL

FEED_AGE = timedelta(hours=1)
FEED_BYTES = 2**30


async def prune_feed(pool: Pool, age: timedelta = FEED_AGE, payload_bytes: int = FEED_BYTES) -> None:
    """Drop the oldest rows past either limit; cursors into them get a resync."""
    await pool.execute(SQL["prune_feed"], age, payload_bytes)
