"""Claims on a real database: a message tells what is true when it is claimed, and tells it once."""

import asyncio

import asyncpg
import pytest

from app.db.pool import Connection
from app.db.rights.locks import lock_evaluation
from app.notify.channels import webhook
from app.notify.dispatch.claims import Claim, claim_next
from app.notify.message import Message
from app.notify.outbox import Compose, Composed, ToldItem
from tests.conftest import Database
from tests.notify.dispatchers import always, until_one_waits
from tests.notify.episodes import EpisodeWriter, compose

CHANNELS = {"hook": webhook}
TOLD = "SELECT told, told_level FROM alert_told WHERE channel = 'hook' AND episode_id = $1"


def title(claim: Claim | None) -> str:
    assert claim is not None
    return str(claim.rendered.body["title"])


async def test_claim_tells_what_is_true_now_when_an_episode_ended_after_it_was_enqueued(database: Database) -> None:
    episodes = EpisodeWriter(database.pool, "hook")
    await episodes.resolve(await episodes.fire("cold-room", "freezer-1"))
    still_firing = await episodes.fire("cold-room", "freezer-2", "critical")
    claim = await claim_next(database.pool, always(CHANNELS), compose)
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


async def test_claim_stores_what_was_told_before(database: Database) -> None:
    episodes = EpisodeWriter(database.pool, "hook")
    episode_id = await episodes.fire("cold-room", "freezer-1")
    await claim_next(database.pool, always(CHANNELS), compose)
    await database.pool.execute("UPDATE notification SET state = 'sent'")
    await episodes.raise_to(episode_id, "critical")
    assert title(await claim_next(database.pool, always(CHANNELS), compose)) == "freezer-1 raised"
    rows = await database.pool.fetch("SELECT kind, told_before, told_level_before FROM notification_item ORDER BY 1")
    assert [tuple(row) for row in rows] == [("firing", None, None), ("raised", "firing", "warning")]
    assert tuple(await database.pool.fetchrow(TOLD, episode_id) or ()) == ("firing", "critical")


async def test_claim_waits_while_an_evaluation_is_under_way(database: Database) -> None:
    await EpisodeWriter(database.pool, "hook").fire("cold-room", "freezer-1")
    async with database.pool.acquire() as connection, connection.transaction():
        await lock_evaluation(connection)
        claiming = asyncio.create_task(claim_next(database.pool, always(CHANNELS), compose))
        await until_one_waits(database.pool)
        # The message has the changes of the evaluation, although the claim began before it.
        await connection.execute("UPDATE alert_episode SET resolved_at = now(), revision = revision + 1")
    assert title(await claiming) == "freezer-1 summary"


async def test_claim_goes_on_to_the_next_message_when_nothing_is_left_to_tell(database: Database) -> None:
    episodes = EpisodeWriter(database.pool, "hook")
    await episodes.enqueue("empty")
    await episodes.fire("cold-room", "freezer-1")
    assert title(await claim_next(database.pool, always(CHANNELS), compose)) == "freezer-1 firing"
    assert await database.pool.fetchval("SELECT array_agg(group_key) FROM notification") == ["cold-room"]


async def test_claim_skips_a_message_when_one_of_its_group_is_being_sent(database: Database) -> None:
    episodes = EpisodeWriter(database.pool, "hook")
    episode_id = await episodes.fire("cold-room", "freezer-1")
    await claim_next(database.pool, always(CHANNELS), compose)
    await episodes.resolve(episode_id)
    assert await claim_next(database.pool, always(CHANNELS), compose) is None
    await database.pool.execute("UPDATE notification SET state = 'dead' WHERE state = 'sending'")
    assert title(await claim_next(database.pool, always(CHANNELS), compose)) == "freezer-1 resolved"


async def test_claim_skips_a_message_when_the_planner_has_not_committed(database: Database) -> None:
    episodes = EpisodeWriter(database.pool, "hook")
    await episodes.fire("cold-room", "freezer-1")
    async with database.pool.acquire() as connection:
        planning = connection.transaction()
        await planning.start()
        await episodes.enqueue_in(connection, "cold-room")
        assert await claim_next(database.pool, always(CHANNELS), compose) is None
        await planning.commit()
    assert title(await claim_next(database.pool, always(CHANNELS), compose)) == "freezer-1 firing"


async def test_claim_skips_a_message_when_its_channel_is_not_asked_for(database: Database) -> None:
    await EpisodeWriter(database.pool, "hook").fire("cold-room", "freezer-1")
    assert await claim_next(database.pool, always({"other": webhook}), compose) is None


async def test_claim_skips_a_message_when_its_channel_is_broken(database: Database) -> None:
    await EpisodeWriter(database.pool, "hook").fire("cold-room", "freezer-1")
    await database.pool.execute("INSERT INTO channel_state (channel, config_hash, reason) VALUES ('hook', '', '')")
    assert await claim_next(database.pool, always(CHANNELS), compose) is None


async def test_message_is_deleted_when_another_message_has_told_all_its_items(database: Database) -> None:
    episode_id = await EpisodeWriter(database.pool, "hook").fire("cold-room", "freezer-1")
    await claim_next(database.pool, always(CHANNELS), compose)
    await EpisodeWriter(database.pool, "hook").enqueue("twin")
    assert (
        await claim_next(
            database.pool, always(CHANNELS), _composer_of(ToldItem(episode_id, 1, "firing", "warning", "firing"))
        )
        is None
    )
    assert await database.pool.fetchval("SELECT array_agg(group_key) FROM notification") == ["cold-room"]


async def test_message_loses_an_item_when_another_message_has_told_it(database: Database) -> None:
    episodes = EpisodeWriter(database.pool, "hook")
    told = await episodes.fire("cold-room", "freezer-1")
    await claim_next(database.pool, always(CHANNELS), compose)
    untold = await episodes.fire("twin", "freezer-2")
    items = [ToldItem(each, 1, "firing", "critical", "firing") for each in (told, untold)]
    claim = await claim_next(database.pool, always(CHANNELS), _composer_of(*items))
    assert claim is not None
    kept = await database.pool.fetch("SELECT episode_id FROM notification_item WHERE notification_id = $1", claim.id)
    assert [row["episode_id"] for row in kept] == [untold]
    assert tuple(await database.pool.fetchrow(TOLD, told) or ()) == ("firing", "warning")
    assert tuple(await database.pool.fetchrow(TOLD, untold) or ()) == ("firing", "critical")


async def test_reminder_can_be_told_again_and_does_not_change_told(database: Database) -> None:
    episodes = EpisodeWriter(database.pool, "hook")
    episode_id = await episodes.fire("cold-room", "freezer-1")
    await claim_next(database.pool, always(CHANNELS), compose)
    for _ in range(2):
        await database.pool.execute("UPDATE notification SET state = 'sent'")
        await episodes.enqueue("cold-room")
        reminding = _composer_of(ToldItem(episode_id, 1, "reminder", "critical", None))
        assert title(await claim_next(database.pool, always(CHANNELS), reminding)) == "Told"
    assert tuple(await database.pool.fetchrow(TOLD, episode_id) or ()) == ("firing", "warning")


async def test_title_begins_with_delayed_when_a_dead_letter_is_sent_again(database: Database) -> None:
    episodes = EpisodeWriter(database.pool, "hook")
    await episodes.fire("cold-room", "freezer-1")
    await database.pool.execute("UPDATE notification SET delayed_from = id")
    assert title(await claim_next(database.pool, always(CHANNELS), compose)) == "Delayed: freezer-1 firing"


async def test_message_is_postponed_and_the_next_is_claimed_when_it_cannot_be_composed(database: Database) -> None:
    episodes = EpisodeWriter(database.pool, "hook")
    await episodes.enqueue("faulty")
    await episodes.fire("cold-room", "freezer-1")

    async def compose_or_fail(connection: Connection, channel: str, group_key: str, at_once: bool) -> Composed | None:
        if group_key == "faulty":
            raise KeyError(group_key)
        return await compose(connection, channel, group_key, at_once)

    assert title(await claim_next(database.pool, always(CHANNELS), compose_or_fail)) == "freezer-1 firing"
    row = await database.pool.fetchrow(
        "SELECT state, error, round(extract(epoch FROM due_at - now())) AS in_s FROM notification "
        "WHERE group_key = 'faulty'"
    )
    assert tuple(row or ()) == ("waiting", "it could not be composed: KeyError", 60)


async def test_message_is_postponed_and_the_next_is_claimed_when_its_stored_text_cannot_be_read(
    database: Database,
) -> None:
    episodes = EpisodeWriter(database.pool, "hook")
    await episodes.fire("cold-room", "freezer-1")
    assert title(await claim_next(database.pool, always(CHANNELS), compose)) == "freezer-1 firing"
    await database.pool.execute("UPDATE notification SET text = '[1]', next_attempt_at = now()")  # of another version
    await episodes.fire("others", "freezer-2")
    assert title(await claim_next(database.pool, always(CHANNELS), compose)) == "freezer-2 firing"
    row = await database.pool.fetchrow(
        "SELECT error, round(extract(epoch FROM next_attempt_at - now())) AS in_s FROM notification "
        "WHERE group_key = 'cold-room'"
    )
    assert tuple(row or ()) == ("it could not be read: ValidationError", 60)


async def test_message_stays_due_when_its_episode_was_deleted_in_the_meantime(database: Database) -> None:
    await EpisodeWriter(database.pool, "hook").enqueue("cold-room")
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await claim_next(
            database.pool, always(CHANNELS), _composer_of(ToldItem(4_711, 1, "firing", "warning", "firing"))
        )
    row = await database.pool.fetchrow("SELECT state, due_at < now(), error FROM notification")
    assert tuple(row or ()) == ("waiting", True, None)


def _composer_of(*items: ToldItem) -> Compose:
    async def compose_items(connection: Connection, channel: str, group_key: str, at_once: bool) -> Composed:
        return Composed(Message(title="Told"), items)

    return compose_items
