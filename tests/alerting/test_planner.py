"""What people hear of real readings: planned, composed and sent over real HTTP."""

from typing import Any

import pytest

from app.alerting.evaluator import SQL
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


async def silence(office: Office, minutes: float, **matchers: Any) -> int:
    silence_id: int = await office.pool.fetchval(
        "INSERT INTO silence (matchers, starts_at, ends_at, author) "
        "VALUES ($1, now(), now() + $2 * INTERVAL '1 minute', 'anna') RETURNING id",
        matchers,
        minutes,
    )
    return silence_id


async def ack(office: Office, sensor: str) -> None:
    episode_id = await office.pool.fetchval(
        """SELECT episode.id
             FROM alert_episode AS episode
             JOIN series ON series.id = episode.series_id
             JOIN sensor ON sensor.id = series.sensor_id
            WHERE sensor.name = $1""",
        sensor,
    )
    assert await office.pool.fetchval(SQL["ack_episode"], episode_id, "anna") == episode_id


async def tell_firing(office: Office, sensor: str = "freezer-1", value: float = 9) -> None:
    """Let a sensor's alert fire, and people be told."""
    await office.upload(sensor, (3, value))
    await office.tick()
    await office.wait(1)


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
    await tell_firing(office)
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
    await tell_firing(office)
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
    silence_id = await silence(office, 60, sensor="freezer-*")
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


async def test_silence_holds_the_beginning_and_tells_it_when_it_ends(office: Office) -> None:
    await office.use(WARM)
    await silence(office, 20, rule="warm")
    await tell_firing(office, value=13)
    assert office.heard() == []
    await office.wait(20)
    assert office.heard() == ["warm · quay: firing [freezer-1]"]


async def test_end_is_told_without_sound_when_it_comes_under_a_silence(office: Office) -> None:
    await office.use(WARM)
    await tell_firing(office)
    await silence(office, 20, rule="warm")
    await office.upload("freezer-1", (1, 6))
    await office.tick()
    assert office.heard()[1:] == ["warm · quay: resolved [freezer-1] (silent)"]


async def test_raise_waits_for_the_end_of_a_silence(office: Office) -> None:
    await office.use(WARM)
    await tell_firing(office)
    await silence(office, 20, sensor="freezer-1")
    await office.upload("freezer-1", (1, 13))
    await office.tick()
    await office.wait(19)
    assert len(office.heard()) == 1
    await office.wait(1)
    assert office.heard()[1:] == ["warm · quay: raised [freezer-1]"]


async def test_message_waits_when_a_silence_begins_before_it_is_due(office: Office) -> None:
    await office.use(WARM)
    await office.upload("freezer-1", (3, 9))
    await office.tick()
    await silence(office, 20, sensor="freezer-1")
    await office.wait(1)
    assert office.heard() == []
    await office.wait(20)
    assert office.heard() == ["warm · quay: firing [freezer-1]"]


async def test_inhibited_alerts_wait_until_what_speaks_for_them_is_over(office: Office) -> None:
    fire = """
  - name: fire
    sensors: {id: "smoke-*"}
    levels: {critical: {above: 50}}
    group_by: [site]
    notify: [duty]
"""
    await office.use(WARM + "    inhibited_by: [{rule: fire, same: [site]}]\n" + fire)
    await office.upload("smoke-1", (3, 60))
    await office.upload("freezer-1", (3, 13))
    await office.upload("freezer-2", (3, 13), (2, 6))
    await office.upload("freezer-3", (3, 13), tags={"site": "pier"})
    await office.tick()
    await office.wait(10)
    assert office.heard("duty") == ["fire · quay: firing [smoke-1]"]
    assert office.heard() == ["warm · pier: firing [freezer-3]"]
    await office.upload("smoke-1", (1, 20))
    await office.upload("freezer-1", (1, 14))
    await office.tick()
    assert office.heard()[1:] == ["warm · quay: firing, over by now [smoke-1 freezer-1 freezer-2]"]


async def test_reminders_come_as_often_as_the_rule_says_until_all_is_acked(office: Office) -> None:
    await office.use(WARM + "    remind_every: 1h\n")
    await tell_firing(office)
    await office.wait(59)
    assert len(office.heard()) == 1
    await office.wait(1)
    assert office.heard()[1:] == ["warm · quay: still firing [freezer-1]"]
    await office.wait(59)
    assert len(office.heard()) == 2
    await ack(office, "freezer-1")
    await office.wait(120)
    assert len(office.heard()) == 2
    await office.upload("freezer-1", (1, 13))
    await office.tick()
    assert office.heard()[2:] == ["warm · quay: raised [freezer-1]"]
    assert await office.pool.fetchval("SELECT acked_by FROM alert_episode") is None
    await office.wait(60)
    assert office.heard()[3:] == ["warm · quay: still firing [freezer-1]"]


async def test_ack_stays_when_another_channel_hears_of_its_level_later(office: Office) -> None:
    await office.use(WARM.replace("[ops]", "[ops, duty]"))
    await tell_firing(office)
    # The message before is still on its way to `duty`.
    sending_id = await office.pool.fetchval(
        """INSERT INTO notification (channel, group_key, state, due_at, claimed_at, next_attempt_at, attempts, text)
           VALUES ('duty', '["warm",["quay"]]', 'sending', now(), now(), now() + INTERVAL '1 hour', 1, '{}')
           RETURNING id"""
    )
    await office.upload("freezer-1", (1, 13))
    await office.alerting.tick(office.pool, 1)
    await until(office.pool, "SELECT EXISTS (SELECT FROM alert_told WHERE told_level = 'critical')")
    await ack(office, "freezer-1")
    await office.pool.execute("UPDATE notification SET state = 'sent', finished_at = now() WHERE id = $1", sending_id)
    await office.deliver()
    assert office.heard("ops")[1:] == office.heard("duty")[1:] == ["warm · quay: raised [freezer-1]"]
    assert await office.pool.fetchval("SELECT acked_by FROM alert_episode") == "anna"


async def test_ack_holds_up_to_the_level_that_was_told_when_a_higher_one_waits(office: Office) -> None:
    await office.use(WARM)
    await tell_firing(office)
    silence_id = await silence(office, 600, sensor="freezer-1")
    await office.upload("freezer-1", (1, 13))
    await office.tick()
    await ack(office, "freezer-1")
    assert await office.pool.fetchval("SELECT acked_level FROM alert_episode") == "warning"
    await office.pool.execute("DELETE FROM silence WHERE id = $1", silence_id)
    await office.tick()
    assert office.heard()[1:] == ["warm · quay: raised [freezer-1]"]
    assert await office.pool.fetchval("SELECT acked_by FROM alert_episode") is None


async def test_level_tells_those_whom_it_names(office: Office) -> None:
    await office.use(WARM.replace("critical: {above: 12}", "critical: {above: 12, notify: [duty]}"))
    await tell_firing(office)
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


async def test_end_is_told_to_those_who_were_told_when_the_rule_names_others_by_now(office: Office) -> None:
    await office.use(WARM)
    await tell_firing(office)
    await office.use(WARM.replace("[ops]", "[duty]"))
    await office.wait(1)
    assert office.heard("duty") == ["warm · quay: firing [freezer-1]"]
    await office.upload("freezer-1", (1, 6))
    await office.tick()
    assert office.heard("ops")[1:] == office.heard("duty")[1:] == ["warm · quay: resolved [freezer-1]"]


async def test_alerts_end_when_their_rule_is_removed(office: Office) -> None:
    await office.use(WARM)
    await tell_firing(office)
    await office.use("")
    await office.tick()
    assert office.heard()[1:] == ["warm: resolved [freezer-1]"]
    assert office.notes() == ["rule removed"]
    assert await office.open_alerts() == []


async def test_alert_goes_on_when_its_rule_says_something_else(office: Office) -> None:
    await office.use(WARM)
    await tell_firing(office)
    await office.use(WARM.replace("above: 8", "above: 5"))
    await office.upload("freezer-1", (2, 7))
    await office.tick()
    await office.wait(10)
    assert len(office.heard()) == 1
    assert await office.pool.fetchval("SELECT array_agg(era) FROM alert_episode") == [2]
    await office.upload("freezer-1", (1, 4))
    await office.tick()
    assert office.heard()[1:] == ["warm · quay: resolved [freezer-1]"]
    assert await office.pool.fetchval("SELECT count(*) FROM alert_episode") == 1


async def test_alert_stays_as_it_is_when_only_the_prose_of_its_rule_changes(office: Office) -> None:
    await office.use(WARM)
    await tell_firing(office)
    await office.use(WARM + '    message: "{sensor}: look"\n')
    await office.upload("freezer-1", (2, 10))
    await office.tick()
    assert await office.pool.fetchval("SELECT array_agg(era) FROM alert_episode") == [1]


async def test_alert_ends_when_its_tags_move_the_series_out_of_the_rule(office: Office) -> None:
    await office.use(WARM.replace("{metric: temperature}", "{metric: temperature, tags: {room: cold}}"))
    await office.upload("freezer-1", (3, 9), tags={"site": "quay", "room": "cold"})
    await office.tick()
    await office.wait(1)
    await office.upload("freezer-1", (2, 9), tags={"site": "quay", "room": "store"})
    await office.tick()
    assert office.heard()[1:] == ["warm · quay: resolved [freezer-1]"]
    assert office.notes() == ["no longer selected"]
    assert await office.pool.fetchval("SELECT rule_hash FROM alert_state") == ""
    await office.upload("freezer-1", (1, 9), tags={"site": "quay", "room": "cold"})
    await office.tick()
    await office.wait(10)
    assert office.heard()[2:] == ["warm · quay: firing [freezer-1]"]
    eras = await office.pool.fetch(
        "SELECT era, fired_at - started_at = INTERVAL '0' AS fired_at_once FROM alert_episode ORDER BY id"
    )
    assert [tuple(row) for row in eras] == [(1, True), (2, True)]


async def test_alert_ends_when_its_rule_selects_the_series_no_more_though_no_reading_comes(office: Office) -> None:
    await office.use(WARM)
    await tell_firing(office)
    await office.use(WARM.replace("{metric: temperature}", '{metric: temperature, id: "cellar-*"}'))
    await office.tick()
    assert office.heard()[1:] == ["warm · quay: resolved [freezer-1]"]
    assert office.notes() == ["no longer selected"]


async def test_new_rule_announces_nothing_that_is_already_over(office: Office) -> None:
    await office.use("")
    await office.upload("freezer-1", (300, 9), (290, 6), (20, 9), (10, 6))
    await office.upload("freezer-2", (30, 9))
    await office.tick()
    await office.use(WARM)
    await office.upload("freezer-1", (1, 6))
    await office.upload("freezer-2", (1, 9))
    await office.tick()
    await office.wait(10)
    assert office.heard() == ["warm · quay: firing [freezer-2]"]
    assert await office.pool.fetchval("SELECT count(*) FROM alert_episode") == 3


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
    due_in_s = await office.pool.fetchval(
        "SELECT extract(epoch FROM due_at - now())::float8 FROM notification WHERE state = 'waiting'"
    )
    assert 290 < due_in_s <= 300


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
