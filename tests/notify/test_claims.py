"""Claims on a real database: what a message says is what is true when it is claimed, and is told once."""

import asyncpg
import pytest

from app.db.pool import Connection
from app.notify.channels import webhook
from app.notify.claims import Claim, claim_next
from app.notify.message import Message
from app.notify.outbox import Compose, Composed, ToldItem
from tests.conftest import Database
from tests.notify.alerts import Alerts, compose

CHANNELS = {"hook": webhook}
TOLD = "SELECT told, told_level FROM alert_told WHERE channel = 'hook' AND episode_id = $1"


def title(claim: Claim | None) -> str:
    assert claim is not None
    return str(claim.rendered.body["title"])


async def test_claim_tells_what_is_true_now_when_it_was_enqueued_before(database: Database) -> None:
    alerts = Alerts(database.pool, "hook")
    await alerts.resolve(await alerts.fire("cold-room", "freezer-1"))
    still_firing = await alerts.fire("cold-room", "freezer-2", "critical")
    claim = await claim_next(database.pool, CHANNELS, compose)
    assert title(claim) == "freezer-1 summary, freezer-2 firing"
    assert tuple(await database.pool.fetchrow(TOLD, still_firing) or ()) == ("firing", "critical")
    row = await database.pool.fetchrow(
        "SELECT state, text, attempts, attempt_started_at IS NOT NULL AS trying, "
        "extract(epoch FROM next_attempt_at - attempt_started_at)::int AS lease_s FROM notification"
    )
    assert row is not None
    assert (row["state"], row["attempts"], row["trying"], row["lease_s"]) == ("sending", 1, True, 120)
    assert claim is not None
    assert row["text"] == {"body": claim.rendered.body, "fallback": None}


async def test_claim_notes_what_was_told_before(database: Database) -> None:
    alerts = Alerts(database.pool, "hook")
    episode_id = await alerts.fire("cold-room", "freezer-1")
    await claim_next(database.pool, CHANNELS, compose)
    await database.pool.execute("UPDATE notification SET state = 'sent'")
    await alerts.raise_to(episode_id, "critical")
    assert title(await claim_next(database.pool, CHANNELS, compose)) == "freezer-1 raised"
    rows = await database.pool.fetch("SELECT kind, told_before, told_level_before FROM notification_item ORDER BY 1")
    assert [tuple(row) for row in rows] == [("firing", None, None), ("raised", "firing", "warning")]
    assert tuple(await database.pool.fetchrow(TOLD, episode_id) or ()) == ("firing", "critical")


async def test_claim_goes_on_to_the_next_message_when_nothing_is_left_to_say(database: Database) -> None:
    alerts = Alerts(database.pool, "hook")
    await alerts.tell("empty")
    await alerts.fire("cold-room", "freezer-1")
    assert title(await claim_next(database.pool, CHANNELS, compose)) == "freezer-1 firing"
    assert await database.pool.fetchval("SELECT array_agg(group_key) FROM notification") == ["cold-room"]


async def test_claim_leaves_a_message_alone_when_one_of_its_group_is_being_sent(database: Database) -> None:
    alerts = Alerts(database.pool, "hook")
    episode_id = await alerts.fire("cold-room", "freezer-1")
    await claim_next(database.pool, CHANNELS, compose)
    await alerts.resolve(episode_id)
    assert await claim_next(database.pool, CHANNELS, compose) is None
    await database.pool.execute("UPDATE notification SET state = 'dead' WHERE state = 'sending'")
    assert title(await claim_next(database.pool, CHANNELS, compose)) == "freezer-1 resolved"


async def test_claim_leaves_a_message_alone_when_the_planner_has_not_committed(database: Database) -> None:
    alerts = Alerts(database.pool, "hook")
    await alerts.fire("cold-room", "freezer-1")
    async with database.pool.acquire() as connection:
        planning = connection.transaction()
        await planning.start()
        await alerts.enqueue(connection, "cold-room")
        assert await claim_next(database.pool, CHANNELS, compose) is None
        await planning.commit()
    assert title(await claim_next(database.pool, CHANNELS, compose)) == "freezer-1 firing"


async def test_claim_leaves_a_message_alone_when_its_channel_is_not_asked_for(database: Database) -> None:
    await Alerts(database.pool, "hook").fire("cold-room", "freezer-1")
    assert await claim_next(database.pool, {"other": webhook}, compose) is None


async def test_claim_leaves_a_message_alone_when_its_channel_is_broken(database: Database) -> None:
    await Alerts(database.pool, "hook").fire("cold-room", "freezer-1")
    await database.pool.execute("INSERT INTO channel_state (channel, config_hash, reason) VALUES ('hook', '', '')")
    assert await claim_next(database.pool, CHANNELS, compose) is None


async def test_message_is_dropped_when_another_evaluator_told_all_of_it(database: Database) -> None:
    episode_id = await Alerts(database.pool, "hook").fire("cold-room", "freezer-1")
    await claim_next(database.pool, CHANNELS, compose)
    await Alerts(database.pool, "hook").tell("twin")
    assert (
        await claim_next(database.pool, CHANNELS, _telling(ToldItem(episode_id, 1, "firing", "warning", "firing")))
        is None
    )
    assert await database.pool.fetchval("SELECT array_agg(group_key) FROM notification") == ["cold-room"]


async def test_message_loses_an_item_when_another_evaluator_told_that_one(database: Database) -> None:
    alerts = Alerts(database.pool, "hook")
    told = await alerts.fire("cold-room", "freezer-1")
    await claim_next(database.pool, CHANNELS, compose)
    untold = await alerts.fire("twin", "freezer-2")
    items = [ToldItem(each, 1, "firing", "critical", "firing") for each in (told, untold)]
    claim = await claim_next(database.pool, CHANNELS, _telling(*items))
    assert claim is not None
    kept = await database.pool.fetch("SELECT episode_id FROM notification_item WHERE notification_id = $1", claim.id)
    assert [row["episode_id"] for row in kept] == [untold]
    assert tuple(await database.pool.fetchrow(TOLD, told) or ()) == ("firing", "warning")
    assert tuple(await database.pool.fetchrow(TOLD, untold) or ()) == ("firing", "critical")


async def test_reminder_is_told_as_often_as_it_comes_and_changes_nothing(database: Database) -> None:
    alerts = Alerts(database.pool, "hook")
    episode_id = await alerts.fire("cold-room", "freezer-1")
    await claim_next(database.pool, CHANNELS, compose)
    for _ in range(2):
        await database.pool.execute("UPDATE notification SET state = 'sent'")
        await alerts.tell("cold-room")
        reminding = _telling(ToldItem(episode_id, 1, "reminder", "critical", None))
        assert title(await claim_next(database.pool, CHANNELS, reminding)) == "Told"
    assert tuple(await database.pool.fetchrow(TOLD, episode_id) or ()) == ("firing", "warning")


async def test_message_is_headed_when_it_is_a_dead_letter_sent_anew(database: Database) -> None:
    alerts = Alerts(database.pool, "hook")
    await alerts.fire("cold-room", "freezer-1")
    await database.pool.execute("UPDATE notification SET delayed_from = id")
    assert title(await claim_next(database.pool, CHANNELS, compose)) == "Delayed: freezer-1 firing"


async def test_message_is_put_off_and_holds_up_no_other_when_it_cannot_be_composed(database: Database) -> None:
    alerts = Alerts(database.pool, "hook")
    await alerts.tell("faulty")
    await alerts.fire("cold-room", "freezer-1")

    async def compose_or_fail(connection: Connection, channel: str, group_key: str, at_once: bool) -> Composed | None:
        if group_key == "faulty":
            raise KeyError(group_key)
        return await compose(connection, channel, group_key, at_once)

    assert title(await claim_next(database.pool, CHANNELS, compose_or_fail)) == "freezer-1 firing"
    row = await database.pool.fetchrow(
        "SELECT state, error, round(extract(epoch FROM due_at - now())) AS in_s FROM notification "
        "WHERE group_key = 'faulty'"
    )
    assert tuple(row or ()) == ("waiting", "it could not be composed: KeyError", 60)


async def test_message_is_as_due_as_before_when_what_it_tells_was_deleted_in_the_meantime(database: Database) -> None:
    await Alerts(database.pool, "hook").tell("cold-room")
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await claim_next(database.pool, CHANNELS, _telling(ToldItem(4_711, 1, "firing", "warning", "firing")))
    row = await database.pool.fetchrow("SELECT state, due_at < now(), error FROM notification")
    assert tuple(row or ()) == ("waiting", True, None)


def _telling(*items: ToldItem) -> Compose:
    async def compose_items(connection: Connection, channel: str, group_key: str, at_once: bool) -> Composed:
        return Composed(Message(title="Told"), items)

    return compose_items
