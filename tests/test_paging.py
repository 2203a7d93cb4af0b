"""Pages and their cursors: accepted ones, refused ones, and the messages."""

from datetime import UTC, datetime, timedelta

import pytest

from app.errors import InvalidRequestError
from app.paging import cut_page, parse_id_cursor, parse_time_cursor

NOW = datetime(2026, 1, 31, 8, tzinfo=UTC)


def test_cursor_is_the_default_when_absent() -> None:
    assert parse_time_cursor(None, (NOW, -1)) == (NOW, -1)
    assert parse_id_cursor(None, 5) == 5


def test_cursor_is_parsed_when_it_came_from_a_page() -> None:
    assert parse_time_cursor("1769846400000001.7", (NOW, -1)) == (NOW + timedelta(microseconds=1), 7)
    assert parse_id_cursor("7", 5) == 7


@pytest.mark.parametrize(
    "cursor", ["", "1", "1.", ".1", "1.1.1", "a.b", "1 .2", "1_0.2", "-1.1", "٣.1", "9" * 18 + ".1", "1." + "9" * 19]
)
def test_time_cursor_is_refused_when_it_came_from_no_page(cursor: str) -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        parse_time_cursor(cursor, (NOW, -1))
    assert str(refusal.value) == f"cursor is {cursor!r:.60}; send the `next` of the page before, unchanged"


@pytest.mark.parametrize("cursor", ["", "-1", "1.1", "x", " 1", "1_0", "٣", "9" * 19])
def test_id_cursor_is_refused_when_it_came_from_no_page(cursor: str) -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        parse_id_cursor(cursor, 0)
    assert str(refusal.value) == f"cursor is {cursor!r:.60}; send the `next` of the page before, unchanged"


def test_page_has_a_cursor_when_more_rows_follow() -> None:
    assert cut_page([5, 6, 7], 2, str) == ([5, 6], "6")


def test_page_has_no_cursor_when_it_is_the_last() -> None:
    assert cut_page([5, 6], 2, str) == ([5, 6], None)
    assert cut_page([], 2, str) == ([], None)
