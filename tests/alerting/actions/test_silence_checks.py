"""The checks of silences refuse what would silence everything, nothing, or for ever."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.alerting.actions.silence_checks import check_matchers, check_range, parse_for, parse_span
from app.clock import now
from app.errors import InvalidRequestError

HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("matchers", "message"),
    [
        ({}, "matchers is empty, which would silence everything"),
        ({"rule": "  "}, "matcher rule is empty"),
        ({"rule": 7}, "matcher 'rule' is 7"),
        ({"sensors": "a"}, "matcher 'sensors' is 'a'"),
        ({"level": "fatal"}, "matcher level is 'fatal', which matches no level; levels are info, warning, error"),
        ({"tags": {}}, "matcher tags is {}; give an object of texts, at least one"),
        ({"tags": {"room": 1}}, "matcher tags is {'room': 1}"),
        ({"tags": {"": "cold"}}, "a tag's name is empty"),
        ({"tags": {str(number): "x" for number in range(100)}}, "matcher tags has 100 tags"),
    ],
)
def test_matchers_are_refused_when_they_match_everything_or_nothing(matchers: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        check_matchers(matchers)
    assert message in str(refused.value)


def test_matchers_may_hold_wildcards_and_an_empty_tag() -> None:
    check_matchers({"rule": "cold-*", "level": "crit*", "tags": {"room": ""}})


@pytest.mark.parametrize(
    ("end", "text", "message"),
    [
        (None, None, "give either to, the end, or for"),
        (datetime(2026, 1, 1, tzinfo=UTC), "2h", "give either to, the end, or for"),
        (None, "soon", 'for: "soon" is not a duration'),
        (None, "0", "for is '0'; give a duration that is longer than 0"),
    ],
)
def test_duration_is_refused_when_it_is_no_length_of_time(end: datetime | None, text: str | None, message: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        parse_for(end, text)
    assert message in str(refused.value)


def test_duration_counts_from_the_start_when_one_is_given() -> None:
    start = now() + HOUR
    assert parse_span(start, None, "2h") == (start, start + 2 * HOUR)
    assert parse_span(None, start, None) == (None, start)


@pytest.mark.parametrize(
    ("start_h", "end_h", "message"),
    [
        (1, 1, "it must be later than from"),
        (None, -1, "it must be later than from"),
        (-3, -1, "which is in the past; it must be in the future"),
        (0, 366 * 24 + 1, "a silence lasts a year at most"),
    ],
)
def test_range_is_refused_when_it_is_empty_past_or_too_long(start_h: int | None, end_h: int, message: str) -> None:
    moment = now()
    with pytest.raises(InvalidRequestError) as refused:
        check_range(None if start_h is None else moment + start_h * HOUR, moment + end_h * HOUR)
    assert message in str(refused.value)


def test_time_without_a_zone_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="to is 2999-01-01T00:00:00, which has no zone; append Z for UTC"):
        check_range(None, datetime(2999, 1, 1))  # noqa: DTZ001
