"""The language of rule files: which keys stand where, what they accept, and what they mean.

Reading, its messages and the JSON Schema all come from these tables; a new key is one line here and its use in
`reader.py`. A new condition in `conditions/` is a new keyword by itself.
"""

from collections.abc import Mapping
from typing import cast

import msgspec

from app.alerting.conditions import CONDITIONS
from app.alerting.language.channels import ChannelFields, ChannelKind, find_channel_fields
from app.alerting.language.kinds import Ascending, Field, Fields, Kind, ListOf, MapOf, Schema
from app.alerting.language.leaves import (
    CHANNEL_NAME,
    DURATION,
    GLOB,
    LABEL,
    LINK,
    NAME,
    NAME_PATTERN,
    NAME_RULE,
    NUMBER,
    POSITIVE_DURATION,
    REMINDER,
    RULE_NAME,
    TAG_VALUE,
    TEMPLATE,
    TEXT,
    TIME_OF_DAY,
    TIME_ZONE,
    VALUE_OF,
    VERSION,
    one_of,
)
from app.alerting.rules.mutes import DAYS
from app.model import LEVEL_NAMES


def file_kind(channel_fields: Mapping[str, ChannelFields] | None = None) -> Fields:
    """Make the kind of a whole rule file, for the given types of channels or all that there are."""
    return Fields(
        "file",
        "{version: 1, rules: []}",
        {
            "version": Field(VERSION, "the version of this language, 1", required=True),
            "defaults": Field(_DEFAULTS, "what holds for each rule of this file that does not say otherwise"),
            "rules": Field(ListOf(_RULE, "a list of rules"), "the rules"),
            "channels": Field(
                MapOf(
                    ChannelKind(find_channel_fields() if channel_fields is None else channel_fields),
                    "a mapping of names to channels",
                    name_pattern=NAME_PATTERN,
                    name_rule=NAME_RULE,
                ),
                "where messages go, by a name that notify: uses",
            ),
        },
    )


def _condition_fields() -> dict[str, Field]:
    return {keyword: Field(_condition_kind(keyword), _condition_doc(keyword)) for keyword in CONDITIONS}


def _condition_kind(keyword: str) -> Kind:
    count = len(msgspec.structs.fields(cast("type[msgspec.Struct]", CONDITIONS[keyword])))
    return NUMBER if count == 1 else Ascending(NUMBER, count)


def _condition_doc(keyword: str) -> str:
    return f"a condition: holds while the value is {keyword.replace('_', ' ')}"


_ONE_CONDITION: list[Schema] = [{"required": [keyword]} for keyword in CONDITIONS]
_EXACTLY_ONE: Schema = {"oneOf": _ONE_CONDITION}
_AT_MOST_ONE: Schema = {"oneOf": [{"not": {"anyOf": _ONE_CONDITION}}, *_ONE_CONDITION]}

_CHANNELS = ListOf(CHANNEL_NAME, "a list of channels, such as [ops-telegram]", unique=True)
_LABELS = ListOf(LABEL, "a list of sensor, metric, gateway or tags, such as [site]", unique=True)

_SELECTOR = Fields(
    "sensors",
    "{metric: temperature}",
    {
        "id": Field(GLOB, "the sensor's name; * stands for any text, ? for one character"),
        "metric": Field(LABEL, "the metric's name"),
        "tags": Field(MapOf(TAG_VALUE, "a mapping, such as {room: cold}"), "tags that the sensor must have"),
        "gateway": Field(LABEL, "the gateway that sends the sensor's readings"),
    },
    also={"minProperties": 1},
)

_LEVEL_TIMING = {
    "for": Field(DURATION, "how long the condition must hold before the level does; left out: 0"),
    "notify": Field(_CHANNELS, "who is told of this level instead of the rule's notify"),
}
_LEVEL_EXAMPLE = "{above: 8.0, for: 10m}"
_LEVEL = Fields("level", _LEVEL_EXAMPLE, _condition_fields() | _LEVEL_TIMING, also=_EXACTLY_ONE)
_CHANGED_LEVEL = Fields("changed-level", _LEVEL_EXAMPLE, _condition_fields() | _LEVEL_TIMING, also=_AT_MOST_ONE)


def _levels(name: str, level: Fields) -> Fields:
    docs: dict[str, Field] = {level_name: Field(level, f"the level {level_name}") for level_name in LEVEL_NAMES}
    return Fields(name, f"{{warning: {_LEVEL_EXAMPLE}}}", docs, also={"minProperties": 1})


_CLEAR = Fields(
    "clear",
    "{below: 7.0, for: 5m}",
    _condition_fields()
    | {"for": Field(DURATION, "how long the condition must hold before the episode ends; left out: 0")},
    also=_AT_MOST_ONE,
)
_LATE_DATA = Fields(
    "late-data",
    "{accept: 24h}",
    {
        "accept": Field(POSITIVE_DURATION, "what ended longer ago than this is history only; left out: 24h"),
        "live": Field(POSITIVE_DURATION, "a series whose newest reading is older catches up; left out: 15m"),
        "notify": Field(
            one_of(("summary", "normal", "never")), "how people are told what was over already; left out: summary"
        ),
    },
)
_NO_DATA = Fields(
    "no-data",
    "{after: 30m, then: alert}",
    {
        "after": Field(POSITIVE_DURATION, "left out: three times the usual interval, at least 5m"),
        "then": Field(one_of(("alert", "keep", "clear")), "what happens; left out: alert"),
    },
)
_MUTE = Fields(
    "mute-window",
    '{days: [sat, sun], from: "22:00", to: "06:00", tz: Europe/Berlin}',
    {
        "days": Field(
            ListOf(one_of(DAYS), "a list of days, such as [sat, sun]", unique=True, least=1),
            "the days on which the window begins; left out: every day",
        ),
        "from": Field(TIME_OF_DAY, 'when it begins; left out: "00:00"'),
        "to": Field(TIME_OF_DAY, 'when it ends, the next day if not later than from; left out: "24:00"'),
        "tz": Field(TIME_ZONE, "the time zone of the clock; left out: UTC"),
    },
    also={"anyOf": [{"required": [key]} for key in ("days", "from", "to")]},
)
_INHIBITION = Fields(
    "inhibition",
    "{rule: gateway-offline, same: [gateway]}",
    {
        "rule": Field(RULE_NAME, "the rule that, while firing, holds this one's messages back", required=True),
        "same": Field(_LABELS, "what must be the same on both sides: sensor, metric, gateway or tags", required=True),
    },
)

#: What `defaults`, a rule and an override may say.
_COMMON = {
    "max_gap": Field(
        POSITIVE_DURATION, "a longer hole between readings restarts the clocks; left out: holes do not count"
    ),
    "late_data": Field(_LATE_DATA, "how readings that come late are told"),
    "no_data": Field(_NO_DATA, "what happens when a series falls silent; left out: nothing"),
    "notify": Field(_CHANNELS, "who is told; left out: every channel; []: nobody"),
    "mute": Field(
        ListOf(_MUTE, 'a list, such as [{days: [sat, sun], from: "22:00", to: "06:00"}]'),
        "when nothing is told but the end of what was told before",
    ),
    "message": Field(TEMPLATE, "the wording, with {sensor}, {value}, {threshold} and others"),
    "runbook": Field(LINK, "an address with what to do"),
}
#: What a rule and an override may say.
_SAYS = {
    "value": Field(VALUE_OF, "what is compared: the reading, or avg, min, max, rate an hour or delta of a window"),
    "unit": Field(TEXT, "the unit shown in messages; left out: the series' own"),
    "clear": Field(_CLEAR, "when an episode ends; left out: as soon as the lowest level no longer holds"),
}
#: What `defaults` and a rule may say, for a rule as a whole.
_WHOLE = {
    "group_by": Field(_LABELS, "one message for each value of these; left out: one for the rule"),
    "remind_every": Field(REMINDER, "how often people are reminded while it fires; left out: 4h"),
    "inhibited_by": Field(
        ListOf(_INHIBITION, "a list, such as [{rule: gateway-offline, same: [gateway]}]"),
        "rules that, while firing, hold this one's messages back",
    ),
}

_OVERRIDE = Fields(
    "override",
    "{sensors: {id: freezer-3}, levels: {warning: {above: -15.0}}}",
    {
        "sensors": Field(_SELECTOR, "which of the rule's sensors", required=True),
        "levels": Field(
            _levels("changed-levels", _CHANGED_LEVEL), "levels that differ: a condition is replaced, the rest stays"
        ),
        **_SAYS,
        **_COMMON,
    },
    also={"minProperties": 2},
)
_RULE = Fields(
    "rule",
    "{name: too-warm, sensors: {metric: temperature}, levels: {warning: {above: 8.0}}}",
    {
        "name": Field(NAME, "the rule's name, by which it is known", required=True),
        "sensors": Field(_SELECTOR, "which sensors and metric the rule is about", required=True),
        "levels": Field(_levels("levels", _LEVEL), "the levels, least severe first", required=True),
        **_SAYS,
        **_COMMON,
        **_WHOLE,
        "overrides": Field(
            ListOf(_OVERRIDE, "a list, such as [{sensors: {id: freezer-3}, levels: …}]"),
            "what differs for some sensors; the first that matches counts",
        ),
    },
)
_DEFAULTS = Fields("defaults", "{notify: [ops-telegram]}", {**_COMMON, **_WHOLE})
