"""Tasks that end with their block, and tasks that restart after a failure."""

import asyncio

import pytest
from structlog.testing import capture_logs

from app import tasks
from app.tasks import running, supervised
from tests.conftest import wait_until


async def test_task_runs_until_its_block_ends() -> None:
    ended = []

    async def wait() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("cleaned up")

    async with running(wait(), "waiting"):
        await asyncio.sleep(0)
        assert ended == []
    assert ended == ["cleaned up"]


async def test_task_raises_when_it_failed_inside_its_block() -> None:
    async def fail() -> None:
        raise ValueError("an unexpected error")

    with pytest.raises(ValueError, match="an unexpected error"):
        async with running(fail(), "failing"):
            await asyncio.sleep(0)


async def test_tasks_end_when_one_swallows_its_cancellation() -> None:
    cancellations = 0

    async def swallow() -> None:
        nonlocal cancellations
        while cancellations < 2:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancellations += 1
        raise asyncio.CancelledError

    async with supervised({"stubborn": swallow}):
        await asyncio.sleep(0)
    assert cancellations == 2


async def test_task_is_logged_and_restarted_when_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "RESTART_PAUSE_S", 0.01)
    starts = 0

    async def fail() -> None:
        nonlocal starts
        starts += 1
        raise ValueError("an unexpected error")

    with capture_logs() as logs:
        async with supervised({"failing": fail}):
            await wait_until(lambda: starts >= 3)
    assert {(line["event"], line["task"]) for line in logs} == {("task_failed", "failing")}
