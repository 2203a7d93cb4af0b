"""The choice of the bucket width."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.trends.resolution import RESOLUTIONS, choose_resolution

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.mark.parametrize(
    ("span", "points", "name", "query"),
    [
        (timedelta(microseconds=1), 500, "1m", "list_buckets_1m"),
        (500 * MINUTE, 500, "1m", "list_buckets_1m"),
        (500 * MINUTE + timedelta(microseconds=1), 500, "2m", "list_buckets_1m"),
        (DAY, 500, "5m", "list_buckets_1m"),
        (DAY, 144, "10m", "list_buckets_1m"),
        (DAY, 96, "15m", "list_buckets_1m"),
        (DAY, 48, "30m", "list_buckets_1m"),
        (DAY, 24, "1h", "list_buckets_1h"),
        (DAY, 23, "2h", "list_buckets_1h"),
        (DAY, 8, "3h", "list_buckets_1h"),
        (DAY, 4, "6h", "list_buckets_1h"),
        (DAY, 2, "12h", "list_buckets_1h"),
        (DAY, 1, "1d", "list_buckets_1d"),
        (7 * DAY, 500, "30m", "list_buckets_1m"),
        (30 * DAY, 500, "2h", "list_buckets_1h"),
        (365 * DAY, 500, "1d", "list_buckets_1d"),
        (365 * DAY, 100, "7d", "list_buckets_1d"),
        (20_000 * DAY, 10, "7d", "list_buckets_1d"),
    ],
)
def test_resolution_is_the_narrowest_that_fits_when_range_and_points_are_given(
    span: timedelta, points: int, name: str, query: str
) -> None:
    chosen = choose_resolution(span, points)
    assert (chosen.name, chosen.query) == (name, query)


def test_widths_are_multiples_of_the_buckets_of_their_relation() -> None:
    assert [resolution.name for resolution in RESOLUTIONS] == (
        ["1m", "2m", "5m", "10m", "15m", "30m", "1h", "2h", "3h", "6h", "12h", "1d", "7d"]
    )
    base = {"list_buckets_1m": MINUTE, "list_buckets_1h": HOUR, "list_buckets_1d": DAY}
    assert not any(resolution.width % base[resolution.query] for resolution in RESOLUTIONS)


@settings(deadline=None)
@given(st.timedeltas(min_value=timedelta(microseconds=1), max_value=7_000 * DAY), st.integers(1, 10_000))
def test_range_has_at_most_about_as_many_buckets_as_points_when_it_has_any_length(span: timedelta, points: int) -> None:
    chosen = choose_resolution(span, points)
    assert span / chosen.width <= points or chosen.name == "7d"
