"""Periodic background jobs: APScheduler decides when a job runs, and the job finds out what there is to do."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import msgspec
import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from app.log import redact
from app.metrics import Metrics

#: A job that failed this many times in a row makes the process not ready.
FAILURES_ALARMING = 3
log = structlog.get_logger()


class Job(msgspec.Struct, frozen=True):
    """A function to run every `every_s` seconds, in every process or in the leader only."""

    name: str
    every_s: float
    run: Callable[[], Awaitable[None]]
    leader_only: bool = False


class JobState(msgspec.Struct):
    """The latest results of a job; times are by the wall clock."""

    last_success: datetime | None = None
    last_failure: datetime | None = None
    failures_in_a_row: int = 0
    error: str | None = None


class Jobs:
    """The jobs of one process and their states."""

    def __init__(self, metrics: Metrics, is_leader: Callable[[], bool] = lambda: False) -> None:
        self.states: dict[str, JobState] = {}
        self._metrics = metrics
        self._is_leader = is_leader

    def list_problems(self) -> list[str]:
        """Return a text about each job that failed FAILURES_ALARMING times in a row or more often."""
        return [
            f"job {name} failed {state.failures_in_a_row} times in a row: {redact(str(state.error))}"
            for name, state in self.states.items()
            if state.failures_in_a_row >= FAILURES_ALARMING
        ]

    @asynccontextmanager
    async def running(self, jobs: Iterable[Job]) -> AsyncIterator[None]:
        """Run the jobs until the block ends, then cancel those that are still working."""
        # Missed runs are replaced by one run, however late; by default APScheduler drops a run that is a second late.
        defaults = {"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
        scheduler = AsyncIOScheduler(timezone=UTC, job_defaults=defaults)
        under_way: set[asyncio.Task[None]] = set()

        async def run(job: Job) -> None:
            task = asyncio.ensure_future(self._run(job))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            with suppress(asyncio.CancelledError):  # from the shutdown; APScheduler would log it as a failure
                await asyncio.wait([task])

        for job in jobs:
            self.states[job.name] = JobState()
            scheduler.add_job(run, "interval", args=[job], seconds=job.every_s, name=job.name)
        scheduler.start()
        try:
            yield
        finally:
            scheduler.shutdown(wait=False)
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def _run(self, job: Job) -> None:
        state = self.states[job.name]
        if job.leader_only and not self._is_leader():
            state.failures_in_a_row = 0  # a process that is no longer the leader must not stay unready because of them
            return
        try:
            await job.run()
        except Exception as error:  # noqa: BLE001 -- the run ends here, and the next one comes by schedule
            state.last_failure, state.error = datetime.now(UTC), repr(error)
            state.failures_in_a_row += 1
            log.warning("job_failed", job=job.name, error=repr(error))
        else:
            state.last_success, state.error, state.failures_in_a_row = datetime.now(UTC), None, 0
        self._metrics.job_runs.labels(job.name, "failed" if state.failures_in_a_row else "succeeded").inc()
