"""What becomes of messages: what proves that nothing arrived takes back what was told, a lost answer does not."""

import pytest

from app.notify.attempts import Ended, bury_expired, name_outcome, put_back_stranded, record_attempt
from app.notify.channel_states import ChannelState, ChannelStates
from app.notify.channels import webhook
from app.notify.claims import Claim, claim_next
from app.notify.outbox import list_notifications
from app.notify.transport import Delivered, DeliveryError, PermanentError, TransientError, UncertainError
from tests.conftest import Database
from tests.notify.alerts import Alerts, compose

CONFIG = webhook.Config(url="http://127.0.0.1:1/hook")
REFUSED = PermanentError("the webhook answered 400", channel_broken=False)
BROKEN = PermanentError("the webhook answered 404", channel_broken=True)
FAILED = TransientError("the connection was refused")
LOST = UncertainError("no answer came in time")
LAST_ID = 2**63 - 1


def state() -> ChannelState:
    return ChannelStates(lambda: {"hook": (webhook, CONFIG)}, lambda name: ()).all()["hook"]


async def claim(database: Database) -> Claim:
    claimed = await claim_next(database.pool, {"hook": webhook}, compose)
    assert claimed is not None
    return claimed


async def end(database: Database, claimed: Claim, outcome: Delivered | DeliveryError, retry_in_s: float = 0.0) -> None:
    await record_attempt(database.pool, claimed, state(), Ended(outcome, 0.1, retry_in_s))


async def told(database: Database) -> list[tuple[str, str]]:
    rows = await database.pool.fetch("SELECT told, told_level FROM alert_told ORDER BY episode_id")
    return [(row["told"], row["told_level"]) for row in rows]


async def states(database: Database) -> list[str]:
    return [row["state"] for row in await database.pool.fetch("SELECT state FROM notification ORDER BY id")]


@pytest.mark.parametrize(
    ("outcome", "name"),
    [(Delivered(), "sent"), (REFUSED, "refused"), (BROKEN, "refused"), (FAILED, "failed"), (LOST, "unknown")],
)
def test_name_outcome_says_what_an_attempt_proved(outcome: Delivered | DeliveryError, name: str) -> None:
    assert name_outcome(outcome) == name


async def test_told_is_taken_back_and_can_be_told_again_when_the_message_is_refused(database: Database) -> None:
    alerts = Alerts(database.pool, "hook")
    episode_id = await alerts.fire("cold-room", "freezer-1")
    claimed = await claim(database)
    await database.pool.execute("UPDATE alert_episode SET settled = TRUE")
    await end(database, claimed, REFUSED)
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
    await alerts.tell("cold-room")
    await end(database, await claim(database), Delivered())
    assert await told(database) == [("firing", "warning")]
    assert await states(database) == ["dead", "sent"]


async def test_told_is_what_it_was_before_when_a_later_message_is_refused(database: Database) -> None:
    alerts = Alerts(database.pool, "hook")
    episode_id = await alerts.fire("cold-room", "freezer-1")
    await end(database, await claim(database), Delivered("17"))
    await alerts.raise_to(episode_id, "critical")
    claimed = await claim(database)
    assert await told(database) == [("firing", "critical")]
    await end(database, claimed, REFUSED)
    assert await told(database) == [("firing", "warning")]
    assert await database.pool.fetchval("SELECT message_ref FROM alert_told") == "17"


async def test_told_stays_when_an_answer_was_lost_before_the_refusal(database: Database) -> None:
    await Alerts(database.pool, "hook").fire("cold-room", "freezer-1")
    await end(database, await claim(database), LOST)
    again = await claim(database)
    assert again.attempt == 2
    await end(database, again, REFUSED)
    assert await told(database) == [("firing", "warning")]
    assert await states(database) == ["dead"]


async def test_told_stays_as_it_is_when_something_else_was_told_since(database: Database) -> None:
    await Alerts(database.pool, "hook").fire("cold-room", "freezer-1")
    claimed = await claim(database)
    await database.pool.execute("UPDATE alert_told SET told = 'resolved', told_at = clock_timestamp()")
    await end(database, claimed, REFUSED)
    assert await told(database) == [("resolved", "warning")]


async def test_message_is_tried_again_after_the_pause_when_it_failed(database: Database) -> None:
    await Alerts(database.pool, "hook").fire("cold-room", "freezer-1")
    first = await claim(database)
    await end(database, first, FAILED, retry_in_s=30.0)
    assert await claim_next(database.pool, {"hook": webhook}, compose) is None
    await database.pool.execute("UPDATE notification SET next_attempt_at = next_attempt_at - INTERVAL '30 seconds'")
    second = await claim(database)
    assert (second.id, second.rendered, second.attempt) == (first.id, first.rendered, 2)


@pytest.mark.parametrize(("outcome", "left"), [(FAILED, []), (LOST, [("firing", "warning")])])
async def test_message_dies_when_it_fails_past_its_deadline(
    database: Database, outcome: DeliveryError, left: list[tuple[str, str]]
) -> None:
    await Alerts(database.pool, "hook").fire("cold-room", "freezer-1")
    claimed = await claim(database)
    await _age(database)
    await end(database, claimed, outcome)
    assert await states(database) == ["dead"]
    assert await told(database) == left


async def test_message_dies_at_its_deadline_when_it_is_held_back_for_longer(database: Database) -> None:
    await Alerts(database.pool, "hook").fire("cold-room", "freezer-1")
    await end(database, await claim(database), FAILED, retry_in_s=7_200.0)
    await bury_expired(database.pool, ["hook"])
    assert await states(database) == ["sending"]
    await _age(database)
    await bury_expired(database.pool, ["hook"])
    assert await states(database) == ["dead"]
    assert await told(database) == []


async def test_message_is_tried_once_more_when_nobody_was_there_at_its_deadline(database: Database) -> None:
    await Alerts(database.pool, "hook").fire("cold-room", "freezer-1")
    await end(database, await claim(database), FAILED)
    await _age(database)
    await bury_expired(database.pool, ["hook"])
    assert (await claim(database)).attempt == 2


async def test_message_dies_at_its_deadline_when_its_channel_is_no_longer_configured(database: Database) -> None:
    await Alerts(database.pool, "hook").fire("cold-room", "freezer-1")
    await end(database, await claim(database), FAILED)
    await bury_expired(database.pool, [])
    assert await states(database) == ["sending"]
    await _age(database)
    await bury_expired(database.pool, [])
    assert await states(database) == ["dead"]


async def test_only_a_success_counts_when_another_process_has_taken_over(database: Database) -> None:
    await Alerts(database.pool, "hook").fire("cold-room", "freezer-1")
    first = await claim(database)
    await database.pool.execute("UPDATE notification SET next_attempt_at = now()")
    second = await claim(database)
    assert second.attempt == 2
    await end(database, first, REFUSED)
    assert await states(database) == ["sending"]
    await end(database, first, Delivered("17"))
    assert await states(database) == ["sent"]
    await end(database, second, FAILED)
    assert await states(database) == ["sent"]
    outcomes = await database.pool.fetchval("SELECT array_agg(outcome ORDER BY id) FROM notification_attempt")
    assert outcomes == ["unknown", "refused", "sent", "failed"]


async def test_messages_wait_and_told_is_taken_back_when_their_channel_breaks(database: Database) -> None:
    alerts = Alerts(database.pool, "hook")
    first, second = [await alerts.fire(rule, "freezer-1") for rule in ("one", "two")]
    between_attempts = await claim(database)
    await end(database, between_attempts, LOST, retry_in_s=60.0)
    await end(database, await claim(database), BROKEN)
    await alerts.resolve(second)
    await put_back_stranded(database.pool)
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


async def test_told_is_taken_back_when_the_lost_answer_was_one_from_before_the_channel_broke(
    database: Database,
) -> None:
    await Alerts(database.pool, "hook").fire("cold-room", "freezer-1")
    await end(database, await claim(database), LOST)
    await end(database, await claim(database), BROKEN)
    await put_back_stranded(database.pool)
    await database.pool.execute("DELETE FROM channel_state")
    await end(database, await claim(database), REFUSED)
    assert await states(database) == ["dead"]
    assert await told(database) == []


async def _age(database: Database) -> None:
    """Let the deadline of all claimed messages pass, and what they told with them."""
    await database.pool.execute("UPDATE notification SET claimed_at = claimed_at - INTERVAL '1 hour'")
    await database.pool.execute("UPDATE alert_told SET told_at = told_at - INTERVAL '1 hour'")
