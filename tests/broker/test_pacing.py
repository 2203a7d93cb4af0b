import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from app.broker import pacing as broker_pacing
from app.broker.format import BrokerNotification
from app.broker.pacing import RetryAfterPacing
from app.broker.request import Target, make_target
from app.broker.sql import SQL
from app.db import shared
from app.db.pool import Pool
from app.db.shared import SharedState
from app.notify.transport import Endpoints, TransientError
from tests.conftest import Database
from tests.notify.dispatchers import until, until_one_waits
from tests.notify.manual_clock import ManualClock
from tests.wire import pool_over, wire_to

NOTIFICATION = BrokerNotification(
    id="123e4567-e89b-12d3-a456-426614174000",
    title="Title",
    message="Message",
    level="info",
    at=datetime(2024, 6, 11, 14, 30, tzinfo=UTC),
)


def webhook(name: str) -> Target:
    settings = {"webhook_url": f"https://hooks.slack.com/services/{name}"}
    return make_target("slack", settings, NOTIFICATION, Endpoints())


async def refused(pacing: RetryAfterPacing, target: Target, within_s: float) -> str:
    with pytest.raises(TransientError) as caught:
        await pacing.wait_turn(target, within_s)
    return caught.value.reason


async def test_turn_comes_at_once_when_the_destination_has_not_asked_to_wait() -> None:
    pacing = RetryAfterPacing(SharedState(), ManualClock())
    for _number in range(1_000):
        await pacing.wait_turn(webhook("a"), 0.0)


async def test_turn_is_refused_at_once_when_it_would_come_too_late() -> None:
    clock = ManualClock()
    pacing = RetryAfterPacing(SharedState(), clock)
    await pacing.hold(webhook("a"), 5.0)
    assert await refused(pacing, webhook("a"), 4.0) == "Slack has asked to wait, 5 s from now on"
    clock.now = 5.0
    await pacing.wait_turn(webhook("a"), 0.0)
    assert await refused(pacing, webhook("a"), 0.5) == "Slack has asked to wait, 1 s from now on"


async def test_turn_is_refused_at_once_when_others_that_wait_would_make_it_too_late() -> None:
    pacing = RetryAfterPacing(SharedState())
    await pacing.hold(webhook("a"), 1.0)
    waiting = [asyncio.create_task(pacing.wait_turn(webhook("a"), 10.0)) for _number in range(3)]
    await asyncio.sleep(0)
    assert await refused(pacing, webhook("a"), 3.5) == "Slack has asked to wait, 4 s from now on"
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_turn_comes_at_once_when_another_destination_has_asked_to_wait() -> None:
    pacing = RetryAfterPacing(SharedState(), ManualClock())
    await pacing.hold(webhook("a"), 5.0)
    await pacing.wait_turn(webhook("b"), 0.0)


async def test_hold_is_cut_to_a_minute_when_the_service_asks_for_longer() -> None:
    pacing = RetryAfterPacing(SharedState(), ManualClock())
    await pacing.hold(webhook("a"), 86_400.0)
    assert await refused(pacing, webhook("a"), 10.0) == "Slack has asked to wait, 60 s from now on"


async def test_pacing_ends_when_the_destination_has_not_asked_to_wait_for_a_minute() -> None:
    clock = ManualClock()
    pacing = RetryAfterPacing(SharedState(), clock)
    await pacing.hold(webhook("a"), 5.0)
    clock.now = 5.0 + broker_pacing.PACED_FOR_S + 0.1
    for _number in range(100):
        await pacing.wait_turn(webhook("a"), 0.0)
    assert pacing.known_destinations == 0


async def test_pacing_lasts_as_long_as_the_longest_hold_asks_when_a_shorter_one_follows() -> None:
    clock = ManualClock()
    pacing = RetryAfterPacing(SharedState(), clock)
    await pacing.hold(webhook("a"), 60.0)
    clock.now = 10.0
    await pacing.hold(webhook("a"), 1.0)
    assert await refused(pacing, webhook("a"), 1.0) == "Slack has asked to wait, 50 s from now on"
    clock.now = 119.0
    await pacing.wait_turn(webhook("a"), 0.0)
    assert pacing.known_destinations == 1
    assert await refused(pacing, webhook("a"), 0.5) == "Slack has asked to wait, 1 s from now on"


async def test_waiting_deliveries_no_longer_count_when_they_have_ended() -> None:
    pacing = RetryAfterPacing(SharedState())
    await pacing.hold(webhook("a"), 0.2)
    waiting = [asyncio.create_task(pacing.wait_turn(webhook("a"), 10.0)) for _number in range(4)]
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await pacing.wait_turn(webhook("a"), 0.5)


async def test_pacing_keeps_destinations_that_must_still_be_paced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_pacing, "_DESTINATIONS_KEPT", 2)
    pacing = RetryAfterPacing(SharedState(), ManualClock())
    for number in range(5):
        await pacing.hold(webhook(str(number)), 10.0)
    for number in range(5):
        assert await refused(pacing, webhook(str(number)), 1.0) == "Slack has asked to wait, 10 s from now on"


async def test_pacing_keeps_a_destination_while_deliveries_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_pacing, "_DESTINATIONS_KEPT", 1)
    clock = ManualClock()
    pacing = RetryAfterPacing(SharedState(), clock)
    await pacing.hold(webhook("a"), 1.0)
    waiting = asyncio.create_task(pacing.wait_turn(webhook("a"), 10.0))
    await asyncio.sleep(0)
    clock.now += 1_000.0
    await pacing.hold(webhook("b"), 1.0)
    assert pacing.known_destinations == 2
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await pacing.hold(webhook("c"), 1.0)
    assert pacing.known_destinations == 2  # b and c, which are still paced


async def test_pacing_drops_destinations_when_they_no_longer_ask_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_pacing, "_DESTINATIONS_KEPT", 10)
    clock = ManualClock()
    pacing = RetryAfterPacing(SharedState(), clock)
    for number in range(100):
        clock.now += 100.0
        await pacing.hold(webhook(str(number)), 1.0)
    assert pacing.known_destinations <= 10


# Several processes


def process(pool: Pool, clock: Callable[[], float] = time.monotonic) -> RetryAfterPacing:
    """Return the pacing of one more process on a database."""
    return RetryAfterPacing(SharedState(pool), clock)


def chat(chat_id: int) -> Target:
    return make_target("telegram", {"bot_token": "1:a", "chat_id": chat_id}, NOTIFICATION, Endpoints())


async def test_turn_is_refused_when_another_process_was_asked_to_wait(database: Database) -> None:
    asked, other = process(database.pool), process(database.pool)
    await asked.hold(webhook("a"), 30.0)
    assert await refused(other, webhook("a"), 10.0) == "Slack has asked to wait, 30 s from now on"
    await other.wait_turn(webhook("b"), 0.0)


async def test_hold_of_another_process_has_gone_on_while_the_database_was_slow(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "TIMEOUT_S", 30.0)
    await process(database.pool).hold(webhook("a"), 10.0)
    clock = ManualClock()
    async with database.pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE paced_destination")
        asking = asyncio.create_task(refused(process(database.pool, clock), webhook("a"), 1.0))
        await until_one_waits(database.pool)
        clock.now = 5.0
    assert await asking == "Slack has asked to wait, 5 s from now on"


async def test_process_learns_within_a_second_that_another_one_was_asked_to_wait(database: Database) -> None:
    clock = ManualClock()
    asked, other = process(database.pool), process(database.pool, clock)
    await other.wait_turn(webhook("a"), 0.0)
    await asked.hold(webhook("a"), 30.0)
    clock.now = 0.9
    await other.wait_turn(webhook("a"), 0.0)
    clock.now = 1.0
    assert await refused(other, webhook("a"), 10.0) == "Slack has asked to wait, 30 s from now on"


async def test_processes_together_keep_the_rate_when_a_destination_is_paced(database: Database) -> None:
    processes = [process(database.pool), process(database.pool)]
    await processes[0].hold(webhook("a"), 0.1)
    passed: list[float] = []

    async def send(pacing: RetryAfterPacing) -> None:
        await pacing.wait_turn(webhook("a"), 2.9)
        passed.append(time.monotonic())

    outcomes = await asyncio.gather(*(send(pacing) for pacing in processes * 4), return_exceptions=True)
    assert len([outcome for outcome in outcomes if isinstance(outcome, TransientError)]) == 5
    # A turn may be used late on a busy machine, never early.
    assert [later - passed[0] > number - 0.3 for number, later in enumerate(passed)] == [True] * 3


async def test_processes_together_keep_the_rate_of_a_group_when_it_is_paced(database: Database) -> None:
    processes = [process(database.pool), process(database.pool)]
    await processes[0].hold(chat(-100), 0.0)
    name = chat(-100).destination
    # The first five have passed at once, so that the next one comes 4 s later.
    await database.pool.execute(
        "UPDATE paced_destination SET due_at = ARRAY[now(), now() + INTERVAL '20 seconds'] WHERE destination = $1", name
    )
    for pacing in processes:
        assert await refused(pacing, chat(-100), 3.0) == "Telegram has asked to wait, 4 s from now on"


async def test_turn_comes_later_when_another_process_is_just_taking_one(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "TIMEOUT_S", 30.0)
    pacing = process(database.pool)
    await pacing.hold(webhook("a"), 0.0)
    async with database.pool.acquire() as connection, connection.transaction():
        # 31 messages take the turns of the next 30 seconds.
        for _number in range(31):
            await connection.fetchval(SQL["take_turn"], webhook("a").destination, [1.0], [1], 60.0)
        taking = asyncio.create_task(refused(pacing, webhook("a"), 10.0))
        await until_one_waits(database.pool)
    assert (await taking).startswith("Slack has asked to wait, 3")


async def test_chats_do_not_take_each_others_turns_when_their_bot_is_the_same(database: Database) -> None:
    pacing = process(database.pool)
    for target in (chat(-100), chat(7)):
        await pacing.hold(target, 0.0)
    waiting = [asyncio.create_task(pacing.wait_turn(chat(-100), 10.0)) for _number in range(4)]
    await until(database.pool, "SELECT max(due_at[1]) > now() + INTERVAL '3 s' FROM paced_destination")
    await pacing.wait_turn(chat(7), 0.5)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_turn_is_taken_again_when_a_hold_begins_before_it_has_come(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_pacing, "READ_EVERY_S", 0.0)
    waiting, asked = process(database.pool), process(database.pool)
    await waiting.hold(webhook("a"), 0.5)
    turn = asyncio.create_task(refused(waiting, webhook("a"), 5.0))
    await until(database.pool, "SELECT cardinality(due_at) > 0 FROM paced_destination")
    await asked.hold(webhook("a"), 30.0)
    assert await turn == "Slack has asked to wait, 30 s from now on"


async def test_database_is_not_asked_when_the_destination_is_known_to_be_held(database: Database) -> None:
    pacing = process(database.pool, ManualClock())
    await pacing.hold(webhook("a"), 30.0)
    await refused(pacing, webhook("a"), 10.0)
    await database.pool.execute("DELETE FROM paced_destination")
    assert await refused(pacing, webhook("a"), 10.0) == "Slack has asked to wait, 30 s from now on"


async def test_hold_is_shared_once_when_many_messages_are_refused_at_the_same_time(database: Database) -> None:
    pacing = process(database.pool)
    await pacing.hold(webhook("a"), 30.0)
    held_until = await database.pool.fetchval("SELECT held_until FROM paced_destination")
    await asyncio.gather(*(pacing.hold(webhook("a"), 30.0) for _number in range(100)))
    assert await database.pool.fetchval("SELECT held_until FROM paced_destination") == held_until


async def test_destinations_that_are_still_paced_stay_when_another_one_asks_to_wait(database: Database) -> None:
    await process(database.pool).hold(webhook("a"), 30.0)
    await process(database.pool).hold(webhook("b"), 20.0)
    for name, said in (("a", "30 s"), ("b", "20 s")):
        assert (
            await refused(process(database.pool), webhook(name), 1.0) == f"Slack has asked to wait, {said} from now on"
        )


async def test_destination_is_forgotten_by_all_processes_when_its_pacing_has_ended(database: Database) -> None:
    pacing = process(database.pool)
    await pacing.hold(webhook("a"), 1.0)
    await database.pool.execute("UPDATE paced_destination SET paced_until = now() - INTERVAL '1 second'")
    for _number in range(3):
        await process(database.pool).wait_turn(webhook("a"), 0.0)
    await pacing.hold(webhook("b"), 1.0)
    kept = await database.pool.fetch("SELECT destination FROM paced_destination")
    assert [row["destination"] for row in kept] == [webhook("b").destination]


async def test_process_paces_by_what_it_knows_when_the_database_is_away(database: Database) -> None:
    async with wire_to(database.dsn) as wire, pool_over(wire) as pool:
        asked, knowing = process(database.pool), process(pool)
        await asked.hold(webhook("a"), 30.0)
        await refused(knowing, webhook("a"), 10.0)
        await wire.cut()
        assert await refused(knowing, webhook("a"), 10.0) == "Slack has asked to wait, 30 s from now on"
        await knowing.hold(webhook("b"), 30.0)
        assert await refused(knowing, webhook("b"), 10.0) == "Slack has asked to wait, 30 s from now on"
        await knowing.wait_turn(webhook("c"), 0.0)
