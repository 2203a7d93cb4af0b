"""Rules as the program knows them: durations in microseconds, defaults and overrides applied.

A RuleSet holds no secrets: channels keep their `${NAME}` references, so it can be stored and restored as JSON.
"""

from typing import TYPE_CHECKING, Literal, Union, cast

import msgspec

from app.alerting.conditions import CONDITIONS, Condition
from app.alerting.episodes.samples import ValueOf
from app.alerting.rules.mutes import MuteWindow
from app.clock import HOUR_US, MINUTE_US
from app.model import LevelName

if TYPE_CHECKING:
    StoredCondition = Condition
else:
    # A union of tagged structs: the form in which msgspec can read a condition back.
    StoredCondition = Union[tuple(CONDITIONS.values())]  # noqa: UP007

#: The rule that is always there: every series of a gateway is silent.
GATEWAY_OFFLINE = "gateway-offline"
BUILT_IN_RULES = (GATEWAY_OFFLINE,)


class Selector(msgspec.Struct, frozen=True):
    """Which sensors and metric are meant; what is left out matches everything."""

    #: A sensor's name; `*` stands for any text, `?` for one character.
    id: str | None = None
    metric: str | None = None
    tags: dict[str, str] = {}
    gateway: str | None = None


class LevelRule(msgspec.Struct, frozen=True):
    """One level: its condition, how long that must hold, and who is told."""

    name: LevelName
    condition: StoredCondition
    for_us: int = 0
    #: None: those whom the rule tells.
    notify: tuple[str, ...] | None = None


class Clear(msgspec.Struct, frozen=True):
    """When an episode ends; without a condition: no longer past the lowest level."""

    condition: StoredCondition | None = None
    for_us: int = 0


class LateData(msgspec.Struct, frozen=True):
    """How readings that come late are told."""

    #: Readings of an episode that ended longer ago than this make history only.
    accept_us: int = 24 * HOUR_US
    #: A series whose newest reading is older than this catches up.
    live_us: int = 15 * MINUTE_US
    notify: Literal["summary", "normal", "never"] = "summary"


class NoData(msgspec.Struct, frozen=True):
    """What happens when a series falls silent."""

    #: None: three times the usual interval, at least five minutes.
    after_us: int | None = None
    then: Literal["alert", "keep", "clear"] = "alert"


class Inhibition(msgspec.Struct, frozen=True):
    """A rule that, while firing, holds this one's messages back where all of `same` agree."""

    rule: str
    #: `sensor`, `metric`, `gateway` or names of tags.
    same: tuple[str, ...]


class Terms(msgspec.Struct, frozen=True):
    """What a rule says for the series of one selector."""

    #: Least severe first, each implying the one before; never empty.
    levels: tuple[LevelRule, ...]
    value: ValueOf = ValueOf()
    #: None: the series' own.
    unit: str | None = None
    clear: Clear = Clear()
    max_gap_us: int | None = None
    late_data: LateData = LateData()
    #: None: silence changes nothing, as `then: keep`.
    no_data: NoData | None = None
    #: Names of channels; empty: nobody.
    notify: tuple[str, ...] = ()
    mute: tuple[MuteWindow, ...] = ()
    message: str | None = None
    runbook: str | None = None

    def notified_at(self, level: str) -> tuple[str, ...]:
        """Name the channels that are told of one level."""
        own = next((rule.notify for rule in self.levels if rule.name == level), None)
        return self.notify if own is None else own


class Override(msgspec.Struct, frozen=True):
    """What the rule says instead for some of its sensors, everything it keeps included."""

    sensors: Selector
    terms: Terms


class Rule(msgspec.Struct, frozen=True):
    """One rule, known by its name."""

    name: str
    sensors: Selector
    terms: Terms
    #: The first that matches a series counts.
    overrides: tuple[Override, ...] = ()
    inhibited_by: tuple[Inhibition, ...] = ()
    #: `sensor`, `metric`, `gateway` or names of tags; empty: one message for the whole rule.
    group_by: tuple[str, ...] = ()
    #: None: never.
    remind_every_us: int | None = 4 * HOUR_US


def condition_text(condition: Condition) -> str:
    """Write a condition in words, its numbers with all their digits: `above 8`, `outside 2 to 8.5`."""
    keyword = next(keyword for keyword, struct in CONDITIONS.items() if struct is type(condition))
    numbers = msgspec.structs.astuple(cast("msgspec.Struct", condition))
    return f"{keyword} {' to '.join(repr(number).removesuffix('.0') for number in numbers)}"


#: A field's text, or for a field such as `headers` one text for each name.
FieldValue = str | dict[str, str]


class ChannelDefinition(msgspec.Struct, frozen=True):
    """Where messages go; `fields` as written, references to secrets included."""

    name: str
    type: str
    fields: dict[str, FieldValue] = {}


class RuleSet(msgspec.Struct, frozen=True):
    """All rules and channels of a folder, checked."""

    rules: tuple[Rule, ...] = ()
    #: In the order of the files: when one fails for good, the first that works is told.
    channels: tuple[ChannelDefinition, ...] = ()


def encode_rule_set(rule_set: RuleSet) -> bytes:
    """Write a rule set as JSON, defaults included: it means the same when later versions default otherwise."""
    return msgspec.json.encode(rule_set)


def decode_rule_set(stored: bytes | str) -> RuleSet:
    """Read back what `encode_rule_set` wrote; msgspec.ValidationError when another version wrote it differently."""
    return msgspec.json.decode(stored, type=RuleSet)
