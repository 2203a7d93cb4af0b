"""Background tasks that run until a block of code ends, and work that must not block the event loop for long."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import structlog

T = TypeVar("T")
#: Work on more values than this would block the event loop for over 20 ms.
MUCH_VALUES = 20_000
#: Pause before a failed task starts again.
RESTART_PAUSE_S = 1.0
log = structlog.get_logger()


@asynccontextmanager
async def running(body: Coroutine[Any, Any, None], name: str) -> AsyncIterator[None]:
    """Run a coroutine as a task until the block ends, then cancel it and wait for its end."""
    task = asyncio.create_task(body, name=name)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def supervised(tasks: Mapping[str, Callable[[], Awaitable[None]]]) -> AsyncIterator[None]:
    """Run named tasks until the block ends; log a task that fails and start it again after RESTART_PAUSE_S."""
    running_tasks = {name: asyncio.create_task(_restart(name, task), name=name) for name, task in tasks.items()}
    try:
        yield
    finally:
        pending = set(running_tasks.values())
        while pending:
            # Repeated, because wait_for() of Python 3.11 swallows a cancellation that comes together with its result.
            for task in pending:
                task.cancel()
            _, pending = await asyncio.wait(pending, timeout=RESTART_PAUSE_S)


async def run_off_loop(value_count: int, work: Callable[..., T], *arguments: Any) -> T:
    """Run work directly if it is about few values, else in a thread, so that the event loop is not blocked.

    The work must consist of many short steps of Python or NumPy, and must not change shared objects.
    """
    return work(*arguments) if value_count <= MUCH_VALUES else await asyncio.to_thread(work, *arguments)


async def _restart(name: str, task: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await task()
        except Exception as error:
            log.error("task_failed", task=name, exc_info=error)
        await asyncio.sleep(RESTART_PAUSE_S)
