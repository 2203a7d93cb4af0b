"""Retention of the feed."""

from datetime import timedelta

from app.live.retention import prune_feed
from tests.conftest import Database


async def fill(database: Database, count: int, size: int = 100) -> None:
    for _ in range(count):
        await database.pool.execute("INSERT INTO feed (kind, n, payload) VALUES ('readings', 1, $1)", b"x" * size)


async def kept(database: Database) -> tuple[list[int], int]:
    rows = await database.pool.fetch("SELECT seq FROM feed ORDER BY seq")
    return [row["seq"] for row in rows], await database.pool.fetchval("SELECT pruned_to FROM feed_epoch")


async def age(database: Database, up_to: int, by: timedelta) -> None:
    await database.pool.execute("UPDATE feed SET at = at - $2::interval WHERE seq <= $1", up_to, by)


async def test_prune_feed_keeps_everything_when_it_is_young_and_small(database: Database) -> None:
    await fill(database, 3)
    await prune_feed(database.pool)
    assert await kept(database) == ([1, 2, 3], 0)


async def test_prune_feed_deletes_rows_when_they_are_old(database: Database) -> None:
    await fill(database, 5)
    await age(database, 3, timedelta(minutes=61))
    await prune_feed(database.pool)
    assert await kept(database) == ([4, 5], 3)


async def test_prune_feed_deletes_the_oldest_rows_when_all_are_too_large_together(database: Database) -> None:
    await fill(database, 5)
    await prune_feed(database.pool, payload_bytes=250)
    assert await kept(database) == ([4, 5], 3)


async def test_prune_feed_keeps_the_newest_row_when_it_is_old_and_large(database: Database) -> None:
    await fill(database, 2, size=5_000)
    await age(database, 2, timedelta(days=3))
    await prune_feed(database.pool, payload_bytes=1)
    assert await kept(database) == ([2], 1)


async def test_prune_feed_does_nothing_when_the_feed_is_empty(database: Database) -> None:
    await prune_feed(database.pool, payload_bytes=0)
    assert await kept(database) == ([], 0)


async def test_prune_feed_stores_the_last_pruned_row_when_it_runs_again(database: Database) -> None:
    await fill(database, 4)
    await prune_feed(database.pool, payload_bytes=100)
    await fill(database, 1)
    await prune_feed(database.pool, payload_bytes=100)
    assert await kept(database) == ([5], 4)
