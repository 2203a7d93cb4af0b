"""The samples of a flush, compared with a simple computation from its uploads."""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from struct import unpack_from

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from app.ingest.flush.batch import LATE_AFTER_US, Batch, NewReadings, Samples, by_day, copy_payload, split
from app.ingest.uploads.upload import Upload
from app.model import SeriesId
from app.summaries import Summaries
from tests.ingest.uploads import DAY, MINUTE, T0, as_objects, reading, series_ids, upload

IDS = series_ids(("pi1", "t"), ("pi1", "h"), ("pi2", "t"), ("pi2", "h"))
#: 2026-01-31T00:00:00Z
MIDNIGHT = T0 - 8 * 60 * MINUTE
TIMES = st.sampled_from([MIDNIGHT - DAY, MIDNIGHT - 1, MIDNIGHT, MIDNIGHT + 1, T0 - LATE_AFTER_US, T0, -1, 0])
READINGS = st.builds(
    lambda sensor, time_us, values: reading(sensor, time_us, **values),
    st.sampled_from(["pi1", "pi2"]),
    TIMES,
    st.dictionaries(st.sampled_from("th"), st.floats(-9, 9), min_size=1),
)
UPLOADS = st.lists(st.lists(READINGS, max_size=6).map(lambda readings: upload(*readings)), max_size=4)


@settings(deadline=None)
@given(UPLOADS)
def test_samples_are_sorted_unique_and_the_first_to_arrive_when_uploads_overlap(uploads: list[Upload]) -> None:
    first: dict[tuple[int, int], tuple[int, float]] = {}
    for number, each in enumerate(uploads):
        for item in as_objects(each.readings):
            for metric, value in item.values.items():
                first.setdefault((IDS[item.sensor][metric], item.time_us), (number, value))
    batch = Batch(uploads, IDS)
    rows = list(zip(*batch.samples.columns(), strict=True))
    keys = [(time_us // DAY, series_id, time_us) for series_id, time_us, _ in rows]
    assert all(before < after for before, after in pairwise(keys))
    stored = {(series_id, time_us): value for series_id, time_us, value in rows}
    assert stored == {key: value for key, (_, value) in first.items()}
    assert batch.size == len(first)
    brought = Counter(number for number, _ in first.values())
    assert batch.counts(batch.samples.places) == [brought[number] for number in range(len(uploads))]
    assert batch.numbers(batch.samples).tolist() == [first[series_id, time_us][0] for series_id, time_us, _ in rows]


@settings(deadline=None)
@given(UPLOADS, st.data())
def test_new_readings_have_only_new_samples_when_some_were_stored(uploads: list[Upload], data: st.DataObject) -> None:
    batch = Batch(uploads, IDS)
    new = {key for key in keys_of(batch.samples) if data.draw(st.booleans())}
    series_ids, times_us = [series_id for series_id, _ in new], [time_us for _, time_us in new]
    samples, others = split(batch.samples, series_ids, times_us)
    assert set(keys_of(others)) == {*keys_of(batch.samples)} - new
    assert len(others) + len(samples) == batch.size
    found = NewReadings(batch, samples)
    assert set(keys_of(samples)) == new
    assert sum(found.accepted) == found.size == len(new)
    assert found.accepted == batch.counts(samples.places)
    newest = {series_id: max(time_us for new_id, time_us in new if new_id == series_id) for series_id, _ in new}
    assert list(keys_of(found.newest)) == sorted(newest.items())
    assert found.oldest_of_day() == {
        day: min(time_us for _, time_us in new if time_us // DAY == day) for day in {us // DAY for _, us in new}
    }
    days = [{time_us // DAY for _, time_us in keys_of(of_day)} for of_day in by_day(samples)]
    assert days == [{day} for day in sorted({us // DAY for _, us in new})]
    assert [key for of_day in by_day(samples) for key in keys_of(of_day)] == list(keys_of(samples))


@settings(deadline=None)
@given(UPLOADS)
def test_summaries_are_separate_for_late_and_fresh_readings_of_each_series(uploads: list[Upload]) -> None:
    batch = Batch(uploads, IDS)
    assume(batch.size)
    found = NewReadings(batch, batch.samples)
    samples: dict[bool, dict[int, list[tuple[int, float]]]] = {}
    for series_id, time_us, value in sorted(zip(*batch.samples.columns(), strict=True)):
        samples.setdefault(time_us < T0 - LATE_AFTER_US, {}).setdefault(series_id, []).append((time_us, value))
    assert {is_late: rows_of(summaries) for is_late, summaries in found.summaries().items()} == {
        is_late: [(series_id, *summary_of(of_series[series_id])) for series_id in sorted(of_series)]
        for is_late, of_series in samples.items()
    }


def keys_of(samples: Samples) -> Iterator[tuple[SeriesId, int]]:
    """Return series and time of each sample."""
    ids, times_us, _ = samples.columns()
    return zip(ids, times_us, strict=True)


def rows_of(summaries: Summaries) -> list[tuple[float, ...]]:
    """Return summaries as rows, in ascending order of series."""
    return sorted((series_id, *msgspec.structs.astuple(summary)) for series_id, summary in summaries.items())


def summary_of(samples: list[tuple[int, float]]) -> tuple[float, ...]:
    """Return count, first and last time, lowest and highest value, and widest gap of samples in order of time."""
    times, values = [time_us for time_us, _ in samples], [value for _, value in samples]
    gaps = [after - before for before, after in pairwise(times)]
    return len(samples), times[0], times[-1], min(values), max(values), max(gaps, default=0)


def test_batch_raises_key_error_when_a_series_is_unknown() -> None:
    for unknown in (reading("pi3", t=1), reading("pi1", t=1, x=1)):
        with pytest.raises(KeyError):
            Batch([upload(reading("pi1", t=1)), upload(unknown)], IDS)


def test_copy_payload_has_postgresqls_binary_copy_format() -> None:
    batch = Batch([upload(reading("pi1", 946_684_800_000_001, t=-0.5))], IDS)
    payload = copy_payload(batch.samples)
    assert payload[:19] == b"PGCOPY\n\xff\r\n\0" + bytes(8)
    assert unpack_from(">hiiiqid", payload, 19) == (3, 4, 1, 8, 1, 8, -0.5)
    assert payload[19 + 34 :] == b"\xff\xff"
