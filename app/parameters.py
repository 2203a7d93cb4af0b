"""Parameters that several domains take, each refused with its name, its value and what would be right."""

import re
from datetime import datetime
from typing import Annotated

from litestar.params import QueryParameter

from app.clock import from_us
from app.errors import InvalidRequestError

Limit = Annotated[int, QueryParameter(ge=1, le=1_000, description="Items a page")]
Cursor = Annotated[str | None, QueryParameter(description="The `next` of the page before")]

#: Characters of a name or a pattern.
NAME_LENGTH = 200
#: The largest that PostgreSQL numbers rows with.
LARGEST_ID = 2**63 - 1
_TIME_AND_ID = re.compile(r"([0-9]{1,18})\.([0-9]{1,18})")
_ID = re.compile(r"[0-9]{1,18}")


def parse_time_cursor(cursor: str | None, first: tuple[datetime, int]) -> tuple[datetime, int]:
    """Read the cursor of a page in order of time: microseconds and id; `first` when there is none."""
    if cursor is None:
        return first
    match = _TIME_AND_ID.fullmatch(cursor)
    try:
        if match is not None:
            return from_us(int(match[1])), int(match[2])
    except OverflowError:
        pass
    raise wrong_cursor(cursor)


def parse_id_cursor(cursor: str | None, first: int) -> int:
    """Read the cursor of a page in order of ids; `first` when there is none."""
    if cursor is None:
        return first
    if not _ID.fullmatch(cursor):
        raise wrong_cursor(cursor)
    return int(cursor)


def wrong_cursor(cursor: str) -> InvalidRequestError:
    """Say that no page gave this cursor."""
    return InvalidRequestError(f"cursor is {cursor!r:.60}; send the `next` of the page before, unchanged")


def check_text(name: str, text: str, longest: int = NAME_LENGTH) -> str:
    """Refuse what PostgreSQL cannot take as text, or nobody would read; raise InvalidRequestError."""
    if "\0" in text:
        raise InvalidRequestError(f"{name} is {text!r:.60}; leave out the NUL character")
    if len(text) > longest:
        raise InvalidRequestError(f"{name} has {len(text):,} characters; give at most {longest:,}")
    return text
