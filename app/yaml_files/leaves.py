"""Single values that files of any kind may hold: words of a list, numbers, durations, texts, time zones."""

import re
from collections.abc import Iterable

from app.durations import DURATION_PATTERN, parse_duration
from app.hints import did_you_mean, listed, shown
from app.local_times import zone_names
from app.model import VALUE_LIMIT
from app.yaml_files.kinds import Leaf, Schema, WrongTypeError
from app.yaml_files.nodes import ScalarNode

#: What people write in place of an accepted word.
_OTHER_WORDS = {
    "average": "avg",
    "mean": "avg",
    **{day: day[:3] for day in ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")},
}


def one_of(words: Iterable[str]) -> Leaf:
    """Return the kind of value that is one of the given words."""
    accepted = tuple(words)

    def parse(scalar: ScalarNode) -> str:
        if scalar.text not in accepted:
            meant = did_you_mean(_OTHER_WORDS.get(scalar.text.lower(), scalar.text), accepted)
            raise ValueError(f"{shown(scalar.text)} is not known{meant} (accepted: {listed(accepted)})")
        return scalar.text

    return Leaf(listed(accepted), parse, {"enum": list(accepted)})


def parse_text(scalar: ScalarNode) -> str:
    """Return a text that is not empty; a number needs quotes to be a text."""
    if scalar.meaning != "text":
        raise WrongTypeError(f'as text it needs quotes: "{scalar.text[:40]}"')
    if not scalar.text.strip():
        raise ValueError("it must not be empty")
    return scalar.text


def _number(scalar: ScalarNode) -> float:
    if scalar.meaning != "number":
        raise WrongTypeError(_number_hint(scalar))
    if scalar.text.lower().lstrip("+-") in (".inf", ".nan"):
        raise ValueError(f"{scalar.text} is never crossed; write a number such as 8.0")
    if not re.fullmatch(r"[-+]?(0|[1-9][0-9]*|(?=\.))(\.[0-9]*)?([eE][-+]?[0-9]+)?", scalar.text):
        raise ValueError(f"YAML tools disagree about {scalar.text[:40]}; write a plain decimal such as 8 or 0.5")
    value = float(scalar.text)
    if abs(value) > VALUE_LIMIT:
        raise ValueError(f"no reading is beyond ±{VALUE_LIMIT:g}")
    return value + 0.0  # -0.0 is 0.0


def _number_hint(scalar: ScalarNode) -> str:
    text = scalar.text.strip()
    if re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", text) and scalar.style == "quoted":
        return "without the quotes"
    if re.fullmatch(r"-?[0-9]+,[0-9]+", text):
        return f"did you mean {text.replace(',', '.')}?"
    if re.fullmatch(r"-?[0-9]+(_[0-9]+)+", text):
        return f"did you mean {text.replace('_', '')}?"
    if re.fullmatch(r"[0-9]+(:[0-9]{2})+", text):
        return "YAML 1.1 tools take it for a number in base 60"
    if unit := re.fullmatch(r"(-?[0-9.]+)\s*([^\d\s.].{0,20})", text):
        return f"did you mean {unit[1]}? Give the unit by itself, as unit: {shown(unit[2])}"
    return ""


def duration_us(scalar: ScalarNode) -> int:
    """Return a duration in microseconds."""
    if scalar.meaning == "boolean":
        raise WrongTypeError
    return parse_duration(scalar.text)


def _positive_duration(scalar: ScalarNode) -> int:
    duration = duration_us(scalar)
    if duration <= 0:
        raise ValueError("it must be longer than 0")
    return duration


def _time_zone(scalar: ScalarNode) -> str:
    text = parse_text(scalar)
    if text not in zone_names():
        # Abbreviations such as CEST are near to many names, and none of these is meant.
        meant = did_you_mean(text, zone_names()) if "/" in text else "; write one such as Europe/Berlin"
        raise ValueError(f"there is no time zone {shown(text)}{meant}")
    return text


def _flag(scalar: ScalarNode) -> bool:
    if scalar.meaning != "boolean" or scalar.text.lower() not in ("true", "false"):
        meant = {"yes": "true", "on": "true", "no": "false", "off": "false"}.get(scalar.text.lower())
        raise WrongTypeError(f"did you mean {meant}?" if meant else "")
    return scalar.text.lower() == "true"


def _version(scalar: ScalarNode) -> int:
    if scalar.style != "plain" or scalar.text != "1":
        raise WrongTypeError
    return 1


TEXT_SCHEMA: Schema = {"type": "string", "minLength": 1}
DURATION_SCHEMA: Schema = {"type": "string", "pattern": DURATION_PATTERN}

VERSION = Leaf("the number 1", _version, {"const": 1})
FLAG = Leaf("true or false", _flag, {"type": "boolean"})
NUMBER = Leaf("a number, such as 8.0", _number, {"type": "number"})
DURATION = Leaf("a duration, such as 10m", duration_us, {"anyOf": [DURATION_SCHEMA, {"enum": [0, "0"]}]})
POSITIVE_DURATION = Leaf("a duration, such as 5m", _positive_duration, DURATION_SCHEMA)
TIME_ZONE = Leaf("a time zone, such as Europe/Berlin", _time_zone, TEXT_SCHEMA)
