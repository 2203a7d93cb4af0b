"""Pages of lists, and the cursors that lead from one page to the next."""

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar

from app.clock import from_us
from app.errors import InvalidRequestError

Row = TypeVar("Row")

#: The largest id that a row can have: PostgreSQL's largest bigint.
LARGEST_ID = 2**63 - 1
_TIME_AND_ID = re.compile(r"([0-9]{1,18})\.([0-9]{1,18})")
_ID = re.compile(r"[0-9]{1,18}")


def cut_page(rows: Sequence[Row], limit: int, cursor_of: Callable[[Row], str]) -> tuple[Sequence[Row], str | None]:
    """Return the first `limit` of up to `limit + 1` rows, and the cursor of the next page, or None on the last page."""
    page = rows[:limit]
    return page, cursor_of(page[-1]) if len(rows) > limit else None


def time_cursor(time_us: int, last_id: object) -> str:
    """Return the cursor of a list in order of time (microseconds since 1970) and id."""
    return f"{time_us}.{last_id}"


def parse_time_cursor(cursor: str | None, first: tuple[datetime, int]) -> tuple[datetime, int]:
    """Parse a cursor from `time_cursor`; return `first` when there is none. Raises InvalidRequestError."""
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
    """Parse the cursor of a list in order of id; return `first` when there is none. Raises InvalidRequestError."""
    if cursor is None:
        return first
    if not _ID.fullmatch(cursor):
        raise wrong_cursor(cursor)
    return int(cursor)


def wrong_cursor(cursor: str) -> InvalidRequestError:
    """Return the error for a cursor that is not the `next` of any page."""
    return InvalidRequestError(f"cursor is {cursor!r:.60}; send the `next` of the page before, unchanged")
