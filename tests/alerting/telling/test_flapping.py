"""A series fires and ends every other second for an hour of simulated time: messages stay few, and the last is true."""

import msgspec
import pytest

from app.alerting.episodes.revision import Told
from app.alerting.telling.decisions import Action, decide, schedule
from app.alerting.telling.links import Addresses
from app.alerting.telling.messages import write_message
from app.alerting.telling.situation import Situation
from app.alerting.telling.untold import UntoldEpisode
from app.clock import HOUR_US, MINUTE_US, SECOND_US
from app.model import LevelName
from app.notify.message import Message
from tests.alerting.situations import NOON_US, episode, level, rule, situation

GROUP = ("ops", '["warm",["quay"]]')


class Site:
    """One series, its alerts, and what the channel `ops` was told; one second a step."""

    def __init__(self, level_name: LevelName, update_every_us: int) -> None:
        self.rule = msgspec.structs.replace(rule(levels=[level(level_name)]), update_every_us=update_every_us)
        self.level = level_name
        self.episodes: list[UntoldEpisode] = []
        self.told: dict[int, dict[str, Told]] = {}
        self.sent: list[int] = []
        self.messages: list[Message] = []
        self.is_firing = False
        self.fired = 0

    def flip(self, now_us: int) -> None:
        """Let the alert fire if it does not, and end if it does."""
        if self.is_firing:
            self.episodes[-1] = msgspec.structs.replace(self.episodes[-1], resolved_us=now_us)
        else:
            self.fired += 1
            fields = {"started_us": now_us, "fired_us": now_us, "first_known_us": now_us, "level": self.level}
            one = episode(self.fired, series_id=1, sensor="freezer-1", **fields)
            self.episodes.append(one)
        self.is_firing = not self.is_firing

    def step(self, now_us: int) -> None:
        """Plan, and send what is due."""
        given = self.situation(now_us)
        decision = decide(given)
        self.episodes = [each for each in self.episodes if each.id not in decision.settled]
        if schedule(given, decision).get(GROUP, now_us + 1) <= now_us:
            self.send(given, [each for each in decision.actions if not each.held], now_us)

    def send(self, given: Situation, actions: list[Action], now_us: int) -> None:
        """Note what a message tells, as a claim does."""
        self.messages.append(write_message(given, "ops", actions, {}, Addresses()))
        self.sent.insert(0, now_us)
        for action in actions:
            if action.told is not None:
                self.told[action.episode.id] = {"ops": Told(action.told, action.episode.level)}

    def situation(self, now_us: int) -> Situation:
        """Return what there is to tell at a moment."""
        last_sent = {GROUP: self.sent[0]} if self.sent else {}
        return situation(
            *self.episodes,
            rules=[self.rule],
            told=self.told,
            last_sent=last_sent,
            sent={GROUP: self.sent[:6]},
            now_us=now_us,
        )


@pytest.mark.parametrize("level_name", ["info", "warning", "error", "critical", "disaster"])
@pytest.mark.parametrize("update_every_us", [5 * MINUTE_US, MINUTE_US])
def test_group_has_at_most_six_messages_in_any_update_every_when_it_flaps(
    level_name: LevelName, update_every_us: int
) -> None:
    site = Site(level_name, update_every_us)
    for second in range(3_600):
        now_us = NOON_US + second * SECOND_US
        site.flip(now_us)
        site.step(now_us)
    for second in range(3_600, 3_600 + 2 * update_every_us // SECOND_US):
        site.step(NOON_US + second * SECOND_US)
    times = site.sent[::-1]
    assert all(later - earlier >= update_every_us for earlier, later in zip(times, times[6:], strict=False))
    assert len(times) >= HOUR_US // update_every_us - 1
    last = site.messages[-1].entries[0]
    assert (last.sensor, last.over, site.is_firing) == ("freezer-1", True, False)
    told = [each["ops"].state for each in site.told.values()]
    assert set(told) == {"resolved"}


def test_first_critical_alert_is_told_at_once_and_the_flapping_is_counted() -> None:
    site = Site("critical", 5 * MINUTE_US)
    for second in range(320):
        now_us = NOON_US + second * SECOND_US
        if second < 65:
            site.flip(now_us)
        site.step(now_us)
    assert site.sent[-1] == NOON_US
    assert [each.title for each in site.messages[:2]] == ["1 critical: warm · quay", "1 resolved: warm · quay"]
    (entry,) = site.messages[-1].entries
    assert (entry.over, entry.alerts) == (False, tuple(range(4, 34)))
    assert entry.note == "flapping: 59 changes in 58 s, fired 30 times between 12:00 and 12:01 UTC"
