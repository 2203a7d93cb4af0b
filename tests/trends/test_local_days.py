"""Buckets of whole local days: their edges on the days when clocks change, and the relation that they are read from."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.clock import EPOCH
from app.errors import InvalidRequestError
from app.trends.local_days import LocalDays, find_local_days
from app.trends.resolution import RESOLUTIONS

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ONE_DAY, ONE_WEEK = RESOLUTIONS[-2], RESOLUTIONS[-1]
ZONES = ["Europe/Berlin", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe", "America/New_York", "Pacific/Apia"]


def utc(text: str) -> datetime:
    """Return a UTC time such as 2026-03-28T23."""
    return datetime.fromisoformat(f"{text}:00" if len(text) == 13 else text).replace(tzinfo=UTC)


def days(zone: str, start: str, end: str, *, now: str = "2026-12-31T00", width: str = "1d") -> LocalDays | None:
    """Find the buckets of a zone for a range."""
    resolution = ONE_DAY if width == "1d" else ONE_WEEK
    return find_local_days(ZoneInfo(zone), resolution, utc(start), utc(end), utc(now))


@pytest.mark.parametrize(
    ("zone", "start", "end", "edges"),
    [
        # Clocks go forward on 29 March 2026 in Berlin: that day has 23 hours. They go back on 25 October: 25 hours.
        ("Europe/Berlin", "2026-03-28T12", "2026-03-30T12", "03-27T23 03-28T23 03-29T22 03-30T22"),
        ("Europe/Berlin", "2026-10-24T12", "2026-10-26T12", "10-23T22 10-24T22 10-25T23 10-26T23"),
        ("America/New_York", "2026-03-07T12", "2026-03-09T04", "03-07T05 03-08T05 03-09T04"),
        ("America/New_York", "2026-10-31T12", "2026-11-02T05", "10-31T04 11-01T04 11-02T05"),
        # In Cairo clocks go forward at midnight: 24 April 2026 begins at 01:00.
        ("Africa/Cairo", "2026-04-23T12", "2026-04-24T12", "04-22T22 04-23T22 04-24T21"),
        # On the Azores clocks go back from 01:00 to 00:00: 25 October begins at the first midnight.
        ("Atlantic/Azores", "2026-10-24T12", "2026-10-25T12", "10-24T00 10-25T00 10-26T01"),
    ],
)
def test_day_begins_at_local_midnight_when_clocks_change(zone: str, start: str, end: str, edges: str) -> None:
    found = days(zone, start, end)
    assert found is not None
    assert found.query == "list_local_buckets_1h"
    assert found.edges == [utc(f"2026-{edge}") for edge in edges.split()]


@pytest.mark.parametrize(
    ("zone", "edges"),
    [
        ("Asia/Kolkata", "06-01T18:30 06-02T18:30 06-03T18:30"),
        ("Asia/Kathmandu", "06-01T18:15 06-02T18:15 06-03T18:15"),
        ("Australia/Lord_Howe", "06-01T13:30 06-02T13:30 06-03T13:30"),
    ],
)
def test_day_is_read_from_minutes_when_midnight_is_no_full_hour(zone: str, edges: str) -> None:
    found = days(zone, "2026-06-02T12", "2026-06-03T13")
    moments = [utc(f"2026-{edge}:00") for edge in edges.split()]
    assert found == LocalDays(ZoneInfo(zone), moments, "list_local_buckets_1m", moments[-1], 2)


def test_day_begins_at_the_next_full_hour_when_minutes_are_kept_no_longer() -> None:
    found = days("Asia/Kolkata", "2024-06-02T18:40:00", "2024-06-03T19:00:00", now="2026-12-31T00")
    assert found is not None
    assert found.query == "list_local_buckets_1h"
    assert found.edges == [utc("2024-06-01T19"), utc("2024-06-02T19"), utc("2024-06-03T19")]


def test_week_begins_at_midnight_of_monday_when_a_zone_is_given() -> None:
    found = days("Europe/Berlin", "2026-03-25T12", "2026-04-01T00", width="7d")
    assert found is not None
    assert found.edges == [utc("2026-03-22T23"), utc("2026-03-29T22"), utc("2026-04-05T22")]


@pytest.mark.parametrize("zone", ["UTC", "Europe/London", "Africa/Abidjan"])
def test_days_are_those_of_utc_when_the_zone_has_its_time(zone: str) -> None:
    assert days(zone, "2026-01-10T12", "2026-01-20T00") is None


def test_a_skipped_day_has_no_bucket_when_a_zone_crosses_the_date_line() -> None:
    found = days("Pacific/Apia", "2011-12-29T12", "2012-01-01T00", now="2012-06-01T00")
    assert found is not None
    assert found.edges == [utc("2011-12-29T10"), utc("2011-12-30T10"), utc("2011-12-31T10"), utc("2012-01-01T10")]


def test_resolution_finer_than_a_day_has_no_local_buckets() -> None:
    range_ = utc("2026-01-10T00"), utc("2026-01-20T00")
    assert all(
        find_local_days(ZoneInfo("Europe/Berlin"), each, *range_, range_[1]) is None for each in RESOLUTIONS[:-2]
    )


def test_range_is_refused_when_local_days_would_be_too_many_or_have_no_date() -> None:
    with pytest.raises(InvalidRequestError, match="with tz, ask for at most 40,000 days"):
        days("Europe/Berlin", "1800-01-01T00", "2026-01-01T00", width="7d")
    with pytest.raises(InvalidRequestError, match="stay within the years 2 to 9998"):
        days("America/New_York", "0001-01-01T00", "0001-01-03T00")
    with pytest.raises(InvalidRequestError, match="stay within the years 2 to 9998"):
        days("Europe/Berlin", "9999-12-28T00", "9999-12-31T23:59:59", width="7d")
    found = days("Asia/Kolkata", "2026-01-01T00", "2026-12-31T00")
    assert found is not None
    found.check(4)
    with pytest.raises(InvalidRequestError, match="5 series over 365 days are more than 1,500 days of minutes"):
        found.check(5)


@settings(deadline=None)
@given(
    zone=st.sampled_from(ZONES),
    since=st.timedeltas(timedelta(), 18_000 * DAY),
    length=st.timedeltas(timedelta(microseconds=1), 60 * DAY),
    width=st.sampled_from([ONE_DAY, ONE_WEEK]),
    age=st.timedeltas(timedelta(), 2_000 * DAY),
)
def test_edges_cover_the_range_and_are_edges_of_the_relation_when_anything_is_asked(
    zone: str, since: timedelta, length: timedelta, width: object, age: timedelta
) -> None:
    start = EPOCH + 7_300 * DAY + since
    resolution = next(each for each in RESOLUTIONS if each == width)
    found = find_local_days(ZoneInfo(zone), resolution, start, start + length, start + length + age)
    if found is None:
        return
    assert found.edges[0] <= start
    assert found.edges[-1] >= start + length
    assert found.edges == sorted(set(found.edges))
    bucket = HOUR if found.query.endswith("1h") else timedelta(minutes=1)
    assert not any((edge - EPOCH) % bucket for edge in found.edges)


def test_week_ends_with_the_local_day_that_holds_the_end_of_the_range() -> None:
    start, end = datetime(2026, 11, 2, tzinfo=UTC), datetime(2026, 11, 18, 12, tzinfo=UTC)
    for name, expected in (
        ("Europe/Berlin", datetime(2026, 11, 18, 23, tzinfo=UTC)),
        ("Asia/Kolkata", datetime(2026, 11, 18, 18, 30, tzinfo=UTC)),
    ):
        local = find_local_days(ZoneInfo(name), RESOLUTIONS[-1], start, end, end)
        assert local is not None
        assert local.end == expected
        assert local.edges[-1] > expected
