"""What requests about alerts are asked for, each refused with its name, its value and what would be right."""

import re
from datetime import UTC, datetime
from typing import Annotated

from litestar.openapi.datastructures import ResponseSpec
from litestar.params import QueryParameter

from app.clock import from_us
from app.errors import InvalidRequestError
from app.problems import Problem

PROBLEMS = {
    400: ResponseSpec(Problem, description="A parameter or the body has a value that cannot be used"),
    401: ResponseSpec(Problem, description="Missing or unknown API key"),
    403: ResponseSpec(Problem, description="The key lacks the scope"),
    404: ResponseSpec(Problem, description="No such alert or silence"),
}
Limit = Annotated[int, QueryParameter(ge=1, le=1_000, description="Items a page")]
Cursor = Annotated[str | None, QueryParameter(description="The `next` of the page before")]
RuleName = Annotated[str | None, QueryParameter(description="Only this rule")]
SensorName = Annotated[str | None, QueryParameter(description="Only this sensor")]

#: Characters of a name or a pattern.
NAME_LENGTH = 200
#: The largest that PostgreSQL numbers rows with.
LARGEST_ID = 2**63 - 1
_END_OF_TIME = datetime(9999, 1, 1, tzinfo=UTC)
_TIME_AND_ID = re.compile(r"([0-9]{1,18})\.([0-9]{1,18})")
_ID = re.compile(r"[0-9]{1,18}")


def parse_time_cursor(cursor: str | None) -> tuple[datetime, int]:
    """Read the cursor of a page that goes back in time: microseconds and id; after all when there is none."""
    if cursor is None:
        return _END_OF_TIME, 0
    match = _TIME_AND_ID.fullmatch(cursor)
    try:
        if match is not None:
            return from_us(int(match[1])), int(match[2])
    except OverflowError:
        pass
    raise _wrong_cursor(cursor)


def parse_id_cursor(cursor: str | None) -> int:
    """Read the cursor of a page in order of ids; before all when there is none."""
    if cursor is None:
        return 0
    if not _ID.fullmatch(cursor):
        raise _wrong_cursor(cursor)
    return int(cursor)


def check_text(name: str, text: str | None, longest: int = NAME_LENGTH) -> None:
    """Refuse what PostgreSQL cannot take as text, or nobody would read."""
    if text is None:
        return
    if "\0" in text:
        raise InvalidRequestError(f"{name} is {text!r:.60}; leave out the NUL character")
    if len(text) > longest:
        raise InvalidRequestError(f"{name} has {len(text):,} characters; give at most {longest:,}")


def check_name(name: str, text: str) -> None:
    """Refuse a text that does not name anybody or anything, too."""
    check_text(name, text)
    if not text.strip():
        raise InvalidRequestError(f"{name} is empty")


def _wrong_cursor(cursor: str) -> InvalidRequestError:
    return InvalidRequestError(f"cursor is {cursor!r:.60}; send the `next` of the page before, unchanged")
