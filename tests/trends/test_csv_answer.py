"""Which requests get CSV, and the file name of the answer."""

from datetime import UTC, datetime
from typing import Any

import pytest
from litestar import Request
from litestar.testing import RequestFactory

from app.errors import InvalidRequestError
from app.trends.csv_answer import answer_csv, wants_csv


def request_with(accept: str) -> Request[Any, Any, Any]:
    return RequestFactory().get("/", headers={"Accept": accept})


@pytest.mark.parametrize(
    ("accept", "format_", "is_csv"),
    [
        ("*/*", None, False),
        ("text/csv", None, True),
        ("application/json;q=0.5, text/csv", None, True),
        ("text/html", None, False),
        ("text/csv", "json", False),
        ("application/json", "csv", True),
    ],
)
def test_format_decides_and_without_it_the_header_accept(accept: str, format_: str | None, is_csv: bool) -> None:
    assert wants_csv(request_with(accept), format_) is is_csv


def test_an_unknown_format_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidRequestError, match="format is 'xml'; send json or csv"):
        wants_csv(request_with("*/*"), "xml")


def test_the_file_name_has_the_range() -> None:
    start, end = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
    answer = answer_csv("trend", start, end, [("time", "value"), ("a", 1.5)], {"X-Resolution": "1h"})
    assert answer.content == "time,value\na,1.5\n"
    assert answer.headers == {
        "Content-Disposition": 'attachment; filename="tidegauge-trend-20260102T030405Z-20260201T000000Z.csv"',
        "X-Resolution": "1h",
    }
