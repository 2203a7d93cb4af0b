"""Results of attempts: `told` is restored when an attempt proves that nothing arrived, and kept after a lost answer."""

import pytest

from app.notify.channel_states import ChannelState, ChannelStates
from app.notify.channels import webhook
from app.notify.dispatch.attempts import (
    AttemptResult,
    give_up_expired,
    name_outcome,
    record_attempt,
    requeue_for_broken_channels,
)
from app.notify.dispatch.claims import Claim, claim_next
from app.notify.outbox import list_notifications
from app.notify.transport import Delivered, DeliveryError, PermanentError, TransientError, UncertainError
from tests.conftest import Database
from tests.notify.dispatchers import always
from tests.notify.episodes import EpisodeWriter, compose

CONFIG = webhook.Config(url="http://127.0.0.1:1/hook")
REFUSED = PermanentError("the webhook answered 400", channel_broken=False)
BROKEN = PermanentError("the webhook answered 404", channel_broken=True)
FAILED = TransientError("the connection was refused")
LOST = UncertainError("no answer came in time")
LAST_ID = 2**63 - 1


def channel_state() -> ChannelState:
    return ChannelStates(lambda: {"hook": (webhook, CONFIG)}, lambda name: ()).all()["hook"]


async def claim(database: Database) -> Claim:
    claimed = await claim_next(database.pool, always({"hook": webhook}), compose)
    assert claimed is not None
    return claimed


async def record(
    database: Database, claimed: Claim, outcome: Delivered | DeliveryError, retry_in_s: float = 0.0
) -> None:
    await record_attempt(database.pool, claimed, channel_state(), AttemptResult(outcome, 0.1, retry_in_s))


async def told(database: Database) -> list[tuple[str, str]]:
    rows = await database.pool.fetch("SELECT told, told_level FROM alert_told ORDER BY episode_id")
    return [(row["told"], row["told_level"]) for row in rows]


async def states(database: Database) -> list[str]:
    return [row["state"] for row in await database.pool.fetch("SELECT state FROM notification ORDER BY id")]


@pytest.mark.parametrize(
    ("outcome", "name"),
    [(Delivered(), "sent"), (REFUSED, "refused"), (BROKEN, "refused"), (FAILED, "failed"), (LOST, "unknown")],
)
def test_name_outcome_returns_what_an_attempt_proved(outcome: Delivered | DeliveryError, name: str) -> None:
    assert name_outcome(outcome) == name


async def test_told_is_restored_and_can_be_told_again_when_the_message_is_refused(database: Database) -> None:
    episodes = EpisodeWriter(database.pool, "hook")
    episode_id = await episodes.fire("cold-room", "freezer-1")
    claimed = await claim(database)
    await database.pool.execute("UPDATE alert_episode SET settled = TRUE")
    await record(database, claimed, REFUSED)
    assert await told(database) == []
    assert await database.pool.fetchval("SELECT settled FROM alert_episode") is False
    (dead,) = await list_notifications(database.pool, "dead", LAST_ID, 10)
    assert (dead.id, dead.error) == (claimed.id, "the webhook answered 400")
    assert [(item.episode_id, item.revision, item.kind, item.level) for item in dead.items] == [
        (episode_id, 1, "firing", "warning")
    ]
    assert [(attempt.outcome, attempt.error, attempt.seconds) for attempt in dead.attempts] == [
        ("refused", "the webhook answered 400", 0.1)
    ]
    await episodes.enqueue("cold-room")
    await record(database, await claim(database), Delivered())
    assert await told(database) == [("firing", "warning")]
    assert await states(database) == ["dead", "sent"]


async def test_told_is_restored_to_the_earlier_level_when_a_later_message_is_refused(database: Database) -> None:
    episodes = EpisodeWriter(database.pool, "hook")
    episode_id = await episodes.fire("cold-room", "freezer-1")
    await record(database, await claim(database), Delivered("17"))
    await episodes.raise_to(episode_id, "critical")
    claimed = await claim(database)
    assert await told(database) == [("firing", "critical")]
    await record(database, claimed, REFUSED)
    assert await told(database) == [("firing", "warning")]
    assert await database.pool.fetchval("SELECT message_ref FROM alert_told") == "17"


async def test_told_stays_when_an_answer_was_lost_before_the_refusal(database: Database) -> None:
    await EpisodeWriter(database.pool, "hook").fire("cold-room", "freezer-1")
    await record(database, await claim(database), LOST)
    again = await claim(database)
    assert again.attempt == 2
    await record(database, again, REFUSED)
    assert await told(database) == [("firing", "warning")]
    assert await states(database) == ["dead"]


async def test_told_stays_when_another_message_has_changed_it_since(database: Database) -> None:
    await EpisodeWriter(database.pool, "hook").fire("cold-room", "freezer-1")
    claimed = await claim(database)
    await database.pool.execute("UPDATE alert_told SET told = 'resolved', told_at = clock_timestamp()")
    await record(database, claimed, REFUSED)
    assert await told(database) == [("resolved", "warning")]


async def test_message_is_sent_again_after_the_pause_when_it_failed(database: Database) -> None:
    await EpisodeWriter(database.pool, "hook").fire("cold-room", "freezer-1")
    first = await claim(database)
    await record(database, first, FAILED, retry_in_s=30.0)
    assert await claim_next(database.pool, always({"hook": webhook}), compose) is None
    await database.pool.execute("UPDATE notification SET next_attempt_at = next_attempt_at - INTERVAL '30 seconds'")
    second = await claim(database)
    assert (second.id, second.rendered, second.attempt) == (first.id, first.rendered, 2)


@pytest.mark.parametrize(("outcome", "left"), [(FAILED, []), (LOST, [("firing", "warning")])])
async def test_message_becomes_a_dead_letter_when_it_fails_past_its_deadline(
    database: Database, outcome: DeliveryError, left: list[tuple[str, str]]
) -> None:
    await EpisodeWriter(database.pool, "hook").fire("cold-room", "freezer-1")
    claimed = await claim(database)
    await _age_by_an_hour(database)
    await record(database, claimed, outcome)
    assert await states(database) == ["dead"]
    assert await told(database) == left


async def test_message_becomes_a_dead_letter_at_its_deadline_when_its_next_attempt_is_later(database: Database) -> None:
    await EpisodeWriter(database.pool, "hook").fire("cold-room", "freezer-1")
    await record(database, await claim(database), FAILED, retry_in_s=7_200.0)
    await give_up_expired(database.pool, ["hook"])
    assert await states(database) == ["sending"]
    await _age_by_an_hour(database)
    await give_up_expired(database.pool, ["hook"])
    assert await states(database) == ["dead"]
    assert await told(database) == []


async def test_message_gets_one_more_attempt_when_no_dispatcher_ran_at_its_deadline(database: Database) -> None:
    await EpisodeWriter(database.pool, "hook").fire("cold-room", "freezer-1")
    await record(database, await claim(database), FAILED)
    await _age_by_an_hour(database)
    await give_up_expired(database.pool, ["hook"])
    assert (await claim(database)).attempt == 2


async def test_message_becomes_a_dead_letter_at_its_deadline_when_its_channel_is_no_longer_configured(
    database: Database,
) -> None:
    await EpisodeWriter(database.pool, "hook").fire("cold-room", "freezer-1")
    await record(database, await claim(database), FAILED)
    await give_up_expired(database.pool, [])
    assert await states(database) == ["sending"]
    await _age_by_an_hour(database)
    await give_up_expired(database.pool, [])
    assert await states(database) == ["dead"]


async def test_only_a_success_counts_when_another_process_has_taken_over(database: Database) -> None:
    await EpisodeWriter(database.pool, "hook").fire("cold-room", "freezer-1")
    first = await claim(database)
    await database.pool.execute("UPDATE notification SET next_attempt_at = now()")
    second = await claim(database)
    assert second.attempt == 2
    await record(database, first, REFUSED)
    assert await states(database) == ["sending"]
    await record(database, first, Delivered("17"))
    assert await states(database) == ["sent"]
    await record(database, second, FAILED)
    assert await states(database) == ["sent"]
    outcomes = await database.pool.fetchval("SELECT array_agg(outcome ORDER BY id) FROM notification_attempt")
    assert outcomes == ["unknown", "refused", "sent", "failed"]


async def test_dead_letter_stays_dead_when_the_answer_to_an_earlier_attempt_comes_late(database: Database) -> None:
    await EpisodeWriter(database.pool, "hook").fire("cold-room", "freezer-1")
    late = await claim(database)
    await database.pool.execute("UPDATE notification SET next_attempt_at = now()")
    await record(database, await claim(database), REFUSED)
    for outcome in (Delivered("17"), FAILED):
        await record(database, late, outcome)
        assert await states(database) == ["dead"]
    assert await database.pool.fetchval("SELECT error FROM notification") == "the webhook answered 400"


async def test_messages_wait_and_told_is_restored_when_their_channel_breaks(database: Database) -> None:
    episodes = EpisodeWriter(database.pool, "hook")
    first, second = [await episodes.fire(rule, "freezer-1") for rule in ("one", "two")]
    between_attempts = await claim(database)
    await record(database, between_attempts, LOST, retry_in_s=60.0)
    await record(database, await claim(database), BROKEN)
    await episodes.resolve(second)
    await requeue_for_broken_channels(database.pool)
    assert await states(database) == ["waiting", "waiting"]
    assert await told(database) == []
    attempts = await database.pool.fetch(
        "SELECT group_key, outcome, text IS NULL AS is_untold FROM notification_attempt "
        "JOIN notification ON notification.id = notification_id ORDER BY group_key"
    )
    assert [tuple(row) for row in attempts] == [("one", "unknown", True), ("two", "refused", True)]
    await database.pool.execute("DELETE FROM channel_state")
    titles = {(await claim(database)).rendered.body["title"] for _ in (first, second)}
    assert titles == {"freezer-1 firing", "freezer-1 summary"}


async def test_told_is_restored_when_the_only_lost_answer_was_from_before_the_channel_broke(
    database: Database,
) -> None:
    await EpisodeWriter(database.pool, "hook").fire("cold-room", "freezer-1")
    await record(database, await claim(database), LOST)
    await record(database, await claim(database), BROKEN)
    await requeue_for_broken_channels(database.pool)
    await database.pool.execute("DELETE FROM channel_state")
    await record(database, await claim(database), REFUSED)
    assert await states(database) == ["dead"]
    assert await told(database) == []


async def _age_by_an_hour(database: Database) -> None:
    """Move the claims of all messages, and what they told, an hour into the past: their deadlines are over."""
    await database.pool.execute("UPDATE notification SET claimed_at = claimed_at - INTERVAL '1 hour'")
    await database.pool.execute("UPDATE alert_told SET told_at = told_at - INTERVAL '1 hour'")
