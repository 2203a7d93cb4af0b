"""Single values that only rule files hold: times of day, names, templates, settings of channels."""

import re
from datetime import date
from typing import get_args, get_type_hints

import msgspec

from app.alerting.episodes.samples import ValueOf
from app.alerting.rules.channel_secrets import REFERENCE_PATTERN, reference_fault, references
from app.alerting.rules.model import GATEWAY_OFFLINE
from app.clock import MINUTE_US, SECOND_US
from app.durations import (
    DURATION_PATTERN,
    TIME_PATTERN,
    format_time_of_day,
    parse_duration,
    parse_time_of_day,
)
from app.hints import did_you_mean, listed, shown
from app.names import SENSOR_NAME_LIMIT, tidy_name
from app.rule_texts import template_fault
from app.yaml_files.kinds import Leaf, WrongTypeError
from app.yaml_files.leaves import DURATION_SCHEMA, TEXT_SCHEMA, duration_us, parse_text
from app.yaml_files.nodes import ScalarNode
from app.yaml_files.problems import Place

#: Names of rules and channels. They become parts of URLs, metrics and group keys.
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$"
NAME_RULE = "may have letters, digits, dots, dashes and underscores, at most 100, a letter or digit first"


class Reference(msgspec.Struct, frozen=True):
    """The name of a rule or channel at a place that refers to it."""

    name: str
    place: Place


def _reminder(scalar: ScalarNode) -> int | None:
    if scalar.text == "never":
        return None
    if scalar.text.lower() in ("no", "off", "false", "none", "0"):
        raise ValueError(f"{shown(scalar.text)} is not accepted; did you mean never?")
    duration = duration_us(scalar)
    if duration < MINUTE_US:
        raise ValueError('it must be at least 1m, or "never"')
    return duration


def _update_interval(scalar: ScalarNode) -> int:
    duration = duration_us(scalar)
    if duration < SECOND_US:
        raise ValueError("it must be at least 1s")
    return duration


def _dates(scalar: ScalarNode) -> tuple[date, date]:
    """Return the first and the last date of `2026-12-24` or `2026-12-24 to 2027-01-01`."""
    text = _text(scalar) if scalar.meaning == "text" else scalar.text
    first, _, last = (part.strip() for part in text.partition(" to "))
    try:
        span = date.fromisoformat(first), date.fromisoformat(last or first)
    except ValueError:
        raise ValueError(
            f'{shown(text)} is no date; write 2026-12-24, or "2026-12-24 to 2027-01-01" for all days between'
        ) from None
    if span[0] > span[1]:
        raise ValueError(f'{shown(text)} ends before it begins; did you mean "{span[1]} to {span[0]}"?')
    return span


def _time_of_day(scalar: ScalarNode) -> int:
    if scalar.meaning == "number" and scalar.text.isdigit() and int(scalar.text[:5]) <= 24 * 60:
        clock = format_time_of_day(int(scalar.text) * MINUTE_US)
        raise WrongTypeError(f'did you mean "{clock}"? Unquoted, YAML 1.1 tools read it as {scalar.text}')
    if scalar.meaning != "text":
        raise WrongTypeError
    time = parse_time_of_day(scalar.text)
    if scalar.style == "plain":
        raise ValueError(f'write "{scalar.text}" in quotes; unquoted, YAML 1.1 reads it as {time // MINUTE_US}')
    return time


def _text(scalar: ScalarNode) -> str:
    text = parse_text(scalar)
    if references(text):
        raise ValueError("only the secrets of channels may come from the environment")
    return text


def _glob(scalar: ScalarNode) -> str:
    text = _name_of_uploads(scalar)
    if len(text) > SENSOR_NAME_LIMIT:
        raise ValueError(f"{shown(text)} has {len(text):,} characters; a sensor's name has at most {SENSOR_NAME_LIMIT}")
    return text


def _name_of_uploads(scalar: ScalarNode) -> str:
    """Return the name of a sensor, metric or gateway, or a pattern of such names, as names are stored."""
    return tidy_name(_text(scalar))


def _name(scalar: ScalarNode) -> str:
    text = _text(scalar)
    if not re.fullmatch(NAME_PATTERN, text):
        suggestion = re.sub(r"[^A-Za-z0-9_.]+", "-", text).strip("-_.")[:100]
        meant = f"; did you mean {shown(suggestion)}?" if suggestion else ""
        raise ValueError(f"{shown(text)} is not a name{meant} A name {NAME_RULE}")
    return text


def _reference(scalar: ScalarNode) -> Reference:
    return Reference(_text(scalar), scalar.place)


def _as_written(scalar: ScalarNode) -> str:
    if references(scalar.text):
        raise ValueError("only the secrets of channels may come from the environment")
    return scalar.text


def _setting(scalar: ScalarNode) -> str:
    if scalar.meaning == "boolean":
        raise WrongTypeError
    if fault := reference_fault(scalar.text):
        raise ValueError(fault)
    return scalar.text


def _template(scalar: ScalarNode) -> str:
    text = _text(scalar)
    if fault := template_fault(text):
        raise ValueError(fault)
    return text


def _link(scalar: ScalarNode) -> str:
    text = _text(scalar)
    if not re.fullmatch(r"https?://\S+", text):
        raise ValueError(f"{shown(text)} is not an address that begins with https:// or http://")
    return text


def _value_of(scalar: ScalarNode) -> ValueOf:
    text = _text(scalar)
    kind, _, window = text.partition(" ")
    if kind not in _VALUE_KINDS:
        meant = did_you_mean(_OTHER_WORDS.get(kind, kind), _VALUE_KINDS)
        raise ValueError(f"{shown(text)} is not known{meant} (accepted: {_VALUES})")
    if kind == "last":
        if window:
            raise ValueError('"last" takes no window: each reading is compared as it is')
        return ValueOf()
    if not window:
        raise ValueError(f'"{kind}" needs a window: write "{kind} 5m"')
    window_us = parse_duration(window.strip())
    if window_us <= 0:
        raise ValueError(f'the window of "{kind}" must be longer than 0')
    return msgspec.convert({"kind": kind, "window_us": window_us}, ValueOf)


_VALUE_KINDS = get_args(get_type_hints(ValueOf)["kind"])
_OTHER_WORDS = {"average": "avg", "mean": "avg"}
_WINDOWED = tuple(kind for kind in _VALUE_KINDS if kind != "last")
_VALUES = listed(["last", *(f"{kind} 5m" for kind in _WINDOWED)])
_VALUE_PATTERN = f"^(last|({'|'.join(_WINDOWED)}) +{DURATION_PATTERN.strip('^$')})$"


REMINDER = Leaf('a duration, such as 4h, or "never"', _reminder, {"anyOf": [DURATION_SCHEMA, {"const": "never"}]})
UPDATE_INTERVAL = Leaf("a duration, such as 5m", _update_interval, DURATION_SCHEMA)
DATES = Leaf('a date, such as 2026-12-24, or "2026-12-24 to 2027-01-01"', _dates, {"type": "string"})
TIME_OF_DAY = Leaf('a time in quotes, such as "22:00"', _time_of_day, {"type": "string", "pattern": TIME_PATTERN})
TEXT = Leaf('text, such as "°C"', _text, TEXT_SCHEMA)
LABEL = Leaf("a name, such as temperature", _text, TEXT_SCHEMA)
UPLOADED_NAME = Leaf("a name, such as temperature", _name_of_uploads, TEXT_SCHEMA)
GLOB = Leaf('a sensor\'s name, such as "freezer-*"', _glob, TEXT_SCHEMA)
GATEWAY_GLOB = Leaf('the name of a gateway, such as "dairy-*"', _glob, TEXT_SCHEMA)
TAG_VALUE = Leaf("text, such as cold", _as_written, {"type": ["string", "number", "boolean"]})
NAME = Leaf("a name, such as cold-room-too-warm", _name, {"type": "string", "pattern": NAME_PATTERN})
RULE_NAME = Leaf(f"a rule's name, such as {GATEWAY_OFFLINE}", _reference, TEXT_SCHEMA)
CHANNEL_NAME = Leaf("a channel's name, such as ops-telegram", _reference, TEXT_SCHEMA)
TEMPLATE = Leaf('text, such as "{sensor}: {value}{unit}"', _template, TEXT_SCHEMA, blocks=True)
LINK = Leaf("an address, such as https://wiki.example/cold-room", _link, {"type": "string", "pattern": "^https?://"})
VALUE_OF = Leaf(_VALUES, _value_of, {"type": "string", "pattern": _VALUE_PATTERN})
SETTING = Leaf("one text or number", _setting, {"type": ["string", "number"]})
SECRET = Leaf('text, such as "${SLACK_WEBHOOK_URL}"', _setting, {"type": "string", "pattern": REFERENCE_PATTERN})
