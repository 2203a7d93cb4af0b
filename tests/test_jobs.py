"""Jobs: one run at a time, one run in place of missed runs, counted failures, and jobs for the leader only."""

import asyncio
import logging
import re
import time
from collections import Counter

import pytest

from app.db.lease import BEAT_S
from app.jobs import Job, Jobs
from app.metrics import Metrics
from app.settings import Settings
from tests.conftest import API_KEY, Database, running_server, wait_until


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def jobs(metrics: Metrics) -> Jobs:
    return Jobs(metrics, lambda: True)


async def test_job_runs_repeatedly_until_the_block_ends(jobs: Jobs, metrics: Metrics) -> None:
    runs = Counter[str]()

    async def run() -> None:
        runs["job"] += 1

    async with jobs.running([Job("job", 0.01, run)]):
        await wait_until(lambda: runs["job"] >= 3)
    after = runs["job"]
    await asyncio.sleep(0.05)
    assert runs["job"] == after
    assert jobs.states["job"].last_success is not None
    assert metrics.registry.get_sample_value("tidegauge_job_runs_total", {"job": "job", "outcome": "succeeded"})


async def test_job_runs_once_at_a_time_when_it_takes_longer_than_its_interval(jobs: Jobs) -> None:
    at_once, most = 0, 0
    finished = 0

    async def run() -> None:
        nonlocal at_once, most, finished
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.05)
        at_once -= 1
        finished += 1

    async with jobs.running([Job("slow", 0.01, run)]):
        await wait_until(lambda: finished >= 3)
    assert most == 1


async def test_job_runs_once_without_delay_when_many_runs_were_missed(jobs: Jobs) -> None:
    ran_at: list[float] = []

    async def run() -> None:
        ran_at.append(time.monotonic())

    async with jobs.running([Job("job", 0.6, run)]):
        await wait_until(lambda: len(ran_at) == 1)
        time.sleep(1.9)  # noqa: ASYNC251 -- blocks the event loop, as a long computation would
        freed_at = time.monotonic()
        await wait_until(lambda: len(ran_at) == 4)
    assert ran_at[1] - freed_at < 0.45, "a missed run is due at once, however late"
    assert ran_at[3] - freed_at >= 0.6, "one run replaces three missed runs"


async def test_job_is_cancelled_without_a_logged_error_when_the_block_ends(
    jobs: Jobs, caplog: pytest.LogCaptureFixture
) -> None:
    events: list[str] = []

    async def run() -> None:
        events.append("began")
        try:
            await asyncio.sleep(60)
        finally:
            events.append("ended")

    async with jobs.running([Job("long", 0.01, run)]):
        await wait_until(lambda: events == ["began"])
    await asyncio.sleep(0.01)  # APScheduler handles the end in the next turns of the loop
    assert events == ["began", "ended"]
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_job_counts_failures_in_a_row_and_runs_again(jobs: Jobs, metrics: Metrics) -> None:
    answers = iter([ValueError("one"), ValueError("two"), None, ValueError("three")])
    seen: list[tuple[int, str | None]] = []

    async def run() -> None:
        state = jobs.states["job"]
        seen.append((state.failures_in_a_row, state.error))
        error = next(answers, None)
        if error is not None:
            raise error

    async with jobs.running([Job("job", 0.01, run)]):
        await wait_until(lambda: len(seen) >= 5)
    assert seen[:5] == [
        (0, None),
        (1, "ValueError('one')"),
        (2, "ValueError('two')"),
        (0, None),
        (1, "ValueError('three')"),
    ]
    assert metrics.registry.get_sample_value("tidegauge_job_runs_total", {"job": "job", "outcome": "failed"}) == 3


async def test_job_does_not_delay_others_when_it_hangs(jobs: Jobs) -> None:
    runs = Counter[str]()

    async def hang() -> None:
        runs["hung"] += 1
        await asyncio.sleep(60)

    async def run() -> None:
        runs["other"] += 1

    async with jobs.running([Job("hung", 0.01, hang), Job("other", 0.01, run)]):
        await wait_until(lambda: runs["other"] >= 5)
    assert runs["hung"] == 1


async def test_job_is_a_problem_when_it_did_not_end_for_five_intervals(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.jobs.STALLED_S", 0.0)
    may_go_on = asyncio.Event()

    async def hang() -> None:
        await may_go_on.wait()

    async with jobs.running([Job("needed", 0.1, hang, not_ready_after=3), Job("other", 0.1, hang)]):
        assert jobs.list_problems() == jobs.list_warnings() == []
        began = time.monotonic()
        await wait_until(lambda: bool(jobs.list_problems()))
        assert 0.4 <= time.monotonic() - began < 5  # it counts from just before `began`
        for name, (text,) in (("needed", jobs.list_problems()), ("other", jobs.list_warnings())):
            assert re.fullmatch(rf"job {name} has not ended a run for \d s; a run should end every 0.1 s", text)
        jobs.note_progress("needed")
        assert jobs.list_problems() == []
        may_go_on.set()
        await wait_until(lambda: not jobs.list_warnings())


async def test_job_is_no_problem_when_it_is_short_and_hung_for_less_than_ten_seconds(jobs: Jobs) -> None:
    async with jobs.running([Job("needed", 0.01, lambda: asyncio.sleep(60), not_ready_after=1)]):
        await asyncio.sleep(0.2)
        assert jobs.list_problems() == []


async def test_job_is_a_problem_from_its_own_number_of_failures_on(jobs: Jobs) -> None:
    async def fail() -> None:
        raise OSError("postgres://ana:secret@db/tidegauge is away")

    async with jobs.running([Job("beat", 0.01, fail, not_ready_after=1), Job("prune", 0.01, fail)]):
        await wait_until(lambda: bool(jobs.list_problems()))
        assert jobs.list_problems()[0].startswith(
            "job beat failed once: OSError('postgres://ana:[redacted]@db/tidegauge is away')"
        )
        assert jobs.states["prune"].failures_in_a_row < 3
        assert jobs.list_warnings() == []
        await wait_until(lambda: bool(jobs.list_warnings()))
        assert jobs.states["prune"].failures_in_a_row == 3
        assert jobs.list_warnings()[0].startswith("job prune failed 3 times in a row: OSError(")


async def test_job_of_the_leader_waits_until_this_process_leads(metrics: Metrics) -> None:
    leads = False
    runs = Counter[str]()
    jobs = Jobs(metrics, lambda: leads)

    def make(name: str, leader_only: bool) -> Job:
        async def run() -> None:
            runs[name] += 1

        return Job(name, 0.01, run, leader_only)

    async with jobs.running([make("everywhere", False), make("leader", True)]):
        await wait_until(lambda: runs["everywhere"] >= 5)
        assert runs["leader"] == 0
        leads = True
        await wait_until(lambda: runs["leader"] >= 1)


async def test_failures_of_a_leaders_job_are_reset_when_another_process_leads(metrics: Metrics) -> None:
    """A process that lost the lease in an outage must become ready again, although it no longer runs the job."""
    leads = True
    jobs = Jobs(metrics, lambda: leads)

    async def run() -> None:
        raise OSError("the database is away")

    async with jobs.running([Job("evaluate", 0.01, run, leader_only=True)]):
        await wait_until(lambda: jobs.states["evaluate"].failures_in_a_row >= 3)
        leads = False
        await wait_until(lambda: jobs.states["evaluate"].failures_in_a_row == 0)


async def test_one_of_two_servers_leads_when_the_leader_loses_its_lease(database: Database) -> None:
    settings = Settings(database_url=database.dsn, api_key=API_KEY)
    async with running_server(settings) as first:
        await wait_until(lambda: first.worker.lease.held)
        async with running_server(settings) as second:
            ended = await database.pool.fetchval(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = 'tidegauge lease'"
            )
            assert ended == 2
            await wait_until(lambda: not first.worker.lease.held)
            await wait_until(lambda: first.worker.lease.held or second.worker.lease.held, BEAT_S * 5)
            assert not (first.worker.lease.held and second.worker.lease.held)
            for api in (first, second):
                assert (await api.get("/health/ready"))["leader"] is True


async def test_problem_of_a_job_shows_no_secret(jobs: Jobs) -> None:
    async def run() -> None:
        raise OSError("cannot reach postgresql://me:s3cret@db/x?password=s3cret")

    async with jobs.running([Job("job", 0.01, run, not_ready_after=3)]):
        await wait_until(lambda: bool(jobs.list_problems()))
    (problem,) = jobs.list_problems()
    assert "postgresql://me:[redacted]@db/x?password=[redacted]" in problem
    assert "s3cret" not in problem
