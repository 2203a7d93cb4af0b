"""Rules for the names, tags and units that can be stored; for uploads, and for the fields that operators set."""

import unicodedata
from collections.abc import Collection
from functools import lru_cache
from itertools import islice, pairwise

SENSOR_NAME_LIMIT = 200
METRIC_NAME_LIMIT = 100
TAGS_LIMIT = 32
TAG_LENGTH_LIMIT = 200
UNIT_LENGTH_LIMIT = 30
#: A longer text is no name in any form; it is not even normalized.
_NORMALIZED_LIMIT = 1_000
#: Names that would be steps of a path in an address.
_STEPS = (".", "..")
#: The character that makes one emoji of two.
_JOINER = "\u200d"


def tidy_name(name: str) -> str:
    """Return a name as it is stored: in Unicode's form NFC, without the blanks around it."""
    if not name.isascii() and len(name) <= _NORMALIZED_LIMIT:
        name = unicodedata.normalize("NFC", name)
    return name.strip()


def is_sensor_name(name: str) -> bool:
    """Return whether a sensor may have this name, as it stands; `tidy_name` makes one of many that may not."""
    return len(name) <= SENSOR_NAME_LIMIT and _is_sensor_name(name)


def is_metric_name(name: str) -> bool:
    """Return whether a metric may have this name."""
    return len(name) <= METRIC_NAME_LIMIT and _is_metric_name(name)


def is_unit(text: str) -> bool:
    """Return whether this can be a unit, such as `°C` or `m³/h`."""
    return is_short_text(text, UNIT_LENGTH_LIMIT)


def are_sensor_names(names: Collection[str]) -> bool:
    """Return whether sensors may have all these names."""
    return max(map(len, names), default=0) <= SENSOR_NAME_LIMIT and all(map(_is_sensor_name, names))


def are_metric_names(names: Collection[str]) -> bool:
    """Return whether metrics may have all these names."""
    return max(map(len, names), default=0) <= METRIC_NAME_LIMIT and all(map(_is_metric_name, names))


# Only short names reach the caches, which would keep a rejected name of megabytes for ever.
@lru_cache(maxsize=65_536)
def _is_sensor_name(name: str) -> bool:
    return _is_tidy(name, SENSOR_NAME_LIMIT)


@lru_cache(maxsize=4_096)
def _is_metric_name(name: str) -> bool:
    return _is_tidy(name, METRIC_NAME_LIMIT)


def _is_tidy(name: str, limit: int) -> bool:
    return name not in _STEPS and name == tidy_name(name) and is_short_text(_without_joiners(name), limit)


def _without_joiners(name: str) -> str:
    """Return a name without the joiners between two emoji; anywhere else, nobody would see a joiner."""
    if _JOINER not in name:
        return name
    parts = name.split(_JOINER)
    are_joined = all(_is_emoji(left.rstrip("\ufe0f")[-1:]) and _is_emoji(right[:1]) for left, right in pairwise(parts))
    return "".join(parts) if are_joined else name


def _is_emoji(letter: str) -> bool:
    # Sk has the colours of skin.
    return letter != "" and unicodedata.category(letter) in ("So", "Sk")


def is_short_text(text: str, limit: int) -> bool:
    """Return whether a text has 1 to `limit` printable characters and is not blank."""
    return 0 < len(text) <= limit and text.isprintable() and not text.isspace()


def is_storable(text: str) -> bool:
    """Return whether PostgreSQL can store the text; JSON can contain both NUL and half a surrogate pair."""
    return text.isprintable() or not ("\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text))


def explain_tags(tags: object) -> str | None:
    """Return why this cannot be stored as tags, or None: tags are at most TAGS_LIMIT short texts by short texts."""
    if not isinstance(tags, dict) or len(tags) > TAGS_LIMIT:
        return f"tags is {show(tags)}; send an object of at most {TAGS_LIMIT} texts"
    return next((reason for name, value in tags.items() if (reason := explain_tag(name, value)) is not None), None)


def explain_tag(name: object, value: object) -> str | None:
    """Return why this cannot be stored as a tag, or None."""
    for text in (name, value):
        if not isinstance(text, str) or len(text) > TAG_LENGTH_LIMIT or not is_storable(text):
            return (
                f"tag {show(name)} is {show(value)}; send texts of at most {TAG_LENGTH_LIMIT} characters, "
                "without NUL and unpaired surrogates"
            )
    return None


def explain_units(units: object) -> str | None:
    """Return why this cannot be stored as units, or None: units are short texts or nulls by metric."""
    if not isinstance(units, dict):
        return f'units is {show(units)}; send an object such as {{"temperature": "°C"}}'
    for metric, unit in units.items():
        if unit is not None and not (isinstance(unit, str) and is_unit(unit)):
            return f"the unit of {show(metric)} is {show(unit)}; send 1 to {UNIT_LENGTH_LIMIT} printable characters"
    return None


def show(value: object) -> str:
    """Return a value as text for a message, cut to 60 characters."""
    text = "null" if value is None else repr(_beginning(value))
    return text if len(text) <= 60 else f"{text[:57]}..."


def _beginning(value: object, levels: int = 60) -> object:
    """Return enough of a value to show its first 60 characters, so that a large one makes no text of megabytes."""
    if isinstance(value, str | bytes):
        return value[:61]
    if not levels:
        return ...
    if isinstance(value, dict):
        return {_beginning(key, levels - 1): _beginning(item, levels - 1) for key, item in islice(value.items(), 21)}
    if isinstance(value, list):
        return [_beginning(item, levels - 1) for item in islice(value, 21)]
    return value
