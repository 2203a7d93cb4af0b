"""Messages about stored readings: planned, composed and sent over real HTTP."""

from datetime import UTC, datetime

import pytest

from app.alerting.telling.decisions import decide, schedule
from app.alerting.telling.situation import load_situation
from app.clock import SECOND_US, now_us
from app.db.rights.locks import lock_evaluation
from app.notify.outbox import enqueue
from tests.alerting.harness import WARM, AlertingHarness
from tests.notify.dispatchers import until
from tests.receivers import answers

#: An episode fires after four minutes above 8 and ends after four minutes below 7.
SLOW = """
  - name: warm
    sensors: {metric: temperature}
    levels: {warning: {above: 8, for: 4m}}
    clear: {below: 7, for: 4m}
    group_by: [site]
    notify: [ops]
"""


async def test_group_is_told_once_when_its_wait_is_over(harness: AlertingHarness) -> None:
    await harness.use_rules(WARM)
    await harness.upload("freezer-1", (3, 9))
    await harness.tick()
    await harness.upload("freezer-2", (2, 9.5), (1, 11))
    await harness.tick()
    assert harness.messages() == []
    await harness.advance(0.5)
    assert harness.messages() == ["2 warning: warm · quay [freezer-1 freezer-2]"]
    assert await harness.told() == [
        ("ops", "freezer-1", "firing", "warning"),
        ("ops", "freezer-2", "firing", "warning"),
    ]
    await harness.advance(10)
    assert len(harness.messages()) == 1


async def test_message_shows_the_value_at_the_time_of_the_claim(harness: AlertingHarness) -> None:
    await harness.use_rules(WARM)
    await harness.upload("freezer-1", (3, 9))
    await harness.tick()
    await harness.upload("freezer-1", (1, 11.25))
    await harness.tick()
    await harness.advance(0.5)
    (entry,) = harness.entries()
    assert (entry["value"], entry["threshold"], entry["over"], entry["until"]) == (11.25, "8", False, None)


async def test_whole_group_is_told_at_once_when_a_member_is_critical(harness: AlertingHarness) -> None:
    await harness.use_rules(WARM)
    await harness.upload("freezer-1", (3, 9))
    await harness.tick()
    await harness.upload("freezer-2", (2, 13))
    await harness.tick()
    assert harness.messages() == ["1 critical, 1 warning: warm · quay [freezer-2 freezer-1]"]


async def test_raise_is_told_at_once_when_its_level_is_higher_than_any_told(harness: AlertingHarness) -> None:
    await harness.use_rules(WARM)
    await harness.notify_firing()
    await harness.upload("freezer-1", (1, 13))
    await harness.tick()
    assert harness.messages() == ["1 warning: warm · quay [freezer-1]", "1 critical: warm · quay [freezer-1]"]
    assert harness.notes() == ["raised from warning to critical"]
    await harness.upload("freezer-1", (0.5, 9))
    await harness.tick()
    await harness.advance(10)
    assert len(harness.messages()) == 2


async def test_later_changes_are_told_together_when_update_every_is_over(harness: AlertingHarness) -> None:
    await harness.use_rules(WARM)
    await harness.notify_firing()
    await harness.upload("freezer-2", (2, 9))
    await harness.tick()
    await harness.upload("freezer-1", (1, 6))
    await harness.tick()
    await harness.advance(4)
    assert len(harness.messages()) == 1
    await harness.advance(1)
    assert harness.messages()[1:] == ["1 warning, 1 resolved: warm · quay [freezer-2 freezer-1]"]
    await harness.upload("freezer-2", (1, 6))
    await harness.tick()
    assert harness.messages()[2:] == ["1 resolved: warm · quay [freezer-2]"]


async def test_episodes_get_one_summary_when_they_ended_before_any_message(harness: AlertingHarness) -> None:
    await harness.use_rules(WARM)
    await harness.upload("freezer-1", (3, 9))
    await harness.tick()
    await harness.upload("freezer-1", (2, 6))
    await harness.upload("freezer-2", (3, 9), (2, 9.5), (1, 6))
    await harness.tick()
    await harness.advance(1)
    assert harness.messages() == ["2 over: warm · quay [freezer-1 freezer-2]"]
    assert all(note.startswith("reported at ") for note in harness.notes())
    assert [entry["over"] for entry in harness.entries()] == [True, True]
    await harness.advance(300)
    assert len(harness.messages()) == 1


async def test_firing_and_resolved_are_both_told_when_late_data_says_normal(harness: AlertingHarness) -> None:
    await harness.use_rules(WARM + "    late_data: {notify: normal}\n")
    await harness.upload("freezer-1", (3, 9), (2, 6))
    await harness.tick()
    await harness.advance(1)
    await harness.tick()
    assert harness.messages() == ["1 over: warm · quay [freezer-1]", "1 resolved: warm · quay [freezer-1]"]
    await harness.advance(300)
    assert len(harness.messages()) == 2


async def test_buffered_day_gets_one_summary_when_it_is_uploaded_in_pieces(
    harness: AlertingHarness,
) -> None:
    await harness.use_rules(WARM)
    for hours_ago in range(20, 1, -1):
        await harness.upload("freezer-1", (60 * hours_ago, 9), (60 * hours_ago - 30, 6))
        await harness.tick()
        await harness.advance(0.2)
    assert harness.messages() == []
    await harness.advance(1)
    assert harness.messages() == [f"1 over: warm · quay [{' '.join(['freezer-1'] * 19)}]"]


async def test_buffered_upload_is_told_after_ten_minutes_when_it_continues(harness: AlertingHarness) -> None:
    await harness.use_rules(WARM)
    await harness.upload("freezer-1", (600, 9))
    for minutes_ago in range(590, 570, -1):
        await harness.upload("freezer-1", (minutes_ago, 9))
        await harness.tick()
        assert harness.messages() == [] or minutes_ago < 582
        await harness.advance(0.9)
    assert harness.messages() == ["1 warning: warm · quay [freezer-1]"]


async def test_ended_episode_is_not_told_when_its_end_is_older_than_accept(
    harness: AlertingHarness,
) -> None:
    await harness.use_rules(WARM)
    await harness.upload("freezer-1", (60 * 50, 9))
    await harness.tick()
    await harness.upload("freezer-1", (60 * 49, 6))
    await harness.tick()
    await harness.advance(15)
    assert harness.messages() == []
    assert await harness.pool.fetchval("SELECT count(*) FROM alert_episode WHERE settled") == 1


async def test_settled_episode_stays_settled_when_a_late_reading_moves_its_start(harness: AlertingHarness) -> None:
    await harness.use_rules(SLOW)
    silence_id = await harness.silence(60, sensor="freezer-*")
    await harness.upload("freezer-1", (30, 9), (25, 9), (20, 6), (15, 6))
    await harness.tick()
    await harness.pool.execute("DELETE FROM silence WHERE id = $1", silence_id)
    await harness.advance(10)
    await harness.upload("freezer-1", (31, 9))
    await harness.tick()
    await harness.advance(10)
    assert harness.messages() == []


async def test_end_is_withdrawn_when_a_late_reading_shows_that_the_episode_goes_on(harness: AlertingHarness) -> None:
    await harness.use_rules(SLOW)
    await harness.upload("freezer-1", (12, 9), (7, 9), (5, 6), (0.5, 6))
    await harness.tick()
    await harness.advance(1)
    assert harness.messages() == ["1 over: warm · quay [freezer-1]"]
    await harness.upload("freezer-1", (3, 9))
    await harness.tick()
    await harness.advance(5)
    assert harness.messages()[1:] == ["1 warning again: warm · quay [freezer-1]"]
    assert harness.notes() == ["the end that was told is withdrawn"]
    assert await harness.told() == [("ops", "freezer-1", "firing", "warning")]
    await harness.upload("freezer-1", (4, 6), (0.1, 6))
    await harness.tick()
    assert await harness.told() == [("ops", "freezer-1", "firing", "warning")]


async def test_alert_is_withdrawn_when_a_late_reading_removes_its_episode(harness: AlertingHarness) -> None:
    await harness.use_rules(SLOW)
    await harness.upload("freezer-1", (10, 9), (5, 9))
    await harness.tick()
    await harness.advance(1)
    await harness.upload("freezer-1", (7, 5))
    await harness.tick()
    assert harness.messages() == ["1 warning: warm · quay [freezer-1]", "1 withdrawn: warm · quay [freezer-1]"]
    assert harness.notes() == ["later readings show that it did not happen"]
    await harness.advance(300)
    assert len(harness.messages()) == 2


async def test_nothing_is_sent_when_a_late_reading_removes_an_untold_episode(
    harness: AlertingHarness,
) -> None:
    await harness.use_rules(SLOW)
    await harness.upload("freezer-1", (10, 9), (5, 9))
    await harness.tick()
    await harness.upload("freezer-1", (7, 5))
    await harness.tick()
    await harness.advance(10)
    assert harness.messages() == []
    assert await harness.pool.fetchval("SELECT count(*) FROM alert_episode") == 0


async def test_withdrawn_item_comes_once_with_the_next_message_of_each_channel(
    harness: AlertingHarness,
) -> None:
    await harness.use_rules(SLOW.replace("[ops]", "[ops, duty]"))
    await harness.upload("freezer-1", (12, 9), (8, 9), (6, 6), (1, 6))
    await harness.tick()
    await harness.advance(1)
    await harness.upload("freezer-1", (10, 5))
    await harness.tick()
    await harness.advance(10)
    summary = ["1 over: warm · quay [freezer-1]"]
    assert (harness.messages("ops"), harness.messages("duty")) == (summary, summary)
    await harness.upload("freezer-2", (9, 9), (1, 9))
    await harness.tick()
    await harness.advance(10)
    line = ["1 warning, 1 withdrawn: warm · quay [freezer-2 freezer-1]"]
    assert (harness.messages("ops")[1:], harness.messages("duty")[1:]) == (line, line)
    await harness.upload("freezer-3", (9, 9), (1, 9))
    await harness.tick()
    await harness.advance(10)
    assert harness.messages("duty")[2:] == ["1 warning: warm · quay [freezer-3]"]


async def test_withdrawn_item_comes_with_a_reminder_when_that_is_the_next_message(harness: AlertingHarness) -> None:
    await harness.use_rules(SLOW)
    await harness.upload("freezer-1", (12, 9), (8, 9), (6, 6), (1, 6))
    await harness.upload("freezer-2", (12, 9), (8, 9))
    await harness.tick()
    await harness.advance(1)
    assert harness.messages() == ["1 warning, 1 over: warm · quay [freezer-2 freezer-1]"]
    await harness.upload("freezer-1", (10, 5))
    await harness.tick()
    await harness.advance(240)
    assert harness.messages()[1:] == ["1 warning still firing, 1 withdrawn: warm · quay [freezer-2 freezer-1]"]


async def test_level_notifies_its_own_channels_and_each_gets_the_end(harness: AlertingHarness) -> None:
    await harness.use_rules(WARM.replace("critical: {above: 12}", "critical: {above: 12, notify: [duty]}"))
    await harness.notify_firing()
    await harness.upload("freezer-1", (2, 13))
    await harness.tick()
    assert (harness.messages("ops"), harness.messages("duty")) == (
        ["1 warning: warm · quay [freezer-1]"],
        ["1 critical: warm · quay [freezer-1]"],
    )
    await harness.upload("freezer-1", (1, 6))
    await harness.tick()
    assert (harness.messages("ops")[1:], harness.messages("duty")[1:]) == (
        ["1 resolved: warm · quay [freezer-1]"],
        ["1 resolved: warm · quay [freezer-1]"],
    )


async def test_refused_message_is_planned_again_only_after_update_every(harness: AlertingHarness) -> None:
    await harness.use_rules(WARM)
    harness.receiver.fail_next(answers(400), 100)
    await harness.upload("freezer-1", (3, 13))
    for _ in range(4):
        await harness.tick()
    assert await harness.pool.fetchval("SELECT count(*) FROM notification WHERE state = 'dead'") == 1
    await harness.advance(5)
    assert await harness.pool.fetchval("SELECT count(*) FROM notification WHERE state = 'dead'") == 2
    assert await harness.told() == []


async def test_update_every_counts_from_the_claim_when_the_delivery_is_slow(harness: AlertingHarness) -> None:
    await harness.use_rules(WARM)
    harness.receiver.fail_next(answers(503, Retry_After="3000"))
    await harness.upload("freezer-1", (3, 13))
    await harness.alerting.tick(harness.pool, 1)
    await until(harness.pool, "SELECT EXISTS (SELECT FROM notification WHERE state = 'sending')")
    await harness.upload("freezer-2", (2, 13))
    await harness.alerting.tick(harness.pool, 1)
    async with harness.pool.acquire() as connection:
        situation = await load_situation(connection, harness.alerting.keeper.rules, now_us())
    (due_us,) = schedule(situation, decide(situation)).values()
    assert 290 < (due_us - situation.now_us) / SECOND_US <= 300


async def test_message_waits_for_update_every_when_it_was_planned_during_a_claim(harness: AlertingHarness) -> None:
    await harness.use_rules(WARM)
    await harness.notify_firing()
    await harness.upload("freezer-2", (2, 9))
    await harness.alerting.tick(harness.pool, 1)
    async with harness.pool.acquire() as connection:
        await enqueue(connection, "ops", '["warm",["quay"]]', datetime.now(UTC))
    await harness.deliver()
    await harness.advance(3)
    assert harness.messages() == ["1 warning: warm · quay [freezer-1]"]
    await harness.advance(3)
    assert harness.messages()[1:] == ["1 warning: warm · quay [freezer-2]"]


async def test_claim_waits_when_an_evaluation_is_under_way(harness: AlertingHarness) -> None:
    await harness.use_rules(WARM)
    async with harness.pool.acquire() as connection, connection.transaction():
        await lock_evaluation(connection)
        await harness.pool.execute("INSERT INTO notification (channel, group_key, due_at) VALUES ('ops', 'x', now())")
        harness.dispatcher.wake()
        await until(harness.pool, "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'relation' AND NOT granted)")
        # An evaluation may still write to the outbox: the claim holds nothing yet.
        await connection.execute("SELECT FROM notification WHERE group_key = 'x' FOR UPDATE NOWAIT")
    await harness.deliver()
    assert await harness.pool.fetchval("SELECT count(*) FROM notification WHERE group_key = 'x'") == 0


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [("avg 10m", "°C", 10.0), ("rate 10m", "°C/h", 35.0), ("delta 10m", "°C", 3.5), ("max 10m", "°C", 12.5)],
)
async def test_message_shows_the_rules_sample_when_its_value_has_a_window(
    harness: AlertingHarness, value: str, unit: str, shown: float
) -> None:
    levels = "levels: {warning: {above: 1}}\n    unit: " + f'"{unit}"\n    value: {value}'
    await harness.use_rules(WARM.replace("levels: {warning: {above: 8}, critical: {above: 12}}", levels))
    await harness.upload("freezer-1", (7, 9), (5, 8.5), (3, 10), (1, 12.5))
    await harness.tick()
    await harness.advance(1)
    (entry,) = harness.entries()
    assert (entry["value"], entry["unit"]) == (pytest.approx(shown), unit)
