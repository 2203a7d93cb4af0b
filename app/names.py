"""Which names, tags and units can be stored; for uploads, and for what operators set."""

from functools import lru_cache

SENSOR_NAME_LIMIT = 200
METRIC_NAME_LIMIT = 100
TAGS_LIMIT = 32
TAG_LENGTH_LIMIT = 200
UNIT_LENGTH_LIMIT = 30


@lru_cache(maxsize=65_536)
def is_sensor_name(name: str) -> bool:
    """Return whether a sensor may have this name."""
    return is_short_text(name, SENSOR_NAME_LIMIT)


@lru_cache(maxsize=4_096)
def is_metric_name(name: str) -> bool:
    """Return whether a metric may have this name."""
    return is_short_text(name, METRIC_NAME_LIMIT)


@lru_cache(maxsize=4_096)
def is_unit(text: str) -> bool:
    """Return whether this can be a unit, such as `°C` or `m³/h`."""
    return is_short_text(text, UNIT_LENGTH_LIMIT)


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
    for name, value in tags.items():
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
    text = "null" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
