"""Pages of lists: the cursor that leads to the next page, made and read back."""

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar

from app.clock import from_us
from app.errors import InvalidRequestError

Row = TypeVar("Row")

#: The largest number that PostgreSQL gives a row.
LARGEST_ID = 2**63 - 1
_TIME_AND_ID = re.compile(r"([0-9]{1,18})\.([0-9]{1,18})")
_ID = re.compile(r"[0-9]{1,18}")


def cut_page(rows: Sequence[Row], limit: int, cursor_of: Callable[[Row], str]) -> tuple[Sequence[Row], str | None]:
    """Split up to `limit + 1` rows into one page and the cursor of the next; None when there is no next page."""
    page = rows[:limit]
    return page, cursor_of(page[-1]) if len(rows) > limit else None


def time_cursor(time_us: int, last_id: object) -> str:
    """Write the cursor of a list in order of time (microseconds since 1970) and id."""
    return f"{time_us}.{last_id}"


def parse_time_cursor(cursor: str | None, first: tuple[datetime, int]) -> tuple[datetime, int]:
    """Read what `time_cursor` wrote; return `first` for the first page. Raises InvalidRequestError."""
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
    """Read the cursor of a list in order of ids; return `first` for the first page. Raises InvalidRequestError."""
    if cursor is None:
        return first
    if not _ID.fullmatch(cursor):
        raise wrong_cursor(cursor)
    return int(cursor)


def wrong_cursor(cursor: str) -> InvalidRequestError:
    """Make the error for a cursor that no page gave."""
    return InvalidRequestError(f"cursor is {cursor!r:.60}; send the `next` of the page before, unchanged")
