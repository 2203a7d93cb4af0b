"""The grammar of rule files: the keys of each mapping, the values that they accept, and their descriptions.

The parser, its error texts and the JSON Schema are all derived from these tables. A new key needs one line here and
its use in `reader.py`. A new condition in `conditions/` becomes a keyword without a change here.
"""

from collections.abc import Mapping
from typing import cast

import msgspec

from app.alerting.conditions import CONDITIONS
from app.alerting.language.channels import ChannelFields, ChannelKind, find_channel_fields
from app.alerting.language.leaves import (
    CHANNEL_NAME,
    DATES,
    GATEWAY_GLOB,
    GLOB,
    LABEL,
    LINK,
    NAME,
    NAME_PATTERN,
    NAME_RULE,
    REMINDER,
    RULE_NAME,
    SETTING,
    TAG_VALUE,
    TEMPLATE,
    TEXT,
    TIME_OF_DAY,
    UPDATE_INTERVAL,
    UPLOADED_NAME,
    VALUE_OF,
)
from app.alerting.rules.mutes import DAYS, HOLIDAY
from app.model import LEVEL_NAMES
from app.yaml_files.kinds import Schema
from app.yaml_files.leaves import DURATION, FLAG, NUMBER, POSITIVE_DURATION, TIME_ZONE, VERSION, one_of
from app.yaml_files.lists import Ascending, ListOf, OneOrListOf, OneOrMore
from app.yaml_files.mappings import ByKey, Field, Fields, MapOf, ScalarOr


def file_kind(channel_fields: Mapping[str, ChannelFields] | None = None) -> Fields:
    """Return the kind of a whole rule file, with the given types of channels; None: all types."""
    return Fields(
        "file",
        "{version: 1, rules: []}",
        {
            "version": Field(VERSION, "the version of the rule language, always 1", required=True),
            "defaults": Field(_DEFAULTS, "settings for those rules of this file that do not have their own"),
            "rules": Field(ListOf(_RULES, "a list of rules"), "the rules"),
            "channels": Field(
                MapOf(
                    ChannelKind(find_channel_fields() if channel_fields is None else channel_fields),
                    "a mapping of names to channels",
                    name_pattern=NAME_PATTERN,
                    name_rule=NAME_RULE,
                ),
                "the channels that messages are sent to, each under the name that notify: refers to",
            ),
            "watchdog": Field(
                Fields(
                    "watchdog",
                    '{url: "${CHANNEL_WATCHDOG_URL}", every: 1m}',
                    {
                        "url": Field(
                            SETTING, "the address to request, such as that of a check of Healthchecks", required=True
                        ),
                        "every": Field(POSITIVE_DURATION, "how often it is requested; left out: 1m"),
                    },
                ),
                "an address that is requested while rules are evaluated, for a service that expects this",
            ),
        },
    )


def _condition_fields() -> dict[str, Field]:
    return {keyword: _condition_field(keyword) for keyword in CONDITIONS}


def _condition_field(keyword: str) -> Field:
    count = len(msgspec.structs.fields(cast("type[msgspec.Struct]", CONDITIONS[keyword])))
    words = keyword.replace("_", " ")
    if count == 1:
        return Field(NUMBER, f"the condition: value {words} this number")
    return Field(Ascending(NUMBER, count), f"the condition: value {words} these limits, the lower one first")


_ONE_CONDITION: list[Schema] = [{"required": [keyword]} for keyword in CONDITIONS]
_EXACTLY_ONE: Schema = {"oneOf": _ONE_CONDITION}
_AT_MOST_ONE: Schema = {"oneOf": [{"not": {"anyOf": _ONE_CONDITION}}, *_ONE_CONDITION]}

_CHANNEL_NAMES = ListOf(CHANNEL_NAME, "a list of channels, such as [ops-telegram]", unique=True, least=1)
_ROUTE = Fields(
    "route",
    "{to: duty, tags: {site: dairy}}",
    {
        "to": Field(OneOrMore(_CHANNEL_NAMES, CHANNEL_NAME), "the channels, one or a list", required=True),
        "tags": Field(
            MapOf(TAG_VALUE, "a mapping, such as {site: dairy}"),
            "tags that a sensor must have for messages to go there",
            required=True,
        ),
    },
)
_CHANNELS = ListOf(
    ScalarOr(CHANNEL_NAME, _ROUTE),
    "a list of channels, such as [ops-telegram] or [{to: duty, tags: {site: dairy}}]",
    unique=True,
)
_LABELS = ListOf(LABEL, "a list of sensor, metric, gateway or tags, such as [site]", unique=True)

_TAGS = ListOf(LABEL, "a list of tags, such as [room]", unique=True, least=1)

_SELECTOR = Fields(
    "sensors",
    "{metric: temperature}",
    {
        "id": Field(GLOB, "the sensor's name; * stands for any text, ? for one character"),
        "metric": Field(UPLOADED_NAME, "the metric's name"),
        "tags": Field(MapOf(TAG_VALUE, "a mapping, such as {room: cold}"), "tags that the sensor must have"),
        "gateway": Field(UPLOADED_NAME, "the gateway that uploads the sensor's readings"),
    },
    also={"minProperties": 1},
)

_LEVEL_TIMING = {
    "for": Field(DURATION, "how long the condition must hold before this level fires; left out: 0"),
    "notify": Field(_CHANNELS, "the channels that messages of this level are sent to; left out: the rule's notify"),
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
        "accept": Field(
            POSITIVE_DURATION,
            "no message is sent about an episode that ended longer ago than this when it was first seen; left out: 24h",
        ),
        "live": Field(
            POSITIVE_DURATION,
            "while a series' newest reading is older than this, the series is catching up, and its messages wait; "
            "left out: 15m",
        ),
        "notify": Field(
            one_of(("summary", "normal", "never")),
            "which messages are sent for an episode that had ended before its first message: "
            "one summary, the normal firing and resolved, or none; left out: summary",
        ),
    },
)
_NO_DATA = Fields(
    "no-data",
    "{after: 30m, then: alert}",
    {
        "after": Field(
            POSITIVE_DURATION,
            "a series is silent when no new reading has arrived for this long; "
            "left out: three times its usual interval, at least 5m",
        ),
        "then": Field(
            one_of(("alert", "keep", "clear")),
            "alert: send an alert; clear: send a message that the alert ended for lack of data; keep: do nothing; "
            "left out: alert",
        ),
    },
)
_DATE_LIST = ListOf(DATES, 'a list of dates, such as [2026-12-24, "2026-12-31 to 2027-01-01"]', least=1)
_MUTE = Fields(
    "mute-window",
    '{days: [sat, sun], from: "22:00", to: "06:00", tz: Europe/Berlin}',
    {
        "days": Field(
            ListOf(one_of((*DAYS, HOLIDAY)), "a list of days, such as [sat, sun]", unique=True, least=1),
            "the days on which the window begins; holiday: the dates in holidays; left out: every day",
        ),
        "dates": Field(
            _DATE_LIST, "the dates on which the window begins, each a date or a range; left out: every date"
        ),
        "from": Field(TIME_OF_DAY, 'the time at which the window begins; left out: "00:00"'),
        "to": Field(
            TIME_OF_DAY, 'the time at which the window ends, on the next day if not later than from; left out: "24:00"'
        ),
        "tz": Field(TIME_ZONE, "the time zone of from, to and dates; left out: the timezone of the rule, else UTC"),
        "only": Field(
            one_of(("during",)),
            "during: messages are sent during this window alone, and the rule is muted at all other times",
        ),
    },
    also={"anyOf": [{"required": [key]} for key in ("days", "dates", "from", "to")]},
)
_INHIBITION = Fields(
    "inhibition",
    "{rule: gateway-offline, same: [gateway]}",
    {
        "rule": Field(RULE_NAME, "the rule that holds back this rule's messages while it fires", required=True),
        "same": Field(
            _LABELS, "what must be equal for both alerts: sensor, metric, gateway or names of tags", required=True
        ),
    },
)

_WHEN = Fields(
    "when",
    "{metric: door, equals: 0, max_age: 24h}",
    _condition_fields()
    | {
        "metric": Field(UPLOADED_NAME, "the name of the second metric", required=True),
        "max_age": Field(
            POSITIVE_DURATION,
            "an older reading does not count: the value is then unknown, and the condition counts as met",
            required=True,
        ),
        "same": Field(
            _TAGS,
            "names of tags: the metric of every sensor with equal values of these counts; "
            "left out: the metric of the same sensor",
        ),
    },
    also=_EXACTLY_ONE,
)

#: Keys of `defaults`, of a rule and of an override.
_COMMON = {
    "max_gap": Field(
        POSITIVE_DURATION,
        "after a longer gap between two readings, the time of for: starts anew; left out: gaps have no effect",
    ),
    "late_data": Field(_LATE_DATA, "which messages are sent about readings that arrive late"),
    "no_data": Field(_NO_DATA, "what happens when a series falls silent; left out: nothing"),
    "notify": Field(_CHANNELS, "the channels that messages are sent to; left out: every channel; []: none"),
    "mute": Field(
        ListOf(_MUTE, 'a list, such as [{days: [sat, sun], from: "22:00", to: "06:00"}]'),
        "windows of time without messages; only the end of an alert that was already sent is still sent",
    ),
    "holidays": Field(_DATE_LIST, "the dates that count as holiday in days of mute"),
    "message": Field(TEMPLATE, "the text of messages, with {sensor}, {value}, {threshold} and other placeholders"),
    "runbook": Field(LINK, "the address of instructions for whoever handles the alert"),
}
#: Keys of a rule and of an override.
_COMPARISON = {
    "value": Field(
        VALUE_OF,
        "what is compared: last, which is the reading itself, or the avg, min, max, delta, hourly rate, increase or "
        "range over a window",
    ),
    "unit": Field(TEXT, "the unit shown in messages; left out: the series' own unit"),
    "counter": Field(
        FLAG,
        'true: the readings are those of a counter, whose fall is a reset; for value: "rate …" only; left out: false',
    ),
    "holds": Field(
        FLAG,
        "true: a value counts until the next reading, at most for max_gap, as for sensors that report changes only; "
        "left out: false",
    ),
    "when": Field(
        OneOrListOf(_WHEN, "a mapping, such as {metric: door, equals: 0, max_age: 24h}, or a list of up to 4", most=4),
        "a second metric: the levels count only while it meets its condition; [] in an override: none",
    ),
    "clear": Field(_CLEAR, "when an episode ends; left out: as soon as the lowest level no longer holds"),
}
#: Keys of `defaults` and of a rule, which concern a rule as a whole and so cannot be overridden.
_WHOLE_RULE = {
    "group_by": Field(
        _LABELS, "alerts with equal values of these share one message; left out: one message for the rule"
    ),
    "group_wait": Field(
        DURATION,
        "how long the first message of a group waits for others, unless one is critical or worse; left out: 30s",
    ),
    "update_every": Field(
        UPDATE_INTERVAL,
        "the time between two messages about later changes of a group, in which there are at most six of any kind; "
        "left out: 5m",
    ),
    "remind_every": Field(REMINDER, 'the time between two reminders while an alert fires, or "never"; left out: 4h'),
    "timezone": Field(TIME_ZONE, "the time zone of times in messages; left out: the server's"),
    "escalate": Field(
        Fields(
            "escalation",
            "{after: 15m, notify: [boss]}",
            {
                "after": Field(
                    POSITIVE_DURATION,
                    "the time from the first message about an alert, if nobody acknowledges it",
                    required=True,
                ),
                "notify": Field(_CHANNEL_NAMES, "the channels that get a message then, too", required=True),
            },
        ),
        "who else gets messages about an alert that nobody acknowledges",
    ),
    "inhibited_by": Field(
        ListOf(_INHIBITION, "a list, such as [{rule: gateway-offline, same: [gateway]}]"),
        "rules that hold back this rule's messages while they fire",
    ),
}

_OVERRIDE = Fields(
    "override",
    "{sensors: {id: freezer-3}, levels: {warning: {above: -15.0}}}",
    {
        "sensors": Field(_SELECTOR, "which of the rule's sensors the override applies to", required=True),
        "levels": Field(
            _levels("changed-levels", _CHANGED_LEVEL),
            "the levels that differ; what a level does not set here, such as for:, stays as in the rule",
        ),
        **_COMPARISON,
        **_COMMON,
    },
    also={"minProperties": 2},
)
_RULE = Fields(
    "rule",
    "{name: too-warm, sensors: {metric: temperature}, levels: {warning: {above: 8.0}}}",
    {
        "name": Field(NAME, "the rule's name, unique over all files", required=True),
        "kind": Field(one_of(("threshold", "gateway_offline")), "threshold, or gateway_offline; left out: threshold"),
        "sensors": Field(_SELECTOR, "which sensors and metric the rule applies to", required=True),
        "levels": Field(_levels("levels", _LEVEL), "the levels, least severe first", required=True),
        **_COMPARISON,
        **_COMMON,
        **_WHOLE_RULE,
        "overrides": Field(
            ListOf(_OVERRIDE, "a list, such as [{sensors: {id: freezer-3}, levels: …}]"),
            "what differs for some sensors; the first override that matches a sensor applies",
        ),
    },
)
_OFFLINE_RULE = Fields(
    "offline-rule",
    '{name: dairy-offline, kind: gateway_offline, gateways: "dairy-*"}',
    {
        "name": Field(NAME, "the rule's name, unique over all files", required=True),
        "kind": Field(one_of(("gateway_offline",)), "gateway_offline: an alert about whole gateways", required=True),
        "gateways": Field(GATEWAY_GLOB, 'the names of the gateways; * stands for any text; left out: "*"'),
        "after": Field(
            POSITIVE_DURATION,
            "a gateway is offline when none of its sensors sent a new reading for this long; left out: three times "
            "their usual intervals, at least 5m",
        ),
        "level": Field(one_of(LEVEL_NAMES), "the level of the alert; left out: error"),
        **{name: _COMMON[name] for name in ("notify", "mute", "holidays", "message", "runbook")},
        **_WHOLE_RULE,
    },
)
_RULES = ByKey("kind", {"threshold": _RULE, "gateway_offline": _OFFLINE_RULE})
_DEFAULTS = Fields("defaults", "{notify: [ops-telegram]}", {**_COMMON, **_WHOLE_RULE})
