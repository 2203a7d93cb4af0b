"""Checks of what a silence may match, and how long it may last."""

from datetime import datetime, timedelta
from typing import Any

from app.clock import now
from app.durations import parse_duration
from app.errors import InvalidRequestError
from app.globs import compile_glob
from app.model import LEVEL_NAMES
from app.names import TAGS_LIMIT
from app.parameters import check_text

#: Matchers whose value is a text. The value of the matcher `tags` is an object of texts.
_MATCHERS = ("rule", "sensor", "metric", "gateway", "level")
_LONGEST_SILENCE = timedelta(days=366)


def _check_not_blank(name: str, text: str) -> None:
    """Raise InvalidRequestError for a text that `check_text` refuses or that is blank."""
    check_text(name, text)
    if not text.strip():
        raise InvalidRequestError(f"{name} is empty")


def parse_for(end: datetime | None, text: str | None) -> timedelta | None:
    """Return the duration that `for` gives, or None where `to` gives the end. Raise InvalidRequestError."""
    if (end is None) == (text is None):
        raise InvalidRequestError('give either to, the end, or for, a duration such as "2h"')
    if text is None:
        return None
    try:
        duration = timedelta(microseconds=parse_duration(text))
    except ValueError as error:
        raise InvalidRequestError(f"for: {error}") from None
    if not duration:
        raise InvalidRequestError(f'for is {text!r}; give a duration that is longer than 0, such as "2h"')
    return duration


def parse_span(start: datetime | None, end: datetime | None, text: str | None) -> tuple[datetime | None, datetime]:
    """Return the start and the end of a silence. Raise InvalidRequestError."""
    duration = parse_for(end, text)
    if duration is not None:
        _check_zone("from", start or now())
        end = (start or now()) + duration
    assert end is not None  # noqa: S101 -- parse_for has checked it
    check_range(start, end)
    return start, end


def check_range(given_start: datetime | None, end: datetime) -> None:
    """Check the start (now if it is None) and the end of a silence.

    Raise InvalidRequestError for a time without a zone, and for a silence that is over, empty or longer than a year.
    """
    asked_at = now()
    start = given_start or asked_at
    for name, moment in (("from", start), ("to", end)):
        _check_zone(name, moment)
    if end <= start:
        raise InvalidRequestError(f"to is {end.isoformat()}; it must be later than from, {start.isoformat()}")
    if end <= asked_at:
        raise InvalidRequestError(f"to is {end.isoformat()}, which is in the past; it must be in the future")
    if end - start > _LONGEST_SILENCE:
        raise InvalidRequestError("a silence lasts a year at most; use `mute` in a rule to silence it permanently")


def _check_zone(name: str, moment: datetime) -> None:
    if moment.tzinfo is None:
        raise InvalidRequestError(f"{name} is {moment.isoformat()}, which has no zone; append Z for UTC")


def check_matchers(matchers: dict[str, Any]) -> None:
    """Raise InvalidRequestError for matchers that match everything, are unknown or malformed, or match nothing."""
    if not matchers:
        raise InvalidRequestError(
            f"matchers is empty, which would silence everything; give some of {', '.join(_MATCHERS)}, tags"
        )
    for name, wanted in matchers.items():
        if name == "tags":
            _check_tags(wanted)
        elif name in _MATCHERS and isinstance(wanted, str):
            _check_not_blank(f"matcher {name}", wanted)
        else:
            raise InvalidRequestError(
                f"matcher {name!r:.60} is {wanted!r:.60}; give {', '.join(_MATCHERS)} as texts, tags as an object"
            )
    level = matchers.get("level", "*")
    if not any(compile_glob(level)(name) for name in LEVEL_NAMES):
        raise InvalidRequestError(
            f"matcher level is {level!r}, which matches no level; levels are {', '.join(LEVEL_NAMES)}"
        )


def _check_tags(tags: object) -> None:
    if not isinstance(tags, dict) or not tags or not all(isinstance(text, str) for text in tags.values()):
        raise InvalidRequestError(f"matcher tags is {tags!r:.60}; give an object of texts, at least one")
    if len(tags) > TAGS_LIMIT:
        raise InvalidRequestError(f"matcher tags has {len(tags)} tags; give at most {TAGS_LIMIT}")
    for tag, text in tags.items():
        _check_not_blank("matcher tags: a tag's name", tag)
        check_text(f"matcher tags: {tag}", text)
