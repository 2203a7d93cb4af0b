"""The rows of a flush, held against the plain reading of what they should be."""

from collections import Counter
from itertools import pairwise
from struct import unpack_from

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from app.ingest.batch import LATE_AFTER_US, Batch, News, by_day, copy_payload, select
from app.ingest.upload import Upload
from tests.ingest.uploads import DAY, MINUTE, T0, reading, series_ids, upload

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
def test_rows_are_sorted_unique_and_the_first_to_come_when_uploads_overlap(uploads: list[Upload]) -> None:
    first: dict[tuple[int, int], tuple[int, float]] = {}
    for number, each in enumerate(uploads):
        for item in each.readings:
            for metric, value in item.values.items():
                first.setdefault((IDS[item.sensor][metric], item.time_us), (number, value))
    batch = Batch(uploads, IDS)
    keys = [row[:3] for row in batch.rows]
    assert all(before < after for before, after in pairwise(keys))
    assert {(row[1], row[2]): row[4] for row in batch.rows} == {key: value for key, (_, value) in first.items()}
    assert all(row[0] == row[2] // DAY for row in batch.rows)
    brought = Counter(number for number, _ in first.values())
    assert batch.counts(batch.rows) == [brought[number] for number in range(len(uploads))]
    assert all(batch.upload_of(row) is uploads[first[row[1], row[2]][0]] for row in batch.rows)


@settings(deadline=None)
@given(UPLOADS, st.data())
def test_news_follow_from_the_rows_that_were_new_when_some_were_stored(
    uploads: list[Upload], data: st.DataObject
) -> None:
    batch = Batch(uploads, IDS)
    new = {(row[1], row[2]) for row in batch.rows if data.draw(st.booleans())}
    rows = select(batch.rows, new)
    news = News(batch, rows)
    assert {(row[1], row[2]) for row in rows} == new
    assert sum(news.accepted) == len(rows)
    assert news.accepted == batch.counts(rows)
    for series_id, row in news.newest.items():
        assert row[2] == max(time_us for new_id, time_us in new if new_id == series_id)
    assert news.oldest_of_day == {
        day: min(time_us for _, time_us in new if time_us // DAY == day) for day in {us // DAY for _, us in new}
    }
    states = list(zip(*news.states(), strict=True))
    assert [series_id for series_id, _, _ in states] == sorted({series_id for series_id, _ in new})
    assert [(day, len(of_day)) for day, of_day in by_day(rows)] == sorted(Counter(row[0] for row in rows).items())


@settings(deadline=None)
@given(UPLOADS)
def test_ranges_span_each_series_late_apart_from_fresh_when_told_to_alerting(uploads: list[Upload]) -> None:
    batch = Batch(uploads, IDS)
    assume(batch.rows)
    news = News(batch, batch.rows)
    told = {
        (is_late, series_id): (first_us, last_us)
        for is_late, columns in news.ranges().items()
        for series_id, first_us, last_us in zip(*columns, strict=True)
    }
    times: dict[tuple[bool, int], list[int]] = {}
    for row in news.rows:
        times.setdefault((row[2] < T0 - LATE_AFTER_US, row[1]), []).append(row[2])
    assert told == {key: (min(of_series), max(of_series)) for key, of_series in times.items()}


def test_batch_asks_for_registration_when_a_series_is_unknown() -> None:
    for unknown in (reading("pi3", t=1), reading("pi1", t=1, x=1)):
        with pytest.raises(KeyError):
            Batch([upload(reading("pi1", t=1)), upload(unknown)], IDS)


def test_copy_payload_is_what_postgresql_documents_for_binary_copy() -> None:
    batch = Batch([upload(reading("pi1", 946_684_800_000_001, t=-0.5))], IDS)
    payload = copy_payload(batch.rows)
    assert payload[:19] == b"PGCOPY\n\xff\r\n\0" + bytes(8)
    assert unpack_from(">hiiiqid", payload, 19) == (3, 4, 1, 8, 1, 8, -0.5)
    assert payload[19 + 34 :] == b"\xff\xff"
