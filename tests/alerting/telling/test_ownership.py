"""Alerts that people close, routes by tag, escalation, and who is told when."""

from typing import Any

from app.alerting.episodes.revision import Told
from app.alerting.rules.model import Escalation, Route
from app.alerting.telling.decisions import decide
from app.alerting.telling.situation import Situation
from app.clock import MINUTE_US
from tests.alerting.harness import WARM, AlertingHarness
from tests.alerting.situations import FIRING, NOON_US, RESOLVED, ended, episode, level, rule, situation

CLOSED: dict[str, Any] = {
    "closed_us": NOON_US,
    "closed_by": "ann",
    "closed_note": "sensor replaced",
    "closed_level": "warning",
}


def kinds(given: Situation) -> list[tuple[str, str]]:
    return [(action.channel, action.kind) for action in decide(given).actions if not action.held]


def test_closed_alert_is_told_as_resolved_once() -> None:
    assert kinds(situation(episode(**CLOSED), told={1: {"ops": FIRING}})) == [("ops", "resolved")]
    assert kinds(situation(episode(**CLOSED), told={1: {"ops": RESOLVED}})) == []
    assert kinds(situation(ended(**CLOSED), told={1: {"ops": RESOLVED}})) == []


def test_closed_alert_is_not_told_at_all_when_nobody_knew_of_it() -> None:
    assert kinds(situation(episode(**CLOSED))) == []


def test_closed_alert_is_told_again_when_its_level_rises() -> None:
    risen = episode(**{**CLOSED, "level": "critical"})
    assert kinds(situation(risen, told={1: {"ops": RESOLVED}})) == [("ops", "again")]


def test_routes_send_an_alert_where_its_sensors_tags_say() -> None:
    routes = (Route(("duty",), {"site": "quay"}), Route(("far",), {"site": "dairy"}))
    given = situation(episode(), rules=[rule(routes=routes)], channels=["ops", "duty", "far"])
    assert kinds(given) == [("ops", "firing"), ("duty", "firing")]
    own = level("warning", notify=())
    by_level = rule(levels=[own, level("critical")], routes=routes)
    assert kinds(situation(episode(), rules=[by_level])) == []


def escalating(**fields: Any) -> Situation:
    """Make a situation in which `boss` is told of alerts that were told fifteen minutes ago."""
    escalated = rule(escalate=Escalation(15 * MINUTE_US, ("boss",)))
    return situation(episode(**fields), rules=[escalated], told={1: {"ops": FIRING}}, channels=["ops", "boss"])


def test_alert_is_escalated_when_nobody_acknowledged_it_in_time() -> None:
    assert kinds(escalating(first_told_us=NOON_US - 14 * MINUTE_US)) == []
    assert kinds(escalating(first_told_us=NOON_US - 15 * MINUTE_US)) == [("boss", "firing")]
    assert kinds(escalating(first_told_us=None)) == []


def test_alert_is_not_escalated_when_it_is_acknowledged_closed_or_over() -> None:
    since = NOON_US - 60 * MINUTE_US
    assert kinds(escalating(first_told_us=since, acked_by="ann", acked_level="warning")) == []
    assert ("boss", "firing") not in kinds(escalating(first_told_us=since, **CLOSED))
    assert ("boss", "summary") not in kinds(escalating(first_told_us=since, resolved_us=NOON_US - MINUTE_US))


def test_boss_is_told_the_end_when_the_alert_was_escalated() -> None:
    told = {1: {"ops": FIRING, "boss": Told("firing", "warning")}}
    escalated = rule(escalate=Escalation(15 * MINUTE_US, ("boss",)))
    given = situation(ended(first_told_us=0), rules=[escalated], told=told, channels=["ops", "boss"])
    assert kinds(given) == [("ops", "resolved"), ("boss", "resolved")]


async def close(harness: AlertingHarness, by: str, note: str) -> None:
    """Close all open alerts as the API does."""
    for row in await harness.pool.fetch("SELECT id FROM alert_episode WHERE resolved_at IS NULL"):
        await harness.pool.execute(
            """UPDATE alert_episode
                  SET closed_at = clock_timestamp(), closed_by = $2, closed_note = $3, closed_level = level,
                      revision = revision + 1, settled = FALSE
                WHERE id = $1""",
            row["id"],
            by,
            note,
        )
    await harness.tick()


async def test_closed_alert_stays_closed_until_it_ends_and_fires_anew(harness: AlertingHarness) -> None:
    await harness.use_rules(WARM)
    await harness.notify_firing()
    await close(harness, "ann", "sensor replaced")
    assert harness.messages()[1:] == ["1 resolved: warm · quay [freezer-1]"]
    assert harness.notes() == ["resolved by ann: sensor replaced"]
    await harness.upload("freezer-1", (2, 9.5))
    await harness.tick()
    await harness.advance(300)
    await harness.upload("freezer-1", (1, 6))
    await harness.tick()
    await harness.advance(6)
    assert len(harness.messages()) == 2
    await harness.upload("freezer-1", (0.5, 9))
    await harness.tick()
    await harness.advance(6)
    assert harness.messages()[2:] == ["1 warning: warm · quay [freezer-1]"]


async def test_closed_alert_opens_again_when_its_level_rises(harness: AlertingHarness) -> None:
    await harness.use_rules(WARM)
    await harness.notify_firing()
    await close(harness, "ann", "")
    await harness.upload("freezer-1", (1, 13))
    await harness.tick()
    await harness.advance(6)
    assert harness.messages()[2:] == ["1 critical again: warm · quay [freezer-1]"]
    assert harness.notes() == ["it was closed, and its level has risen since"]


async def test_escalation_counts_from_when_the_alert_was_told(harness: AlertingHarness) -> None:
    await harness.use_rules(WARM + "    escalate: {after: 15m, notify: [duty]}\n")
    await harness.notify_firing()
    await harness.pool.execute("UPDATE alert_episode SET first_told_at = first_told_at - INTERVAL '14 minutes'")
    await harness.advance(0.1)
    assert harness.messages("duty") == []
    await harness.pool.execute("UPDATE alert_episode SET first_told_at = first_told_at - INTERVAL '2 minutes'")
    await harness.advance(0.1)
    assert harness.messages("duty") == ["1 warning: warm · quay [freezer-1]"]


#: As WARM, but five minutes of 8 or less end an alert.
SLOW = WARM + "    clear: {for: 5m}\n"


async def closings(harness: AlertingHarness) -> list[tuple[Any, ...]]:
    """Return (minutes ago when it started, whether it is open, who closed it) of each episode that is, by its start."""
    rows = await harness.pool.fetch(
        """SELECT round(extract(epoch FROM now() - started_at) / 60)::int AS ago, resolved_at IS NULL AS open, closed_by
             FROM alert_episode WHERE reason IS NULL ORDER BY started_at"""
    )
    return [tuple(row) for row in rows]


async def test_alert_that_a_late_reading_joins_to_a_closed_one_is_closed_with_it(harness: AlertingHarness) -> None:
    await harness.use_rules(SLOW)
    await harness.upload("freezer-1", (20, 9))
    await harness.tick()
    await harness.advance(1)
    await close(harness, "ann", "defrosting")
    await harness.upload("freezer-1", (15, 7), (9, 7))
    await harness.tick()
    await harness.upload("freezer-1", (6, 9))
    await harness.tick()
    await harness.advance(6)
    assert await closings(harness) == [(20, False, "ann"), (6, True, None)]
    assert harness.messages()[2:] == ["1 warning: warm · quay [freezer-1]"]
    await harness.upload("freezer-1", (12, 9))
    await harness.tick()
    await harness.advance(6)
    assert await closings(harness) == [(20, True, "ann")]
    assert harness.messages()[3:] == ["1 resolved: warm · quay [freezer-1]"]
    assert harness.notes() == ["resolved by ann: defrosting"]


async def test_part_that_a_late_reading_splits_off_is_closed_only_if_the_closing_lies_in_it(
    harness: AlertingHarness,
) -> None:
    await harness.use_rules(WARM)
    await harness.upload("freezer-1", (20, 9), (3, 9))
    await harness.tick()
    await harness.advance(1)
    await close(harness, "ann", "")
    await harness.upload("freezer-1", (10, 7))
    await harness.tick()
    await harness.advance(6)
    assert await closings(harness) == [(20, False, None), (3, True, "ann")]
    assert len(harness.messages()) == 2


async def test_part_that_was_open_when_somebody_closed_the_alert_is_closed_too(harness: AlertingHarness) -> None:
    await harness.use_rules(WARM)
    await harness.upload("freezer-1", (20, 9), (3, 9))
    await harness.tick()
    await harness.advance(1)
    await close(harness, "ann", "")
    await harness.pool.execute("UPDATE alert_episode SET closed_at = now() - INTERVAL '5 minutes'")
    await harness.upload("freezer-1", (1, 7))
    await harness.tick()
    await harness.upload("freezer-1", (10, 7), (8, 9))
    await harness.tick()
    await harness.advance(6)
    assert await closings(harness) == [(20, False, "ann"), (8, False, "ann")]
    assert len(harness.messages()) == 2
