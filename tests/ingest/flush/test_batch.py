"""The samples of a flush, compared with a simple computation from its uploads."""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from struct import unpack_from

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from app.ingest.flush.batch import LATE_AFTER_US, Batch, Block, NewReadings, Point, by_day, copy_payload, select
from app.ingest.upload import Upload
from app.model import SeriesId
from app.summaries import Summary
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


def flat(blocks: Iterable[Block]) -> Iterator[tuple[Block, Point]]:
    """Return each sample with its block, in order."""
    return ((block, point) for block in blocks for point in block.points)


@settings(deadline=None)
@given(UPLOADS)
def test_samples_are_sorted_unique_and_the_first_to_arrive_when_uploads_overlap(uploads: list[Upload]) -> None:
    first: dict[tuple[int, int], tuple[int, float]] = {}
    for number, each in enumerate(uploads):
        for item in each.readings:
            for metric, value in item.values.items():
                first.setdefault((IDS[item.sensor][metric], item.time_us), (number, value))
    batch = Batch(uploads, IDS)
    keys = [(block.day, block.series_id, point[0]) for block, point in flat(batch.blocks)]
    assert all(before < after for before, after in pairwise(keys))
    assert all(time_us // DAY == day for day, _, time_us in keys)
    stored = {(block.series_id, point[0]): point[2] for block, point in flat(batch.blocks)}
    assert stored == {key: value for key, (_, value) in first.items()}
    assert batch.size == len(first)
    brought = Counter(number for number, _ in first.values())
    assert batch.counts(batch.blocks) == [brought[number] for number in range(len(uploads))]
    for block, point in flat(batch.blocks):
        assert batch.upload_of(point) is uploads[first[block.series_id, point[0]][0]]
    assert list(zip(*batch.columns(), strict=True)) == [
        (block.series_id, point[0], point[2]) for block, point in flat(batch.blocks)
    ]


@settings(deadline=None)
@given(UPLOADS, st.data())
def test_new_readings_have_only_new_samples_when_some_were_stored(uploads: list[Upload], data: st.DataObject) -> None:
    batch = Batch(uploads, IDS)
    new = {(block.series_id, point[0]) for block, point in flat(batch.blocks) if data.draw(st.booleans())}
    blocks = select(batch.blocks, new)
    found = NewReadings(batch, blocks)
    assert {(block.series_id, point[0]) for block, point in flat(blocks)} == new
    assert all(block.points for block in blocks)
    assert sum(found.accepted) == found.size == len(new)
    assert found.accepted == batch.counts(blocks)
    for series_id, point in found.newest.items():
        assert point[0] == max(time_us for new_id, time_us in new if new_id == series_id)
    assert found.oldest_of_day == {
        day: min(time_us for _, time_us in new if time_us // DAY == day) for day in {us // DAY for _, us in new}
    }
    states = list(zip(*found.states(), strict=True))
    assert [series_id for series_id, _, _ in states] == sorted({series_id for series_id, _ in new})
    assert [(day, len(list(of_day))) for day, of_day in by_day(blocks)] == sorted(
        Counter(block.day for block in blocks).items()
    )


@settings(deadline=None)
@given(UPLOADS)
def test_summaries_are_separate_for_late_and_fresh_readings_of_each_series(uploads: list[Upload]) -> None:
    batch = Batch(uploads, IDS)
    assume(batch.blocks)
    found = NewReadings(batch, batch.blocks)
    summaries = {
        (is_late, series_id): summary
        for is_late, of_series in found.summaries().items()
        for series_id, summary in of_series.items()
    }
    points: dict[tuple[bool, SeriesId], list[tuple[int, float]]] = {}
    for block, (time_us, _, value) in flat(found.blocks):
        points.setdefault((time_us < T0 - LATE_AFTER_US, block.series_id), []).append((time_us, value))
    assert summaries.keys() == points.keys()
    for key, of_series in points.items():
        times, values = zip(*of_series, strict=True)
        gaps = [later - earlier for earlier, later in pairwise(times)]
        assert summaries[key] == Summary(
            len(times), min(times), max(times), min(values), max(values), max(gaps, default=0)
        )


def test_batch_raises_key_error_when_a_series_is_unknown() -> None:
    for unknown in (reading("pi3", t=1), reading("pi1", t=1, x=1)):
        with pytest.raises(KeyError):
            Batch([upload(reading("pi1", t=1)), upload(unknown)], IDS)


def test_copy_payload_has_postgresqls_binary_copy_format() -> None:
    batch = Batch([upload(reading("pi1", 946_684_800_000_001, t=-0.5))], IDS)
    payload = copy_payload(batch.blocks)
    assert payload[:19] == b"PGCOPY\n\xff\r\n\0" + bytes(8)
    assert unpack_from(">hiiiqid", payload, 19) == (3, 4, 1, 8, 1, 8, -0.5)
    assert payload[19 + 34 :] == b"\xff\xff"
