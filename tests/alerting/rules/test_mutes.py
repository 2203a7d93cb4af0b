from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.alerting.rules.mutes import DAYS, Day, MuteWindow, is_muted, muted_until
from app.clock import from_us, to_us
from app.durations import parse_time_of_day

BERLIN = "Europe/Berlin"


def window(start: str, end: str, *days: Day, tz: str = BERLIN) -> MuteWindow:
    return MuteWindow(days or DAYS, parse_time_of_day(start), parse_time_of_day(end), tz)


def at(text: str, zone: str = BERLIN) -> int:
    """Parse a time: with an offset as it is, without one as a wall-clock time of the zone."""
    moment = datetime.fromisoformat(text)
    return to_us(moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(zone)))


def until(windows: tuple[MuteWindow, ...], text: str) -> str | None:
    end = muted_until(windows, at(text))
    return None if end is None else from_us(end).astimezone(ZoneInfo(BERLIN)).isoformat()


@pytest.mark.parametrize(
    ("moment", "muted"),
    [
        ("2026-03-04T11:59:59", False),
        ("2026-03-04T12:00:00", True),
        ("2026-03-04T12:59:59.999999", True),
        ("2026-03-04T13:00:00", False),
    ],
)
def test_window_begins_inclusive_and_ends_exclusive(moment: str, muted: bool) -> None:
    assert is_muted([window("12:00", "13:00")], at(moment)) is muted


@pytest.mark.parametrize(
    ("moment", "muted"),
    [
        ("2026-03-06T23:00", False),  # Friday
        ("2026-03-07T05:00", False),  # the night that began on Friday
        ("2026-03-07T22:00", True),  # Saturday
        ("2026-03-08T05:59", True),  # still Saturday's night
        ("2026-03-08T06:00", False),
        ("2026-03-09T05:59", True),  # Monday morning, Sunday's night
        ("2026-03-09T22:30", False),
    ],
)
def test_window_past_midnight_belongs_to_the_day_it_begins_on(moment: str, muted: bool) -> None:
    assert is_muted([window("22:00", "06:00", "sat", "sun")], at(moment)) is muted


def test_window_covers_the_whole_day_when_no_times_are_given() -> None:
    sundays = [MuteWindow(days=("sun",), tz=BERLIN)]
    assert not is_muted(sundays, at("2026-03-07T23:59:59"))
    assert is_muted(sundays, at("2026-03-08T00:00"))
    assert is_muted(sundays, at("2026-03-08T23:59:59"))
    assert not is_muted(sundays, at("2026-03-09T00:00"))


def test_window_counts_in_its_own_time_zone() -> None:
    assert is_muted([window("09:00", "10:00", tz="Asia/Tokyo")], at("2026-03-04T00:30+00:00"))
    assert not is_muted([window("09:00", "10:00", tz="UTC")], at("2026-03-04T00:30+00:00"))
    # Half past midnight on Monday in Tokyo is Sunday in UTC.
    assert is_muted([window("00:00", "01:00", "mon", tz="Asia/Tokyo")], at("2026-03-08T15:30+00:00"))


def test_window_begins_at_the_jump_when_its_first_hour_is_skipped() -> None:
    # On 2026-03-29 the clocks of Berlin go from 02:00 to 03:00, at 01:00 UTC.
    early = [window("02:30", "05:00")]
    assert not is_muted(early, at("2026-03-29T00:59:59+00:00"))
    assert is_muted(early, at("2026-03-29T01:00:00+00:00"))
    assert until((window("02:30", "05:00"),), "2026-03-29T04:00") == "2026-03-29T05:00:00+02:00"


def test_window_ends_at_the_jump_when_its_last_hour_is_skipped() -> None:
    assert until((window("23:00", "02:30"),), "2026-03-28T23:30") == "2026-03-29T03:00:00+02:00"


def test_window_within_the_skipped_hour_is_empty() -> None:
    skipped = [window("02:10", "02:50")]
    assert not is_muted(skipped, at("2026-03-29T00:59:59+00:00"))
    assert not is_muted(skipped, at("2026-03-29T01:00:00+00:00"))


def test_window_covers_both_hours_when_an_hour_comes_twice() -> None:
    # On 2026-10-25 the clocks of Berlin go from 03:00 back to 02:00, at 01:00 UTC.
    twice = [window("02:15", "02:45")]
    assert not is_muted(twice, at("2026-10-25T00:14:59+00:00"))
    assert is_muted(twice, at("2026-10-25T00:15:00+00:00"))
    assert is_muted(twice, at("2026-10-25T01:44:59+00:00"))
    assert not is_muted(twice, at("2026-10-25T01:45:00+00:00"))


def test_window_is_right_when_the_zone_skipped_a_date() -> None:
    # Samoa had no 2011-12-30.
    nights = [window("22:00", "06:00", tz="Pacific/Apia")]
    assert is_muted(nights, at("2011-12-29T23:00", "Pacific/Apia"))
    assert is_muted(nights, at("2011-12-31T05:00", "Pacific/Apia"))
    assert not is_muted(nights, at("2011-12-31T07:00", "Pacific/Apia"))


def test_mute_ends_with_the_last_of_windows_that_touch() -> None:
    nights, sundays = window("22:00", "06:00"), MuteWindow(days=("sun",), tz=BERLIN)
    assert until((nights, sundays), "2026-03-07T23:00") == "2026-03-09T06:00:00+01:00"
    assert until((nights, sundays), "2026-03-04T12:00") is None
    assert until((), "2026-03-04T12:00") is None


def test_mute_end_is_bounded_when_windows_cover_the_week() -> None:
    end = muted_until([MuteWindow()], at("2026-03-04T12:00+00:00"))
    assert end == at("2026-03-13T00:00+00:00")


@settings(deadline=None)
@given(
    st.integers(to_us(datetime(2020, 1, 1, tzinfo=UTC)), to_us(datetime(2030, 1, 1, tzinfo=UTC))).map(from_us),
    st.sets(st.sampled_from(DAYS), min_size=1),
    st.integers(0, 95),
    st.integers(0, 95),
)
def test_window_agrees_with_the_wall_clock_when_no_clock_changes(
    moment: datetime, days: set[Day], start: int, end: int
) -> None:
    quarter = timedelta(minutes=15)
    muted = MuteWindow(
        tuple(days), start * quarter // timedelta(microseconds=1), end * quarter // timedelta(microseconds=1)
    )
    time = timedelta(hours=moment.hour, minutes=moment.minute, seconds=moment.second, microseconds=moment.microsecond)
    today, yesterday = DAYS[moment.weekday()] in days, DAYS[moment.weekday() - 1] in days
    if start < end:
        expected = today and start * quarter <= time < end * quarter
    else:
        expected = (today and time >= start * quarter) or (yesterday and time < end * quarter)
    assert is_muted([muted], to_us(moment)) is expected
    assert (muted_until([muted], to_us(moment)) is not None) is expected
