"""Periodic background jobs: APScheduler decides when a job runs, and the job finds out what there is to do."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from time import monotonic, time
from typing import Any

import msgspec
import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from app.clock import now
from app.log import redact
from app.metrics import Metrics

#: A job that failed this many times in a row needs attention.
FAILURES_ALARMING = 3
#: A job also needs attention if no run of it has ended for this many intervals, and for this many seconds.
INTERVALS_ALARMING = 5
STALLED_S = 10.0
#: A step of the wall clock is noticed within this time. A smaller step is left to APScheduler.
_LOOK_EVERY_S = 1.0
_STEP_S = 0.5
log = structlog.get_logger()


class Job(msgspec.Struct, frozen=True):
    """A function to run every `every_s` seconds, in every process or in the leader only."""

    name: str
    every_s: float
    run: Callable[[], Awaitable[None]]
    leader_only: bool = False
    #: The process is not ready after this many failures in a row. None: it is ready without this job.
    not_ready_after: int | None = None


class JobState(msgspec.Struct):
    """The latest results of a job."""

    last_success: datetime | None = None
    last_failure: datetime | None = None
    failures_in_a_row: int = 0
    error: str | None = None


class Jobs:
    """The jobs of one process and their states."""

    def __init__(self, metrics: Metrics, is_leader: Callable[[], bool] = lambda: False) -> None:
        self.states: dict[str, JobState] = {}
        self._jobs: list[Job] = []
        #: Job name -> time at which a run last ended or reported progress, on the monotonic clock.
        self._alive_at: dict[str, float] = {}
        #: Job name -> time at which the last successful run began, on the monotonic clock.
        self._succeeded_at: dict[str, float] = {}
        self._metrics = metrics
        self._is_leader = is_leader

    def list_problems(self) -> list[str]:
        """Return a text about each necessary job that fails or has stalled."""
        return [
            text
            for job in self._jobs
            if job.not_ready_after is not None
            for text in self._describe(job, job.not_ready_after)
        ]

    def list_warnings(self) -> list[str]:
        """Return a text about each other job that fails or has stalled."""
        return [
            text for job in self._jobs if job.not_ready_after is None for text in self._describe(job, FAILURES_ALARMING)
        ]

    def succeeded_since(self, name: str, moment: float) -> bool:
        """Return whether a run has succeeded that began after a moment of the monotonic clock."""
        return self._succeeded_at.get(name, float("-inf")) > moment

    def note_progress(self, name: str) -> None:
        """Note that a long run of a job makes progress."""
        self._alive_at[name] = monotonic()

    def _describe(self, job: Job, failures_alarming: int) -> list[str]:
        state, texts = self.states[job.name], []
        if state.failures_in_a_row >= failures_alarming:
            texts.append(f"job {job.name} failed {_times(state.failures_in_a_row)}: {state.error}")
        silent_s = monotonic() - self._alive_at[job.name]
        if silent_s > max(INTERVALS_ALARMING * job.every_s, STALLED_S):
            texts.append(
                f"job {job.name} has not ended a run for {silent_s:.0f} s; a run should end every {job.every_s:g} s"
            )
        return texts

    @asynccontextmanager
    async def running(self, jobs: Iterable[Job]) -> AsyncIterator[None]:
        """Run the jobs until the block ends, then cancel those that are still working."""
        # Missed runs are replaced by one run, however late; by default APScheduler drops a run that is a second late.
        defaults = {"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
        scheduler = _Scheduler(timezone=UTC, job_defaults=defaults)
        under_way: set[asyncio.Task[None]] = set()

        async def run(job: Job) -> None:
            task = asyncio.ensure_future(self._run(job))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            with suppress(asyncio.CancelledError):  # from the shutdown; APScheduler would log it as a failure
                await asyncio.wait([task])

        for job in jobs:
            self._jobs.append(job)
            self.states[job.name] = JobState()
            self._alive_at[job.name] = monotonic()
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
            self._alive_at[job.name] = monotonic()
            return
        began = monotonic()
        try:
            await job.run()
        except Exception as error:  # noqa: BLE001 -- the run ends here, and the next one comes by schedule
            state.last_failure, state.error = now(), redact(repr(error))
            state.failures_in_a_row += 1
            log.warning("job_failed", job=job.name, error=repr(error))
        else:
            state.last_success, state.error, state.failures_in_a_row = now(), None, 0
            self._succeeded_at[job.name] = began
        self._alive_at[job.name] = monotonic()
        self._metrics.job_runs.labels(job.name, "failed" if state.failures_in_a_row else "succeeded").inc()


class _Scheduler(AsyncIOScheduler):  # type: ignore[misc]
    """An APScheduler whose next runs move along when the wall clock is set, because it plans them by that clock.

    Otherwise a clock set back by an hour would stop every job for an hour, and one set forward by years, as on a
    machine that learns the time only after its start, would count all missed runs one by one.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._wall_ahead_s = time() - monotonic()

    def _process_jobs(self) -> float:
        self._move_with_wall_clock()
        wait_s: float | None = super()._process_jobs()
        return _LOOK_EVERY_S if wait_s is None else min(wait_s, _LOOK_EVERY_S)

    def _move_with_wall_clock(self) -> None:
        ahead_s = time() - monotonic()
        step_s = ahead_s - self._wall_ahead_s
        if abs(step_s) < _STEP_S:
            return
        self._wall_ahead_s = ahead_s
        log.warning("wall_clock_set", step_s=round(step_s, 1))
        for job in self.get_jobs():
            job.modify(next_run_time=job.next_run_time + timedelta(seconds=step_s))


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times in a row"
