from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec
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


def muted_at(windows: Iterable[MuteWindow], *moments: str) -> list[bool]:
    listed = list(windows)
    return [is_muted(listed, at(moment)) for moment in moments]


def test_dates_and_ranges_count_in_the_zone_of_the_window_and_include_both_ends() -> None:
    away = MuteWindow(tz=BERLIN, dates=((date(2026, 8, 3), date(2026, 8, 3)), (date(2026, 12, 30), date(2027, 1, 2))))
    assert muted_at([away], "2026-08-02T23:59:59", "2026-08-03T00:00", "2026-08-03T23:59:59", "2026-08-04T00:00") == [
        False,
        True,
        True,
        False,
    ]
    # By UTC these two are of 2 August and of 3 August.
    assert muted_at([away], "2026-08-02T22:30+00:00", "2026-08-03T22:30+00:00") == [True, False]
    assert muted_at(
        [away], "2026-12-29T23:59:59", "2026-12-30T00:00", "2027-01-01T12:00", "2027-01-02T23:59:59", "2027-01-03T00:00"
    ) == [False, True, True, True, False]


def test_window_of_a_date_goes_on_past_midnight_and_the_next_date_begins_none() -> None:
    night = MuteWindow(
        from_us=parse_time_of_day("22:00"),
        to_us=parse_time_of_day("06:00"),
        tz=BERLIN,
        dates=((date(2026, 12, 31), date(2026, 12, 31)),),
    )
    assert muted_at(
        [night], "2026-12-31T05:00", "2026-12-31T22:00", "2027-01-01T05:59:59", "2027-01-01T06:00", "2027-01-01T22:00"
    ) == [False, True, True, False, False]


def test_days_and_dates_of_a_window_must_both_fit() -> None:
    saturdays_in_may = MuteWindow(days=("sat",), tz=BERLIN, dates=((date(2026, 5, 1), date(2026, 5, 31)),))
    assert muted_at([saturdays_in_may], "2026-05-02T12:00", "2026-05-03T12:00", "2026-06-06T12:00") == [
        True,
        False,
        False,
    ]


def test_holidays_are_the_days_of_the_rules_list_besides_other_days() -> None:
    free = MuteWindow(
        days=("sun", "holiday"),
        tz=BERLIN,
        holidays=((date(2026, 12, 25), date(2026, 12, 26)), (date(2027, 1, 1), date(2027, 1, 1))),
    )
    # A Thursday, Friday and Saturday; Sunday; Monday; the Friday of New Year.
    days = ("2026-12-24", "2026-12-25", "2026-12-26", "2026-12-27", "2026-12-28", "2027-01-01")
    assert muted_at([free], *(f"{day}T12:00" for day in days)) == [False, True, True, True, False, True]


OFFICE = MuteWindow(
    days=("mon", "tue", "wed", "thu", "fri"),
    from_us=parse_time_of_day("08:00"),
    to_us=parse_time_of_day("18:00"),
    tz=BERLIN,
    only=True,
)


def test_only_during_mutes_outside_of_its_window() -> None:
    assert muted_at([OFFICE], "2026-03-06T07:59:59", "2026-03-06T08:00", "2026-03-06T18:00", "2026-03-07T12:00") == [
        True,
        False,
        True,
        True,
    ]
    assert until((OFFICE,), "2026-03-06T18:00") == "2026-03-09T08:00:00+01:00"


def test_only_during_begins_by_the_wall_clock_on_both_sides_of_a_change_of_clocks() -> None:
    # Clocks go forward on Sunday 29 March and back on Sunday 25 October.
    assert until((OFFICE,), "2026-03-27T18:00") == "2026-03-30T08:00:00+02:00"
    assert until((OFFICE,), "2026-10-23T18:00") == "2026-10-26T08:00:00+01:00"
    sundays = MuteWindow(("sun",), parse_time_of_day("01:00"), parse_time_of_day("04:00"), BERLIN, only=True)
    assert muted_at([sundays], "2026-03-29T00:30+00:00", "2026-03-29T01:59:59+00:00", "2026-03-29T02:00+00:00") == [
        False,
        False,
        True,
    ]
    # Four hours long: 02:00 to 03:00 comes twice.
    assert muted_at([sundays], "2026-10-24T22:59:59+00:00", "2026-10-24T23:00+00:00", "2026-10-25T02:59:59+00:00") == [
        True,
        False,
        False,
    ]
    assert muted_at([sundays], "2026-10-25T03:00+00:00") == [True]


def test_only_during_goes_on_over_the_end_of_a_year_and_several_of_them_add_up() -> None:
    nights = msgspec.structs.replace(
        OFFICE, days=DAYS, from_us=parse_time_of_day("22:00"), to_us=parse_time_of_day("06:00")
    )
    assert muted_at([nights], "2026-12-31T21:59", "2026-12-31T23:30", "2027-01-01T05:59", "2027-01-01T06:00") == [
        True,
        False,
        False,
        True,
    ]
    assert muted_at([nights, OFFICE], "2027-01-01T05:59", "2027-01-01T07:00", "2027-01-01T12:00") == [
        False,
        True,
        False,
    ]
    new_year = MuteWindow(tz=BERLIN, dates=((date(2027, 1, 1), date(2027, 1, 1)),))
    assert muted_at([nights, OFFICE, new_year], "2026-12-31T23:30", "2027-01-01T00:00", "2027-01-01T12:00") == [
        False,
        True,
        True,
    ]
