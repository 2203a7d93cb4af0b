"""What holds messages back, as people hear of it: silences, inhibition, acknowledgements, reminders."""

from tests.alerting.office import WARM, Office
from tests.notify.alerts import until


async def test_silence_holds_the_beginning_and_tells_it_when_it_ends(office: Office) -> None:
    await office.use(WARM)
    await office.silence(20, rule="warm")
    await office.tell_firing(value=13)
    assert office.heard() == []
    await office.wait(20)
    assert office.heard() == ["warm · quay: firing [freezer-1]"]


async def test_end_is_told_without_sound_when_it_comes_under_a_silence(office: Office) -> None:
    await office.use(WARM)
    await office.tell_firing()
    await office.silence(20, rule="warm")
    await office.upload("freezer-1", (1, 6))
    await office.tick()
    assert office.heard()[1:] == ["warm · quay: resolved [freezer-1] (silent)"]


async def test_raise_waits_for_the_end_of_a_silence(office: Office) -> None:
    await office.use(WARM)
    await office.tell_firing()
    await office.silence(20, sensor="freezer-1")
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
    await office.silence(20, sensor="freezer-1")
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
    await office.tell_firing()
    await office.wait(59)
    assert len(office.heard()) == 1
    await office.wait(1)
    assert office.heard()[1:] == ["warm · quay: still firing [freezer-1]"]
    await office.wait(59)
    assert len(office.heard()) == 2
    await office.ack("freezer-1")
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
    await office.tell_firing()
    # The message before is still on its way to `duty`.
    sending_id = await office.pool.fetchval(
        """INSERT INTO notification (channel, group_key, state, due_at, claimed_at, next_attempt_at, attempts, text)
           VALUES ('duty', '["warm",["quay"]]', 'sending', now(), now(), now() + INTERVAL '1 hour', 1, '{}')
           RETURNING id"""
    )
    await office.upload("freezer-1", (1, 13))
    await office.alerting.tick(office.pool, 1)
    await until(office.pool, "SELECT EXISTS (SELECT FROM alert_told WHERE told_level = 'critical')")
    await office.ack("freezer-1")
    await office.pool.execute("UPDATE notification SET state = 'sent', finished_at = now() WHERE id = $1", sending_id)
    await office.deliver()
    assert office.heard("ops")[1:] == office.heard("duty")[1:] == ["warm · quay: raised [freezer-1]"]
    assert await office.pool.fetchval("SELECT acked_by FROM alert_episode") == "anna"


async def test_ack_holds_up_to_the_level_that_was_told_when_a_higher_one_waits(office: Office) -> None:
    await office.use(WARM)
    await office.tell_firing()
    silence_id = await office.silence(600, sensor="freezer-1")
    await office.upload("freezer-1", (1, 13))
    await office.tick()
    await office.ack("freezer-1")
    assert await office.pool.fetchval("SELECT acked_level FROM alert_episode") == "warning"
    await office.pool.execute("DELETE FROM silence WHERE id = $1", silence_id)
    await office.tick()
    assert office.heard()[1:] == ["warm · quay: raised [freezer-1]"]
    assert await office.pool.fetchval("SELECT acked_by FROM alert_episode") is None
