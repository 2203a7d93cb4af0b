"""Lanes of uploads: what a flush takes of them, and when."""

import asyncio
from contextlib import suppress

import pytest

from app.ingest.uploads import lanes
from app.ingest.uploads.lanes import Lane, WaitingUpload
from tests.ingest.uploads import T0, reading, upload

LARGE = lanes.SMALL_UPLOAD_VALUES


def waiting(value_count: int, since: float = 0.0) -> WaitingUpload:
    """An upload of so many values that waits."""
    sent = upload(*(reading("pi1", T0 + number, t=1) for number in range(value_count)))
    return WaitingUpload(sent, asyncio.get_running_loop().create_future(), since)


def sizes(taken: list[WaitingUpload]) -> list[int]:
    return [each.upload.value_count for each in taken]


@pytest.fixture
def small() -> Lane:
    return Lane(gathers=True)


@pytest.fixture
def large() -> Lane:
    return Lane(gathers=False)


async def test_flush_takes_all_small_uploads_up_to_its_limit(small: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "FLUSH_VALUES", 10)
    for value_count in (4, 6, 1, 3):
        small.add(waiting(value_count))
    assert (len(small), small.waiting_values) == (4, 14)
    assert sizes(await small.take()) == [4, 6]
    assert sizes(await small.take()) == [1, 3]
    assert (len(small), small.waiting_values, small.waiting_bytes) == (0, 0, 0)


async def test_flush_takes_half_of_few_large_uploads_and_leaves_the_rest_to_the_other_flusher(large: Lane) -> None:
    for _ in range(2):
        large.add(waiting(4_000))
    assert sizes(await large.take()) == [4_000]
    for _ in range(6):
        large.add(waiting(4_000))
    assert sizes(await large.take()) == [4_000, 4_000]


async def test_upload_larger_than_a_flush_is_one_of_its_own(large: Lane) -> None:
    for value_count in (LARGE, lanes.FLUSH_VALUES + 1, LARGE):
        large.add(waiting(value_count))
    assert [sizes(await large.take()) for _ in range(3)] == [[LARGE], [lanes.FLUSH_VALUES + 1], [LARGE]]


async def test_uploads_whose_client_is_gone_are_left_out(small: Lane) -> None:
    gone = waiting(1)
    gone.outcome.cancel()
    small.add(gone)
    small.add(waiting(2))
    assert sizes(await small.take()) == [2]
    small.add(gone)
    assert await small.take() == []
    assert len(small) == 0


async def test_small_uploads_wait_until_they_have_as_many_values_as_those_under_way(
    small: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "GATHERED_WITHIN_S", 60.0)
    with small.flushing([waiting(2), waiting(1)]):
        small.add(waiting(1))
        taking = asyncio.create_task(small.take())
        small.add(waiting(1))
        await asyncio.sleep(0.02)
        assert not taking.done()
        small.add(waiting(1))
        assert sizes(await taking) == [1, 1, 1]
        small.add(waiting(1))
        taking = asyncio.create_task(small.take())
        await asyncio.sleep(0)
    assert sizes(await taking) == [1]


async def test_small_uploads_wait_for_a_flush_under_way_for_a_limited_time(
    small: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "GATHERED_WITHIN_S", 0.02)
    with small.flushing([waiting(9)]):
        small.add(waiting(1))
        assert sizes(await small.take()) == [1]


async def test_uploads_that_waited_too_long_are_taken_out(small: Lane) -> None:
    for since in (1.0, 2.0, 3.0):
        small.add(waiting(1, since))
    assert [each.since for each in small.pop_older(than=3.0)] == [1.0, 2.0]
    assert (len(small), small.waiting_values) == (1, 1)


async def test_time_under_way_is_noted_until_a_flush_ends(small: Lane) -> None:
    with suppress(ZeroDivisionError), small.flushing([waiting(1)]):
        assert len(small.flushing_since) == 1
        raise ZeroDivisionError
    assert small.flushing_since == []
