"""Structs of checked rules: durations in microseconds, with the file's defaults and overrides already applied.

A RuleSet holds no secrets, so it can be stored as JSON: channels keep their `${NAME}` references.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, Union, cast

import msgspec

from app.alerting.conditions import CONDITIONS, Condition, keyword_of
from app.alerting.episodes.samples import ValueOf
from app.alerting.rules.mutes import MuteWindow
from app.clock import HOUR_US, MINUTE_US, SECOND_US
from app.model import LevelName

if TYPE_CHECKING:
    StoredCondition = Condition
else:
    # msgspec decodes a condition by the tag of its struct, so it needs the union of all of them.
    StoredCondition = Union[tuple(CONDITIONS.values())]  # noqa: UP007

#: Built-in rule. It fires when no series of a gateway sends data any more.
GATEWAY_OFFLINE = "gateway-offline"
#: Built-in rule. It fires when the clock of a gateway is wrong.
GATEWAY_CLOCK = "gateway-clock"
BUILT_IN_RULES = (GATEWAY_OFFLINE, GATEWAY_CLOCK)


class Selector(msgspec.Struct, frozen=True):
    """A selection of series. A field that is None or empty matches everything."""

    #: Pattern of the sensor's name: `*` stands for any text, `?` for one character.
    id: str | None = None
    metric: str | None = None
    tags: dict[str, str] = {}
    gateway: str | None = None


class Route(msgspec.Struct, frozen=True):
    """Channels that are notified of sensors with all of these tags."""

    to: tuple[str, ...]
    tags: dict[str, str]

    def takes(self, tags: Mapping[str, str]) -> bool:
        """Return whether a sensor has the tags."""
        return tags.items() >= self.tags.items()


class Escalation(msgspec.Struct, frozen=True):
    """More channels for an alert that nobody acknowledged within `after_us` of the first message about it."""

    after_us: int
    notify: tuple[str, ...]


class Offline(msgspec.Struct, frozen=True):
    """The fields of a rule of the kind `gateway_offline`."""

    #: Pattern of the gateways' names.
    gateways: str = "*"
    #: None: as for `no_data`, by the usual intervals.
    after_us: int | None = None
    level: LevelName = "error"


class LevelRule(msgspec.Struct, frozen=True):
    """One level: its condition, how long the condition must hold, and the channels that are notified."""

    name: LevelName
    condition: StoredCondition
    for_us: int = 0
    #: None: the channels and routes of the rule.
    notify: tuple[str, ...] | None = None
    routes: tuple[Route, ...] = ()


class Clear(msgspec.Struct, frozen=True):
    """The condition that ends an episode. None: the condition of the lowest level is false."""

    condition: StoredCondition | None = None
    for_us: int = 0


class When(msgspec.Struct, frozen=True):
    """A second metric: the levels count only while no known series of it fails the condition."""

    metric: str
    condition: StoredCondition
    #: A reading of it that is older is not known any more.
    max_age_us: int
    #: Names of tags: the series of every sensor with equal values count. Empty: that of the same sensor.
    same: tuple[str, ...] = ()


class LateData(msgspec.Struct, frozen=True):
    """How messages treat episodes of late readings."""

    #: No message is sent about an episode that ended longer ago than this when it becomes known.
    accept_us: int = 24 * HOUR_US
    #: A series whose newest reading is older than this counts as catching up.
    live_us: int = 15 * MINUTE_US
    notify: Literal["summary", "normal", "never"] = "summary"


class NoData(msgspec.Struct, frozen=True):
    """What happens when a series sends no data."""

    #: None: three times the usual interval between uploads, at least five minutes.
    after_us: int | None = None
    then: Literal["alert", "keep", "clear"] = "alert"


class Inhibition(msgspec.Struct, frozen=True):
    """Another rule that holds back messages: it must fire with equal values of all labels in `same`."""

    rule: str
    #: Labels: `sensor`, `metric`, `gateway` or names of tags.
    same: tuple[str, ...]


class Terms(msgspec.Struct, frozen=True):
    """The terms of a rule for the series of one selector."""

    #: At least one level, least severe first. The condition of each level implies that of the level before.
    levels: tuple[LevelRule, ...]
    value: ValueOf = ValueOf()
    #: None: the unit of the series.
    unit: str | None = None
    clear: Clear = Clear()
    max_gap_us: int | None = None
    #: Whether a value counts until the next one, at most for `max_gap_us`.
    holds: bool = False
    #: All of these must hold.
    when: tuple[When, ...] = ()
    late_data: LateData = LateData()
    #: None: missing data change nothing, as with `then: keep`.
    no_data: NoData | None = None
    #: Names of channels. Empty, without routes: no message is sent.
    notify: tuple[str, ...] = ()
    routes: tuple[Route, ...] = ()
    mute: tuple[MuteWindow, ...] = ()
    message: str | None = None
    runbook: str | None = None

    def notified_at(self, level: str, tags: Mapping[str, str]) -> tuple[str, ...]:
        """Return the names of the channels that are notified of a level of a sensor with these tags."""
        own = next((rule for rule in self.levels if rule.name == level and rule.notify is not None), None)
        names = self.notify if own is None else own.notify or ()
        routes = self.routes if own is None else own.routes
        routed = (name for route in routes if route.takes(tags) for name in route.to)
        return tuple(dict.fromkeys((*names, *routed)))

    @property
    def all_channels(self) -> tuple[str, ...]:
        """Return the names of all channels that may be notified."""
        own = [level for level in self.levels if level.notify is not None]
        names = [name for notify in (self.notify, *(level.notify or () for level in own)) for name in notify]
        routes = [
            name for routes in (self.routes, *(level.routes for level in own)) for one in routes for name in one.to
        ]
        return tuple(dict.fromkeys((*names, *routes)))


class Override(msgspec.Struct, frozen=True):
    """The terms of a rule for some of its sensors. They are complete: terms that the override keeps are copied."""

    sensors: Selector
    terms: Terms


class Rule(msgspec.Struct, frozen=True):
    """One rule, identified by its name."""

    name: str
    sensors: Selector
    terms: Terms
    #: The first override that matches a series applies.
    overrides: tuple[Override, ...] = ()
    inhibited_by: tuple[Inhibition, ...] = ()
    #: Labels: `sensor`, `metric`, `gateway` or names of tags. Empty: one group for the whole rule.
    group_by: tuple[str, ...] = ()
    #: None: no reminders.
    remind_every_us: int | None = 4 * HOUR_US
    #: How long the first message of a group waits for others, unless an alert is critical or worse.
    group_wait_us: int = 30 * SECOND_US
    #: The shortest time between two messages about later changes, and the time in which a group has at most six.
    update_every_us: int = 5 * MINUTE_US
    #: The time zone of times in messages. None: the server's.
    timezone: str | None = None
    escalate: Escalation | None = None
    #: Set for a rule of the kind `gateway_offline`, which has no levels and selects no series.
    offline: Offline | None = None

    @property
    def has_when(self) -> bool:
        """Return whether it looks at a second metric, for all sensors or for some."""
        return bool(self.terms.when) or any(each.terms.when for each in self.overrides)


def condition_text(condition: Condition) -> str:
    """Return a condition as text, with all digits of its numbers: `above 8`, `outside 2 to 8.5`."""
    numbers = msgspec.structs.astuple(cast("msgspec.Struct", condition))
    return f"{keyword_of(condition)} {' to '.join(repr(number).removesuffix('.0') for number in numbers)}"


#: The text of a field, or the texts by name for a field such as `headers`.
FieldValue = str | dict[str, str]


class ChannelDefinition(msgspec.Struct, frozen=True):
    """A channel for messages; `fields` as written in the file, with references to secrets."""

    name: str
    type: str
    fields: dict[str, FieldValue] = {}


class Watchdog(msgspec.Struct, frozen=True):
    """An address that is requested while rules are evaluated, for a service that tells when requests end."""

    #: With references to secrets unresolved.
    url: str
    every_us: int = MINUTE_US


class RuleSet(msgspec.Struct, frozen=True):
    """All checked rules and channels of a folder."""

    rules: tuple[Rule, ...] = ()
    #: In the order of the files. When a channel fails for good, a message about it goes to the first that works.
    channels: tuple[ChannelDefinition, ...] = ()
    watchdog: Watchdog | None = None


def encode_rule_set(rule_set: RuleSet) -> bytes:
    """Return a rule set as JSON. It contains all defaults, so a version with other defaults reads the same rules."""
    return msgspec.json.encode(rule_set)


def decode_rule_set(stored: bytes | str) -> RuleSet:
    """Return the rule set that `encode_rule_set` wrote.

    Raise msgspec.ValidationError if another version wrote it in another form.
    """
    return msgspec.json.decode(stored, type=RuleSet)
