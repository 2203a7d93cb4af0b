import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from structlog.testing import capture_logs

from app.broker import store as broker_store
from app.broker.sql import SQL
from app.broker.store import NotificationStore, StoredNotification, StoredOutcome, prune_notifications
from app.db.pool import Pool, open_pool
from app.errors import InvalidRequestError, NotFoundError
from app.problems import is_database_away
from tests.conftest import Database, wait_until
from tests.notify.dispatchers import until_one_waits
from tests.wire import Wire, wire_to

AT = datetime(2024, 6, 11, 14, 30, 0, 375397, tzinfo=UTC)


def notification(**more: Any) -> StoredNotification:
    given: dict[str, Any] = {
        "id": uuid4(),
        "created_at": AT,
        "api_key": "shop",
        "level": "ERROR",
        "title": "Title",
        "message": "Message",
        "source": "s",
        "metadata": {"a": [1, None, {"b": 2.5}], "big": 10**30},
        "channels": {
            "slack": StoredOutcome(True, 1, destination="slack:0123456789abcdef"),
            "telegram": StoredOutcome(False, 3, "no", "telegram:0123456789abcdef"),
        },
    }
    return StoredNotification(**{**given, **more})


@pytest.fixture
async def wire(database: Database) -> AsyncIterator[Wire]:
    async with wire_to(database.dsn) as wire:
        yield wire


@pytest.fixture
async def far_pool(wire: Wire) -> AsyncIterator[Pool]:
    """Yield a pool that loses its database when `wire` is cut."""
    pool = await open_pool(wire.url, min_size=1, max_size=2)
    yield pool
    pool.terminate()


async def put_and_flush(store: NotificationStore, pool: Pool, *notifications: StoredNotification) -> None:
    for each in notifications:
        store.put(each)
    await store.flush(pool)


async def ids(store: NotificationStore, pool: Pool, **options: Any) -> list[UUID]:
    given = {"level": None, "source": None, "cursor": None, "limit": 100, **options}
    return [item.id for item in (await store.list_page(pool, **given)).items]


async def count_rows(pool: Pool) -> int:
    return int(await pool.fetchval("SELECT count(*) FROM broker_notification"))


async def test_notification_is_found_before_and_after_it_is_stored(database: Database) -> None:
    store, sent = NotificationStore(), notification()
    store.put(sent)
    assert await store.find(database.pool, sent.id) == sent
    assert await count_rows(database.pool) == 0
    await store.flush(database.pool)
    assert await store.find(database.pool, sent.id) == sent
    assert await NotificationStore().find(database.pool, sent.id) == sent


async def test_notification_is_not_found_when_there_is_none(database: Database) -> None:
    with pytest.raises(NotFoundError, match="There is no notification 123e4567-e89b-12d3-a456-426614174000"):
        await NotificationStore().find(database.pool, UUID("123e4567-e89b-12d3-a456-426614174000"))


async def test_notifications_are_stored_soon_by_flush_forever(database: Database) -> None:
    store, sent = NotificationStore(), notification()
    flushing = asyncio.create_task(store.flush_forever(database.pool))
    store.put(sent)
    await wait_until(lambda: store.waiting == 0)
    flushing.cancel()
    assert await count_rows(database.pool) == 1


async def test_notifications_are_stored_when_the_store_closes(database: Database) -> None:
    store = NotificationStore()
    store.put(notification())
    await store.close(database.pool)
    assert await count_rows(database.pool) == 1


async def test_flush_stores_all_notifications_when_it_needs_several_statements(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_store, "FLUSH_BYTES", 1_000)
    await put_and_flush(NotificationStore(), database.pool, *(notification() for _number in range(20)))
    assert await count_rows(database.pool) == 20


async def test_flush_stores_a_notification_once_when_the_last_flush_had_stored_it(database: Database) -> None:
    sent = notification()
    await put_and_flush(NotificationStore(), database.pool, sent)
    await put_and_flush(NotificationStore(), database.pool, sent)
    assert await count_rows(database.pool) == 1


async def test_flush_leaves_out_only_the_rows_that_the_database_refuses(database: Database) -> None:
    store, bad, good = NotificationStore(), notification(level="LOUD"), notification()
    with capture_logs() as logs:
        await put_and_flush(store, database.pool, notification(), bad, good)
    assert await count_rows(database.pool) == 2
    assert logs == [
        {
            "event": "notification_not_stored",
            "log_level": "warning",
            "id": str(bad.id),
            "error": "CheckViolationError",
        }
    ]
    assert store.waiting == 0


async def test_text_is_stored_with_a_replacement_when_it_has_a_nul(database: Database) -> None:
    store = NotificationStore()
    sent = notification(title="a\0b", message="a\\u0000b", metadata={"\0": "\0\0"})
    await put_and_flush(store, database.pool, sent)
    stored = await store.find(database.pool, sent.id)
    assert (stored.title, stored.message, stored.metadata) == ("a\ufffdb", "a\\u0000b", {"\ufffd": "\ufffd\ufffd"})


async def test_list_is_newest_first_page_by_page(database: Database) -> None:
    store = NotificationStore()
    # Two of each time: the cursor must not lose one of them between pages.
    sent = [notification(created_at=AT + timedelta(seconds=number // 2)) for number in range(7)]
    for each in sent:
        store.put(each)
    found: list[UUID] = []
    cursor = None
    for _page in range(4):
        page = await store.list_page(database.pool, level=None, source=None, cursor=cursor, limit=2)
        found += [item.id for item in page.items]
        cursor = page.next
    assert cursor is None
    newest_first = sorted(sent, key=lambda each: (each.created_at, each.id), reverse=True)
    assert found == [each.id for each in newest_first]


async def test_list_is_filtered_when_a_level_or_a_source_is_given(database: Database) -> None:
    store = NotificationStore()
    info, error, other = notification(level="INFO"), notification(), notification(source="t")
    for each in (info, error, other):
        store.put(each)
    assert await ids(store, database.pool, level="INFO") == [info.id]
    assert await ids(store, database.pool, source="t") == [other.id]
    assert await ids(store, database.pool, level="ERROR", source="s") == [error.id]


@pytest.mark.parametrize("cursor", ["", "x", "5", "5.x", "99999999999999999999.123e4567-e89b-12d3-a456-426614174000"])
async def test_list_is_refused_when_the_cursor_is_wrong(database: Database, cursor: str) -> None:
    with pytest.raises(InvalidRequestError, match="send the `next` of the page before, unchanged"):
        await ids(NotificationStore(), database.pool, cursor=cursor)


async def test_list_uses_an_index_with_every_filter(database: Database) -> None:
    await database.pool.execute(
        """INSERT INTO broker_notification (id, created_at, api_key, level, title, message, source, channels)
           SELECT gen_random_uuid(), now() - i * INTERVAL '1 second', 'k', 'INFO', 't', 'm', 's', '{}'
             FROM generate_series(1, 5000) AS i"""
    )
    await database.pool.execute("ANALYZE broker_notification")
    for level, source in ((None, None), ("DISASTER", None), (None, "rare"), ("INFO", "s")):
        plan = await database.pool.fetch(f"EXPLAIN {SQL['list_notifications']}", level, source, AT, uuid4(), 100)
        text = "\n".join(row[0] for row in plan)
        assert "Index Scan" in text
        assert "Sort" not in text


async def test_notifications_wait_while_the_database_is_away_and_are_stored_when_it_is_back(
    wire: Wire, far_pool: Pool, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_store, "RETRY_S", 0.05)
    store, sent = NotificationStore(), notification()
    await wire.cut()
    with capture_logs() as logs:
        flushing = asyncio.create_task(store.flush_forever(far_pool))
        store.put(sent)
        await wait_until(lambda: bool(logs))
        assert (await store.find(far_pool, sent.id)).id == sent.id
        await wire.mend()
        await wait_until(lambda: store.waiting == 0)
        flushing.cancel()
    assert await count_rows(database.pool) == 1
    assert {(entry["event"], entry["waiting"]) for entry in logs} == {("notifications_not_stored", 1)}


async def test_store_logs_how_many_are_lost_when_it_closes_without_a_database(wire: Wire, far_pool: Pool) -> None:
    store = NotificationStore()
    store.put(notification())
    await wire.cut()
    with capture_logs() as logs:
        await store.close(far_pool)
    assert [(entry["event"], entry["waiting"]) for entry in logs] == [("notifications_not_stored", 1)]


async def test_list_raises_a_database_away_error_when_the_database_is_away(wire: Wire, far_pool: Pool) -> None:
    store = NotificationStore()
    store.put(notification())
    await wire.cut()
    # The kind of exception depends on where the connection broke.
    with pytest.raises(Exception) as caught:
        await ids(store, far_pool)
    assert is_database_away(caught.value)


async def test_notification_is_not_stored_when_too_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    store, sent = NotificationStore(), notification()
    monkeypatch.setattr(broker_store, "QUEUE_BYTES", 100)
    with capture_logs() as logs:
        store.put(sent)
    assert store.waiting == 0
    assert logs == [
        {
            "event": "notification_not_stored",
            "log_level": "warning",
            "id": str(sent.id),
            "error": "the queue is full",
        }
    ]


async def test_room_in_the_queue_is_taken_and_given_back_to_the_byte(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, size = NotificationStore(), len(msgspec.json.encode(notification()))
    monkeypatch.setattr(broker_store, "QUEUE_BYTES", 2 * size)
    for _ in range(3):
        for _ in range(3):
            store.put(notification())
        assert store.waiting == 2
        await store.flush(database.pool)
        assert store.waiting == 0
    monkeypatch.setattr(broker_store, "QUEUE_BYTES", 2 * size - 1)
    for _ in range(2):
        store.put(notification())
    assert store.waiting == 1


async def test_flush_takes_about_its_bytes_in_one_statement_and_at_least_one_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, size = NotificationStore(), len(msgspec.json.encode(notification()))
    sent = [notification() for _ in range(10)]
    for each in sent:
        store.put(each)
    for flush_bytes, rows in ((1, 1), (size, 2), (2 * size, 3), (100 * size, 10)):
        monkeypatch.setattr(broker_store, "FLUSH_BYTES", flush_bytes)
        assert list(store._oldest()) == [each.id for each in sent[:rows]]


async def test_two_flushes_at_the_same_time_store_each_row_once(database: Database) -> None:
    store = NotificationStore()
    for _ in range(3):
        store.put(notification())
    async with database.pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE broker_notification")
        flushes = [asyncio.create_task(store.flush(database.pool)) for _ in range(2)]
        await until_one_waits(database.pool)
        store.put(notification())
    await asyncio.gather(*flushes)
    assert store.waiting == 0
    assert not store._something_waits.is_set()  # or flush_forever would never rest
    assert await database.pool.fetchval("SELECT count(*) FROM broker_notification") == 4


async def test_notifications_are_pruned_by_age_and_by_number(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_store, "PRUNE_ROWS", 1)
    store = NotificationStore()
    now = datetime.now(UTC)
    sent = [notification(created_at=now - timedelta(days=days)) for days in range(5)]
    await put_and_flush(store, database.pool, *sent)
    await prune_notifications(database.pool, timedelta(days=3, hours=12), 100)
    assert await ids(store, database.pool) == [each.id for each in sent[:4]]
    await prune_notifications(database.pool, timedelta(days=30), 2)
    assert await ids(store, database.pool) == [each.id for each in sent[:2]]
