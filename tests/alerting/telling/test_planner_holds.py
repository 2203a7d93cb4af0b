"""Messages under silences, inhibition and acknowledgements, and reminders."""

from tests.alerting.harness import WARM, AlertingHarness
from tests.notify.dispatchers import until


async def test_firing_is_told_after_the_silence_when_it_began_under_one(harness: AlertingHarness) -> None:
    await harness.use_rules(WARM)
    await harness.silence(20, rule="warm")
    await harness.notify_firing(value=13)
    assert harness.messages() == []
    await harness.advance(20)
    assert harness.messages() == ["1 critical: warm · quay [freezer-1]"]


async def test_resolved_is_told_without_sound_when_it_comes_under_a_silence(harness: AlertingHarness) -> None:
    await harness.use_rules(WARM)
    await harness.notify_firing()
    await harness.silence(20, rule="warm")
    await harness.upload("freezer-1", (1, 6))
    await harness.tick()
    assert harness.messages()[1:] == ["1 resolved: warm · quay [freezer-1] (silent)"]


async def test_raise_is_told_after_the_silence_when_it_comes_under_one(harness: AlertingHarness) -> None:
    await harness.use_rules(WARM)
    await harness.notify_firing()
    await harness.silence(20, sensor="freezer-1")
    await harness.upload("freezer-1", (1, 13))
    await harness.tick()
    await harness.advance(19)
    assert len(harness.messages()) == 1
    await harness.advance(1)
    assert harness.messages()[1:] == ["1 critical: warm · quay [freezer-1]"]


async def test_message_waits_when_a_silence_begins_before_it_is_due(harness: AlertingHarness) -> None:
    await harness.use_rules(WARM)
    await harness.upload("freezer-1", (3, 9))
    await harness.tick()
    await harness.silence(20, sensor="freezer-1")
    await harness.advance(1)
    assert harness.messages() == []
    await harness.advance(20)
    assert harness.messages() == ["1 warning: warm · quay [freezer-1]"]


async def test_inhibited_alerts_are_told_when_the_inhibiting_alert_has_ended(harness: AlertingHarness) -> None:
    fire = """
  - name: fire
    sensors: {id: "smoke-*"}
    levels: {critical: {above: 50}}
    group_by: [site]
    notify: [duty]
"""
    await harness.use_rules(WARM + "    inhibited_by: [{rule: fire, same: [site]}]\n" + fire)
    await harness.upload("smoke-1", (3, 60))
    await harness.upload("freezer-1", (3, 13))
    await harness.upload("freezer-2", (3, 13), (2, 6))
    await harness.upload("freezer-3", (3, 13), tags={"site": "pier"})
    await harness.tick()
    await harness.advance(10)
    assert harness.messages("duty") == ["1 critical: fire · quay [smoke-1]"]
    assert harness.messages() == ["1 critical: warm · pier [freezer-3]"]
    await harness.upload("smoke-1", (1, 20))
    await harness.upload("freezer-1", (1, 14))
    await harness.tick()
    assert harness.messages()[1:] == ["2 critical, 1 over: warm · quay [smoke-1 freezer-1 freezer-2]"]


async def test_reminders_come_every_remind_every_until_all_alerts_are_acked(harness: AlertingHarness) -> None:
    await harness.use_rules(WARM + "    remind_every: 1h\n")
    await harness.notify_firing()
    await harness.advance(59)
    assert len(harness.messages()) == 1
    await harness.advance(1)
    assert harness.messages()[1:] == ["1 warning still firing: warm · quay [freezer-1]"]
    await harness.advance(59)
    assert len(harness.messages()) == 2
    await harness.ack("freezer-1")
    await harness.advance(120)
    assert len(harness.messages()) == 2
    await harness.upload("freezer-1", (1, 13))
    await harness.tick()
    assert harness.messages()[2:] == ["1 critical: warm · quay [freezer-1]"]
    assert await harness.pool.fetchval("SELECT acked_by FROM alert_episode") is None
    await harness.advance(60)
    assert harness.messages()[3:] == ["1 critical still firing: warm · quay [freezer-1]"]


async def test_ack_stays_when_another_channel_is_told_of_the_same_level_later(harness: AlertingHarness) -> None:
    await harness.use_rules(WARM.replace("[ops]", "[ops, duty]"))
    await harness.notify_firing()
    # Another message to `duty` is still being sent.
    sending_id = await harness.pool.fetchval(
        """INSERT INTO notification (channel, group_key, state, due_at, claimed_at, next_attempt_at, attempts, text)
           VALUES ('duty', '["warm",["quay"]]', 'sending', now(), now(), now() + INTERVAL '1 hour', 1, '{}')
           RETURNING id"""
    )
    await harness.upload("freezer-1", (1, 13))
    await harness.alerting.tick(harness.pool, 1)
    await until(harness.pool, "SELECT EXISTS (SELECT FROM alert_told WHERE told_level = 'critical')")
    await harness.ack("freezer-1")
    await harness.pool.execute("UPDATE notification SET state = 'sent', finished_at = now() WHERE id = $1", sending_id)
    await harness.deliver()
    assert harness.messages("ops")[1:] == harness.messages("duty")[1:] == ["1 critical: warm · quay [freezer-1]"]
    assert await harness.pool.fetchval("SELECT acked_by FROM alert_episode") == "anna"


async def test_ack_covers_the_level_that_was_told_when_a_higher_one_is_held(harness: AlertingHarness) -> None:
    await harness.use_rules(WARM)
    await harness.notify_firing()
    silence_id = await harness.silence(600, sensor="freezer-1")
    await harness.upload("freezer-1", (1, 13))
    await harness.tick()
    await harness.ack("freezer-1")
    assert await harness.pool.fetchval("SELECT acked_level FROM alert_episode") == "warning"
    await harness.pool.execute("DELETE FROM silence WHERE id = $1", silence_id)
    await harness.tick()
    assert harness.messages()[1:] == ["1 critical: warm · quay [freezer-1]"]
    assert await harness.pool.fetchval("SELECT acked_by FROM alert_episode") is None
