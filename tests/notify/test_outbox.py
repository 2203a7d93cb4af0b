"""The outbox on a real database: enqueueing, resending, listing and pruning."""

from datetime import UTC, datetime, timedelta

import pytest

from app.errors import ConflictError, NotFoundError
from app.notify.channel_states import ChannelStates
from app.notify.channels import webhook
from app.notify.dispatch.attempts import AttemptResult, record_attempt
from app.notify.dispatch.claims import claim_next
from app.notify.outbox import enqueue, list_notifications, prune_notifications, resend
from app.notify.sql import SQL
from app.notify.transport import Delivered, DeliveryError, PermanentError, UncertainError
from tests.conftest import Database
from tests.notify.dispatchers import always
from tests.notify.episodes import EpisodeWriter, compose

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
CHANNELS = {"hook": webhook}
WEBHOOK = ChannelStates(lambda: {"hook": (webhook, webhook.Config(url="http://127.0.0.1:1/"))}, lambda name: ()).all()[
    "hook"
]
REFUSED = PermanentError("the webhook answered 400", channel_broken=False)
LOST = UncertainError("no answer came in time")
LAST_ID = 2**63 - 1


async def deliver(database: Database, *outcomes: Delivered | DeliveryError) -> int:
    """Claim the first message and record these outcomes of its attempts; return its id."""
    notification_id = 0
    for outcome in outcomes:
        claim = await claim_next(database.pool, always(CHANNELS), compose)
        assert claim is not None
        notification_id = claim.id
        await record_attempt(database.pool, claim, WEBHOOK, AttemptResult(outcome, 0.1, 0.0))
    return notification_id


async def waiting(database: Database) -> list[tuple[object, ...]]:
    rows = await database.pool.fetch(
        "SELECT channel, group_key, due_at FROM notification WHERE state = 'waiting' ORDER BY id"
    )
    return [tuple(row) for row in rows]


@pytest.mark.parametrize(("minutes", "due_in"), [((5, 3), 3), ((3, 5), 3), ((3, 3), 3)])
async def test_enqueue_keeps_one_message_with_the_earlier_time_when_one_waits_already(
    database: Database, minutes: tuple[int, int], due_in: int
) -> None:
    async with database.pool.acquire() as connection:
        for each in minutes:
            await enqueue(connection, "ops", "cold-room", NOON + timedelta(minutes=each))
    assert await waiting(database) == [("ops", "cold-room", NOON + timedelta(minutes=due_in))]


async def test_enqueue_makes_a_message_for_each_channel_and_group(database: Database) -> None:
    pairs = [("ops", "a"), ("ops", "b"), ("duty", "a")]
    async with database.pool.acquire() as connection:
        for channel, group_key in pairs:
            await enqueue(connection, channel, group_key, NOON)
    assert await waiting(database) == [(*pair, NOON) for pair in pairs]


async def test_enqueue_makes_another_message_when_one_is_being_sent(database: Database) -> None:
    episodes = EpisodeWriter(database.pool, "hook")
    await episodes.fire("cold-room", "freezer-1")
    await claim_next(database.pool, always(CHANNELS), compose)
    await episodes.enqueue("cold-room")
    await episodes.enqueue("cold-room")
    states = await database.pool.fetchval("SELECT array_agg(state ORDER BY id) FROM notification")
    assert states == ["sending", "waiting"]


async def test_resend_tells_what_is_still_true_when_the_message_was_refused(database: Database) -> None:
    episodes = EpisodeWriter(database.pool, "hook")
    still_firing = await episodes.fire("cold-room", "freezer-1")
    over = await episodes.fire("cold-room", "freezer-2")
    dead_id = await deliver(database, REFUSED)
    await database.pool.execute("UPDATE alert_episode SET resolved_at = now(), revision = 2 WHERE id = $1", over)
    new_id = await resend(database.pool, dead_id)
    claim = await claim_next(database.pool, always(CHANNELS), compose)
    assert claim is not None
    assert (claim.id, claim.rendered.body["title"]) == (new_id, "Delayed: freezer-1 firing, freezer-2 summary")
    told = await database.pool.fetch("SELECT episode_id, told FROM alert_told ORDER BY episode_id")
    assert [tuple(row) for row in told] == [(still_firing, "firing"), (over, "resolved")]
    (replaced,) = await list_notifications(database.pool, "failed", LAST_ID, 10)
    assert replaced.id == dead_id
    (sending,) = await list_notifications(database.pool, "sending", LAST_ID, 10)
    assert sending.delayed_from == dead_id


async def test_resend_tells_the_same_again_when_an_answer_was_lost(database: Database) -> None:
    await EpisodeWriter(database.pool, "hook").fire("cold-room", "freezer-1")
    dead_id = await deliver(database, LOST, REFUSED)
    assert await database.pool.fetchval("SELECT told FROM alert_told") == "firing"
    await resend(database.pool, dead_id)
    claim = await claim_next(database.pool, always(CHANNELS), compose)
    assert claim is not None
    assert claim.rendered.body["title"] == "Delayed: freezer-1 firing"
    (dead,) = await list_notifications(database.pool, "failed", LAST_ID, 10)
    assert [item.kind for item in dead.items] == ["firing"]


async def test_resend_uses_the_waiting_message_when_there_is_one(database: Database) -> None:
    episodes = EpisodeWriter(database.pool, "hook")
    await episodes.fire("cold-room", "freezer-1")
    dead_id = await deliver(database, REFUSED)
    await episodes.enqueue("cold-room")
    new_id = await resend(database.pool, dead_id)
    row = await database.pool.fetchrow("SELECT id, delayed_from, due_at FROM notification WHERE state = 'waiting'")
    assert tuple(row or ()) == (new_id, dead_id, datetime(2026, 1, 1, tzinfo=UTC))


async def test_resend_is_refused_when_the_message_is_not_dead(database: Database) -> None:
    await EpisodeWriter(database.pool, "hook").fire("cold-room", "freezer-1")
    sent_id = await deliver(database, Delivered())
    with pytest.raises(ConflictError, match=f"Notification {sent_id} is sent; only dead ones can be sent anew"):
        await resend(database.pool, sent_id)
    with pytest.raises(NotFoundError, match="There is no notification 4711"):
        await resend(database.pool, 4_711)


async def test_list_notifications_returns_a_page_newest_first(database: Database) -> None:
    episodes = EpisodeWriter(database.pool, "hook")
    ids = []
    for rule in ("one", "two", "three"):
        await episodes.fire(rule, "freezer-1")
        ids.append(await deliver(database, Delivered()))
    page = await list_notifications(database.pool, "sent", LAST_ID, 2)
    assert [(each.id, each.group) for each in page] == [(ids[2], "three"), (ids[1], "two")]
    rest = await list_notifications(database.pool, "sent", page[-1].id, 2)
    assert [(each.id, each.group) for each in rest] == [(ids[0], "one")]
    assert rest[0].body["title"] == "freezer-1 firing"
    assert [item.kind for item in rest[0].items] == ["firing"]
    assert [attempt.outcome for attempt in rest[0].attempts] == ["sent"]


async def test_prune_deletes_sent_messages_after_30_days_and_dead_letters_after_90_days(database: Database) -> None:
    await database.pool.execute(
        """
        INSERT INTO notification (channel, group_key, state, due_at, finished_at)
        SELECT 'hook', state || age, state, now(), now() - make_interval(days => age)
          FROM unnest(ARRAY['sent', 'dead', 'failed']) AS state, unnest(ARRAY[29, 31, 89, 91]) AS age;
        INSERT INTO notification (channel, group_key, state, due_at) VALUES ('hook', 'waits', 'waiting', '2020-01-01Z');
        """
    )
    await prune_notifications(database.pool)
    kept = await database.pool.fetch("SELECT group_key FROM notification ORDER BY 1")
    assert [row["group_key"] for row in kept] == [
        *("dead29", "dead31", "dead89", "failed29", "failed31", "failed89", "sent29", "waits")
    ]


async def test_prune_keeps_a_dead_letter_until_the_message_that_replaced_it_is_deleted(database: Database) -> None:
    await database.pool.execute(
        """
        WITH dead AS (
            INSERT INTO notification (channel, group_key, state, due_at, finished_at)
            VALUES ('hook', 'old', 'failed', now(), now() - INTERVAL '91 days') RETURNING id
        )
        INSERT INTO notification (channel, group_key, state, due_at, finished_at, delayed_from)
        SELECT 'hook', 'new', 'sent', now(), now() - INTERVAL '20 days', id FROM dead
        """
    )
    await prune_notifications(database.pool)
    assert await database.pool.fetchval("SELECT count(*) FROM notification") == 2
    await prune_notifications(database.pool, sent_age=timedelta(days=10))
    await prune_notifications(database.pool)
    assert await database.pool.fetchval("SELECT count(*) FROM notification") == 0


async def test_queries_fit_the_schema(database: Database) -> None:
    async with database.pool.acquire() as connection:
        for query in SQL.values():
            await connection.prepare(query)
