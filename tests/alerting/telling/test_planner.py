"""What people hear of real readings: planned, composed and sent over real HTTP."""

from datetime import UTC, datetime

import pytest

from app.alerting.telling.decisions import decide, schedule
from app.alerting.telling.situation import load_situation
from app.clock import SECOND_US, now_us
from app.db.locks import lock_evaluation
from app.notify.outbox import enqueue
from tests.alerting.office import WARM, Office
from tests.notify.alerts import until
from tests.receivers import answers

#: An episode ends when it has been below 7 for four minutes, and begins after four minutes above 8.
SLOW = """
  - name: warm
    sensors: {metric: temperature}
    levels: {warning: {above: 8, for: 4m}}
    clear: {below: 7, for: 4m}
    group_by: [site]
    notify: [ops]
"""


async def test_group_is_told_once_when_its_wait_is_over(office: Office) -> None:
    await office.use(WARM)
    await office.upload("freezer-1", (3, 9))
    await office.tick()
    await office.upload("freezer-2", (2, 9.5), (1, 11))
    await office.tick()
    assert office.heard() == []
    await office.wait(0.5)
    assert office.heard() == ["warm · quay: firing [freezer-1 freezer-2]"]
    assert await office.told() == [("ops", "freezer-1", "firing", "warning"), ("ops", "freezer-2", "firing", "warning")]
    await office.wait(10)
    assert len(office.heard()) == 1


async def test_message_shows_the_value_of_the_moment_when_it_is_claimed(office: Office) -> None:
    await office.use(WARM)
    await office.upload("freezer-1", (3, 9))
    await office.tick()
    await office.upload("freezer-1", (1, 11.25))
    await office.tick()
    await office.wait(0.5)
    (entry,) = office.entries()
    assert (entry["value"], entry["threshold"], entry["over"], entry["until"]) == (11.25, "8", False, None)


async def test_critical_member_takes_the_whole_group_along_when_it_fires(office: Office) -> None:
    await office.use(WARM)
    await office.upload("freezer-1", (3, 9))
    await office.tick()
    await office.upload("freezer-2", (2, 13))
    await office.tick()
    assert office.heard() == ["warm · quay: firing [freezer-2 freezer-1]"]


async def test_raise_is_told_at_once_when_it_is_higher_than_any_told(office: Office) -> None:
    await office.use(WARM)
    await office.tell_firing()
    await office.upload("freezer-1", (1, 13))
    await office.tick()
    assert office.heard() == ["warm · quay: firing [freezer-1]", "warm · quay: raised [freezer-1]"]
    assert office.notes() == ["raised from warning to critical"]
    await office.upload("freezer-1", (0.5, 9))
    await office.tick()
    await office.wait(10)
    assert len(office.heard()) == 2


async def test_later_changes_are_told_together_when_their_turn_comes(office: Office) -> None:
    await office.use(WARM)
    await office.tell_firing()
    await office.upload("freezer-2", (2, 9))
    await office.tick()
    await office.upload("freezer-1", (1, 6))
    await office.tick()
    await office.wait(4)
    assert len(office.heard()) == 1
    await office.wait(1)
    assert office.heard()[1:] == ["warm · quay: firing, resolved [freezer-2 freezer-1]"]
    await office.upload("freezer-2", (1, 6))
    await office.tick()
    assert office.heard()[2:] == ["warm · quay: resolved [freezer-2]"]


async def test_what_came_and_went_before_anyone_was_told_makes_one_summary(office: Office) -> None:
    await office.use(WARM)
    await office.upload("freezer-1", (3, 9))
    await office.tick()
    await office.upload("freezer-1", (2, 6))
    await office.upload("freezer-2", (3, 9), (2, 9.5), (1, 6))
    await office.tick()
    await office.wait(1)
    assert office.heard() == ["warm · quay: over by now [freezer-1 freezer-2]"]
    assert all(note.startswith("reported at ") for note in office.notes())
    assert [entry["over"] for entry in office.entries()] == [True, True]
    await office.wait(300)
    assert len(office.heard()) == 1


async def test_both_messages_come_when_late_data_are_told_as_usual(office: Office) -> None:
    await office.use(WARM + "    late_data: {notify: normal}\n")
    await office.upload("freezer-1", (3, 9), (2, 6))
    await office.tick()
    await office.wait(1)
    await office.tick()
    assert office.heard() == ["warm · quay: firing [freezer-1]", "warm · quay: resolved [freezer-1]"]
    await office.wait(300)
    assert len(office.heard()) == 2


async def test_replay_in_order_makes_one_summary_when_a_day_is_uploaded_piece_by_piece(office: Office) -> None:
    await office.use(WARM)
    for hours_ago in range(20, 1, -1):
        await office.upload("freezer-1", (60 * hours_ago, 9), (60 * hours_ago - 30, 6))
        await office.tick()
        await office.wait(0.2)
    assert office.heard() == []
    await office.wait(1)
    assert office.heard() == [f"warm · quay: over by now [{' '.join(['freezer-1'] * 19)}]"]


async def test_replay_is_told_of_in_the_end_when_it_goes_on_for_long(office: Office) -> None:
    await office.use(WARM)
    await office.upload("freezer-1", (600, 9))
    for minutes_ago in range(590, 570, -1):
        await office.upload("freezer-1", (minutes_ago, 9))
        await office.tick()
        assert office.heard() == [] or minutes_ago < 582
        await office.wait(0.9)
    assert office.heard() == ["warm · quay: firing [freezer-1]"]


async def test_what_ended_longer_ago_than_accept_is_not_told_when_it_was_replayed_piece_by_piece(
    office: Office,
) -> None:
    await office.use(WARM)
    await office.upload("freezer-1", (60 * 50, 9))
    await office.tick()
    await office.upload("freezer-1", (60 * 49, 6))
    await office.tick()
    await office.wait(15)
    assert office.heard() == []
    assert await office.pool.fetchval("SELECT count(*) FROM alert_episode WHERE settled") == 1


async def test_history_stays_history_when_a_late_reading_changes_it(office: Office) -> None:
    await office.use(SLOW)
    silence_id = await office.silence(60, sensor="freezer-*")
    await office.upload("freezer-1", (30, 9), (25, 9), (20, 6), (15, 6))
    await office.tick()
    await office.pool.execute("DELETE FROM silence WHERE id = $1", silence_id)
    await office.wait(10)
    await office.upload("freezer-1", (31, 9))
    await office.tick()
    await office.wait(10)
    assert office.heard() == []


async def test_end_is_withdrawn_when_a_late_reading_shows_that_it_was_none(office: Office) -> None:
    await office.use(SLOW)
    await office.upload("freezer-1", (12, 9), (7, 9), (5, 6), (0.5, 6))
    await office.tick()
    await office.wait(1)
    assert office.heard() == ["warm · quay: over by now [freezer-1]"]
    await office.upload("freezer-1", (3, 9))
    await office.tick()
    await office.wait(5)
    assert office.heard()[1:] == ["warm · quay: firing again [freezer-1]"]
    assert office.notes() == ["the end that was told is withdrawn"]
    assert await office.told() == [("ops", "freezer-1", "firing", "warning")]
    await office.upload("freezer-1", (4, 6), (0.1, 6))
    await office.tick()
    assert await office.told() == [("ops", "freezer-1", "firing", "warning")]


async def test_alert_is_withdrawn_when_a_late_reading_shows_that_it_never_was(office: Office) -> None:
    await office.use(SLOW)
    await office.upload("freezer-1", (10, 9), (5, 9))
    await office.tick()
    await office.wait(1)
    await office.upload("freezer-1", (7, 5))
    await office.tick()
    assert office.heard() == ["warm · quay: firing [freezer-1]", "warm · quay: withdrawn [freezer-1]"]
    assert office.notes() == ["later readings show that it never was"]
    await office.wait(300)
    assert len(office.heard()) == 2


async def test_nobody_hears_anything_when_an_alert_that_nobody_was_told_of_is_taken_back(office: Office) -> None:
    await office.use(SLOW)
    await office.upload("freezer-1", (10, 9), (5, 9))
    await office.tick()
    await office.upload("freezer-1", (7, 5))
    await office.tick()
    await office.wait(10)
    assert office.heard() == []
    assert await office.pool.fetchval("SELECT count(*) FROM alert_episode") == 0


async def test_each_channel_reads_once_that_an_end_never_was_when_it_hears_something_next(office: Office) -> None:
    await office.use(SLOW.replace("[ops]", "[ops, duty]"))
    await office.upload("freezer-1", (12, 9), (8, 9), (6, 6), (1, 6))
    await office.tick()
    await office.wait(1)
    await office.upload("freezer-1", (10, 5))
    await office.tick()
    await office.wait(10)
    summary = ["warm · quay: over by now [freezer-1]"]
    assert (office.heard("ops"), office.heard("duty")) == (summary, summary)
    await office.upload("freezer-2", (9, 9), (1, 9))
    await office.tick()
    await office.wait(10)
    line = ["warm · quay: firing, withdrawn [freezer-2 freezer-1]"]
    assert (office.heard("ops")[1:], office.heard("duty")[1:]) == (line, line)
    await office.upload("freezer-3", (9, 9), (1, 9))
    await office.tick()
    await office.wait(10)
    assert office.heard("duty")[2:] == ["warm · quay: firing [freezer-3]"]


async def test_reminder_takes_along_what_waits_for_the_next_message(office: Office) -> None:
    await office.use(SLOW)
    await office.upload("freezer-1", (12, 9), (8, 9), (6, 6), (1, 6))
    await office.upload("freezer-2", (12, 9), (8, 9))
    await office.tick()
    await office.wait(1)
    assert office.heard() == ["warm · quay: firing, over by now [freezer-2 freezer-1]"]
    await office.upload("freezer-1", (10, 5))
    await office.tick()
    await office.wait(240)
    assert office.heard()[1:] == ["warm · quay: still firing, withdrawn [freezer-2 freezer-1]"]


async def test_level_tells_those_whom_it_names(office: Office) -> None:
    await office.use(WARM.replace("critical: {above: 12}", "critical: {above: 12, notify: [duty]}"))
    await office.tell_firing()
    await office.upload("freezer-1", (2, 13))
    await office.tick()
    assert (office.heard("ops"), office.heard("duty")) == (
        ["warm · quay: firing [freezer-1]"],
        ["warm · quay: firing [freezer-1]"],
    )
    await office.upload("freezer-1", (1, 6))
    await office.tick()
    assert (office.heard("ops")[1:], office.heard("duty")[1:]) == (
        ["warm · quay: resolved [freezer-1]"],
        ["warm · quay: resolved [freezer-1]"],
    )


async def test_refused_message_is_not_tried_again_all_the_time(office: Office) -> None:
    await office.use(WARM)
    office.receiver.fail_next(answers(400), 100)
    await office.upload("freezer-1", (3, 13))
    for _ in range(4):
        await office.tick()
    assert await office.pool.fetchval("SELECT count(*) FROM notification WHERE state = 'dead'") == 1
    await office.wait(5)
    assert await office.pool.fetchval("SELECT count(*) FROM notification WHERE state = 'dead'") == 2
    assert await office.told() == []


async def test_turn_counts_from_the_claim_when_the_service_is_slow(office: Office) -> None:
    await office.use(WARM)
    office.receiver.fail_next(answers(503, Retry_After="3000"))
    await office.upload("freezer-1", (3, 13))
    await office.alerting.tick(office.pool, 1)
    await until(office.pool, "SELECT EXISTS (SELECT FROM notification WHERE state = 'sending')")
    await office.upload("freezer-2", (2, 13))
    await office.alerting.tick(office.pool, 1)
    async with office.pool.acquire() as connection:
        situation = await load_situation(connection, office.alerting.keeper.rules, now_us())
    (due_us,) = schedule(situation, decide(situation)).values()
    assert 290 < (due_us - situation.now_us) / SECOND_US <= 300


async def test_message_keeps_its_turn_when_it_was_planned_while_another_was_claimed(office: Office) -> None:
    await office.use(WARM)
    await office.tell_firing()
    await office.upload("freezer-2", (2, 9))
    await office.alerting.tick(office.pool, 1)
    async with office.pool.acquire() as connection:
        await enqueue(connection, "ops", '["warm",["quay"]]', datetime.now(UTC))
    await office.deliver()
    await office.wait(3)
    assert office.heard() == ["warm · quay: firing [freezer-1]"]
    await office.wait(3)
    assert office.heard()[1:] == ["warm · quay: firing [freezer-2]"]


async def test_claim_waits_when_an_evaluation_is_under_way(office: Office) -> None:
    await office.use(WARM)
    async with office.pool.acquire() as connection, connection.transaction():
        await lock_evaluation(connection)
        await office.pool.execute("INSERT INTO notification (channel, group_key, due_at) VALUES ('ops', 'x', now())")
        office.dispatcher.wake()
        await until(office.pool, "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)")
        # An evaluation may still write to the outbox: the claim holds nothing yet.
        await connection.execute("SELECT FROM notification WHERE group_key = 'x' FOR UPDATE NOWAIT")
    await office.deliver()
    assert await office.pool.fetchval("SELECT count(*) FROM notification WHERE group_key = 'x'") == 0


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [("avg 10m", "°C", 10.0), ("rate 10m", "°C/h", 35.0), ("delta 10m", "°C", 3.5), ("max 10m", "°C", 12.5)],
)
async def test_message_shows_what_the_rule_looks_at(office: Office, value: str, unit: str, shown: float) -> None:
    levels = "levels: {warning: {above: 1}}\n    unit: " + f'"{unit}"\n    value: {value}'
    await office.use(WARM.replace("levels: {warning: {above: 8}, critical: {above: 12}}", levels))
    await office.upload("freezer-1", (7, 9), (5, 8.5), (3, 10), (1, 12.5))
    await office.tick()
    await office.wait(1)
    (entry,) = office.entries()
    assert (entry["value"], entry["unit"]) == (pytest.approx(shown), unit)
