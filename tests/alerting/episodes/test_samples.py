from hypothesis import given, settings

from app.alerting.episodes.machine import SeriesRule
from app.alerting.episodes.samples import Sample, StoredReading, ValueOf, samples
from app.clock import MINUTE_US
from tests.alerting import strategies
from tests.alerting.oracle import first_stored, oracle_samples

M = MINUTE_US


def sampled(value_of: ValueOf, readings: list[StoredReading]) -> list[tuple[int, float]]:
    return [(sample.t, sample.value) for sample in samples(value_of, readings)]


def test_last_gives_a_sample_for_each_reading_when_they_lie_close() -> None:
    assert sampled(ValueOf("last"), [(0, 1.5), (1, 2.5)]) == [(0, 1.5), (1, 2.5)]


def test_avg_excludes_a_reading_when_it_is_exactly_a_window_old() -> None:
    readings = [(0, 10.0), (5 * M - 1, 4.0), (5 * M, 1.0)]

    assert sampled(ValueOf("avg", 5 * M), readings) == [(0, 10.0), (5 * M - 1, 7.0), (5 * M, 2.5)]


def test_avg_is_rounded_once_when_many_values_cannot_be_written_exactly() -> None:
    assert sampled(ValueOf("avg", 5 * M), [(t, 0.1) for t in range(10)])[-1] == (9, 0.1)


def test_avg_is_exact_when_large_values_leave_the_window() -> None:
    readings = [(0, 1e16), (1 * M, 0.1), (2 * M, 0.2), (6 * M, 0.3)]

    assert sampled(ValueOf("avg", 5 * M), readings)[-1] == (6 * M, 0.25)


def test_min_and_max_look_at_the_window_only() -> None:
    readings = [(0, 3.0), (2 * M, 5.0), (4 * M, 4.0), (5 * M, 4.5)]

    assert sampled(ValueOf("min", 5 * M), readings) == [(0, 3.0), (2 * M, 3.0), (4 * M, 3.0), (5 * M, 4.0)]
    assert sampled(ValueOf("max", 5 * M), readings) == [(0, 3.0), (2 * M, 5.0), (4 * M, 5.0), (5 * M, 5.0)]


def test_delta_includes_a_reading_when_it_is_exactly_a_window_old() -> None:
    readings = [(0, 1.0), (10 * M, 4.0), (10 * M + 1, 9.0)]

    assert sampled(ValueOf("delta", 10 * M), readings) == [(10 * M, 3.0)]


def test_delta_gives_no_sample_when_the_oldest_reading_is_less_than_half_a_window_old() -> None:
    readings = [(0, 1.0), (5 * M - 1, 2.0), (5 * M, 4.0)]

    assert sampled(ValueOf("delta", 10 * M), readings) == [(5 * M, 3.0)]


def test_delta_halves_an_odd_window_exactly() -> None:
    assert sampled(ValueOf("delta", 3), [(0, 1.0), (1, 2.0)]) == []
    assert sampled(ValueOf("delta", 3), [(0, 1.0), (2, 2.0)]) == [(2, 1.0)]


def test_rate_is_per_hour_when_the_span_is_shorter_than_the_window() -> None:
    assert sampled(ValueOf("rate", 10 * M), [(0, 1.0), (6 * M, 2.5)]) == [(6 * M, 15.0)]


def test_increase_counts_a_reset_from_zero_when_a_counter_falls() -> None:
    readings = [(0, 100.0), (5 * M, 104.0), (8 * M, 3.0), (10 * M, 5.0)]

    assert sampled(ValueOf("increase", 10 * M), readings) == [(5 * M, 4.0), (8 * M, 7.0), (10 * M, 9.0)]


def test_increase_includes_a_reading_when_it_is_exactly_a_window_old() -> None:
    assert sampled(ValueOf("increase", 10 * M), [(0, 1.0), (10 * M, 4.0), (10 * M + 1, 9.0)]) == [(10 * M, 3.0)]


def test_increase_gives_no_sample_when_the_oldest_reading_is_less_than_half_a_window_old() -> None:
    assert sampled(ValueOf("increase", 10 * M), [(0, 1.0), (5 * M - 1, 2.0), (5 * M, 4.0)]) == [(5 * M, 3.0)]


def test_rate_of_a_counter_is_per_hour_over_the_time_that_was_seen_when_it_was_reset() -> None:
    readings = [(0, 10.0), (4 * M, 12.0), (6 * M, 1.0)]

    assert sampled(ValueOf("rate", 10 * M, counter=True), readings) == [(6 * M, 30.0)]


def test_range_is_the_highest_less_the_lowest_of_the_closed_window() -> None:
    readings = [(0, 3.0), (1 * M, 9.0), (6 * M, 4.0), (10 * M, 4.0), (12 * M, 4.5)]

    assert sampled(ValueOf("range", 10 * M), readings) == [(6 * M, 6.0), (10 * M, 6.0), (12 * M, 0.5)]


@settings(deadline=None)
@given(strategies.rules(), strategies.readings())
def test_samples_agree_with_the_oracle_when_rules_and_readings_are_random(
    rule: SeriesRule, arrived: list[StoredReading]
) -> None:
    computed: list[Sample] = list(samples(rule.value, first_stored(arrived)))

    assert computed == oracle_samples(rule.value, arrived)
