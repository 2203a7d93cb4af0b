"""Times in microseconds: conversion without rounding, and the clock that never returns a time twice."""

import time
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from app.clock import DatabaseClock, DistinctClock, from_us, rfc3339, to_us

MOMENTS = st.datetimes(timezones=st.just(UTC))


@given(MOMENTS)
def test_moment_is_the_same_when_converted_there_and_back(moment: datetime) -> None:
    assert from_us(to_us(moment)) == moment


def test_moment_is_converted_exactly_whatever_its_zone() -> None:
    local = datetime(2026, 1, 31, 9, 0, 0, 1, tzinfo=timezone(timedelta(hours=1)))
    assert to_us(local) == 1_769_846_400_000_001
    assert to_us(datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)) == -1


def test_rfc3339_has_no_fraction_when_it_is_zero() -> None:
    assert rfc3339(1_769_846_400_000_000) == "2026-01-31T08:00:00Z"
    assert rfc3339(1_769_846_400_000_001) == "2026-01-31T08:00:00.000001Z"


def test_clock_returns_no_microsecond_twice_when_time_stands_still_or_goes_back() -> None:
    times = iter([10, 10, 7, 20])
    clock = DistinctClock(lambda: next(times))
    assert [clock() for _ in range(4)] == [10, 11, 12, 20]


def test_clock_continues_after_the_last_time_when_times_were_assigned_by_the_caller() -> None:
    clock = DistinctClock(lambda: 10)
    clock.skip_to(14)
    assert clock() == 15
    clock.skip_to(3)
    assert clock() == 16


def test_clock_goes_back_when_the_time_was_set_back() -> None:
    times = iter([100_000_000, 89_999_999, 89_999_999])
    clock = DistinctClock(lambda: next(times))
    assert [clock() for _ in range(3)] == [100_000_000, 89_999_999, 90_000_000]


def test_database_clock_goes_on_from_the_middle_of_question_and_answer() -> None:
    clock = DatabaseClock()
    asked_ns = time.monotonic_ns() - 800_000_000
    clock.follow(1_769_846_400_000_000, asked_ns, asked_ns + 400_000_000)
    since_us = clock.now_us() - 1_769_846_400_000_000
    assert 600_000 <= since_us < 1_600_000


def test_database_clock_leaves_an_answer_out_when_it_took_more_than_a_second() -> None:
    clock = DatabaseClock()
    before_us = clock.now_us()
    asked_ns = time.monotonic_ns()
    clock.follow(1_769_846_400_000_000, asked_ns, asked_ns + 1_000_000_001)
    assert 0 <= clock.now_us() - before_us < 1_000_000
    clock.follow(1_769_846_400_000_000, asked_ns, asked_ns + 1_000_000_000)
    assert -500_000 <= clock.now_us() - 1_769_846_400_000_000 < 500_000


def test_skew_is_how_far_the_wall_clock_is_ahead_of_the_database() -> None:
    clock = DatabaseClock()
    asked_ns = time.monotonic_ns()
    clock.follow(time.time_ns() // 1_000 - 3_600_000_000, asked_ns, asked_ns)
    assert round(clock.skew_s()) == 3_600


def test_reserved_times_are_given_to_nobody_else() -> None:
    clock = DistinctClock(lambda: 100)
    assert clock() == 100
    assert clock.reserve(5) == 101
    assert clock() == 106
    assert clock.reserve(0) == 107
    assert clock() == 108
