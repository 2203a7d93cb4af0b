"""The worker: evaluates rules, watches for silence, sends alert messages, and keeps aggregates and retention.

Any number of workers may run against one database. One of them holds the lease and works; the others stand by.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from time import monotonic

import structlog

from app.alerting.service import Alerting
from app.alerting.telling.watchdog import keep_watchdog
from app.broker.store import prune_notifications as prune_broker_notifications
from app.db.aggregates import OverduePolicies, drop_old_chunks, refresh_late_days, roll_up
from app.db.edition import Edition, describe_edition
from app.db.lease import Lease, LeaseLostError, check_term
from app.db.pool import BoundedPool, Pool
from app.db.rights import end_reader_transactions
from app.db.servers.pooler import refuse_transaction_pooling
from app.health import LOOK_EVERY_S, Probe
from app.ingest.flush.idempotency import prune_answers
from app.ingest.flush.legacy_records import prune_legacy_readings
from app.jobs import FAILURES_ALARMING, Job, Jobs
from app.live.retention import prune_feed
from app.metrics import Metrics
from app.notify.dispatch.dispatcher import Dispatcher
from app.notify.outbox import prune_notifications
from app.sensors.gateway_metrics import measure_gateways
from app.sensors.removal import remove_deleted_sensors
from app.settings import Settings
from app.start import (
    DATABASE_WAIT_S,
    MEASURE_EVERY_S,
    check_schema,
    measure,
    observe_waits,
    opened_pool,
    patiently,
    require_dsn,
)
from app.tasks import supervised

#: Interval between two evaluations of the rules.
EVALUATE_EVERY_S = 1.0
#: Rules count as evaluated now when an evaluation succeeded that began this short a time ago.
CURRENT_S = 15.0
#: Interval between two looks for series without data.
WATCH_SILENCE_EVERY_S = 10.0
#: Interval between two reports of the status that the API shows about the worker.
REPORT_EVERY_S = 5.0
#: Interval between two refreshes of the days that late readings touched.
LATE_DAYS_EVERY_S = 10.0
#: Interval between two runs that remove deleted sensors.
REMOVE_SENSORS_EVERY_S = 10.0
#: Interval between two measurements of gateways.
MEASURE_GATEWAYS_EVERY_S = 15.0
#: Interval between two looks for transactions of the reader that last too long or are in the way.
END_READERS_EVERY_S = 5.0
#: Interval between two updates of the rolled-up tables of the Apache-2 edition.
ROLL_UP_EVERY_S = 60.0
#: Interval between two checks of the policies of the Community edition; the shortest policy runs every minute.
OVERDUE_POLICIES_EVERY_S = 30.0
#: Time from the beginning of a stop until it cuts the connections that are still in use. Messages under way get 5 s.
_CUT_AFTER_S = 7.0
#: Jobs that must run; the worker is not ready without them.
NEEDED = ("evaluate", "watch_silence")
log = structlog.get_logger()


class Worker:
    """The pool, tasks and jobs of one worker."""

    pool: BoundedPool
    edition: Edition

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.dsn = require_dsn(settings.database_url)
        self.metrics = Metrics("worker")
        self.lease = Lease(self.dsn, on_signal=self._look_soon)
        self.alerting = Alerting(settings, self.metrics)
        self.dispatcher = Dispatcher(
            metrics=self.metrics,
            endpoints=self.alerting.endpoints,
            compose=self.alerting.compose,
            channels=self.alerting.channels,
            fallbacks=self.alerting.fallbacks,
            follow=self.alerting.keeper.follow,
            is_leader=self._is_leader,
        )
        self.alerting.on_due = self.dispatcher.wake
        self.alerting.keeper.check_leader = lambda connection: check_term(connection, self.lease.term)
        self.jobs = Jobs(self.metrics, self._is_leader)
        self.alerting.on_round = lambda: self.jobs.note_progress("evaluate")
        self.probe = Probe(self.dsn, self.jobs, self.metrics, is_leader=self._is_leader)
        self._overdue_policies = OverduePolicies()
        #: Two refreshes of one continuous aggregate at a time would fail or wait for each other.
        self._refreshing = asyncio.Lock()

    def reload_rules(self) -> None:
        """Read the rule files again soon, if this worker holds the lease."""
        self.alerting.keeper.reload_soon()

    @asynccontextmanager
    async def prepared(self) -> AsyncIterator[None]:
        """Open the pool and check that the worker can start; raise AppError with a one-line message otherwise."""
        async with opened_pool("DATABASE_URL", self.dsn) as self.pool:
            await patiently(lambda: refuse_transaction_pooling("DATABASE_URL", self.dsn))
            self.edition = self.probe.edition = await patiently(lambda: check_schema(self.pool))
            observe_waits(self.metrics, self.pool)
            yield

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Open everything, run until the block ends, then close everything in reverse order."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.prepared())
            stack.callback(self.probe.close)
            await patiently(lambda: self.alerting.keeper.follow(self.pool))
            await stack.enter_async_context(supervised({"lease": self.lease.keep}))
            async with asyncio.timeout(DATABASE_WAIT_S):
                await self.lease.tried.wait()
                await stack.enter_async_context(supervised(self._tasks()))
                # The lease may be lost meanwhile, and then no files are read.
                while self.lease.held and not self.alerting.keeper.has_read.is_set():  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                if self.lease.held:
                    await self._report()
                await patiently(lambda: measure(self.metrics, self.pool))
                await self.probe.watch()
            await stack.enter_async_context(self.jobs.running(self._jobs()))
            meaning = describe_edition(self.edition)
            log.info("worker_started", leader=self.lease.held, edition=self.edition, meaning=meaning)
            yield
            log.info("worker_stopping")
            asyncio.get_running_loop().call_later(_CUT_AFTER_S, self.pool.cut)

    def _is_leader(self) -> bool:
        return self.lease.held

    def _is_current(self) -> bool:
        """Return whether this worker evaluates rules, and did so just now."""
        return self.lease.held and self.jobs.succeeded_since("evaluate", monotonic() - CURRENT_S)

    def _look_soon(self) -> None:
        """Look at once for requests that the API has stored: acks, silences, messages to send again, test messages."""
        self.alerting.plan_soon()
        self.dispatcher.wake()

    def _tasks(self) -> dict[str, Callable[[], Awaitable[None]]]:
        return {
            "rules_watch": lambda: self.alerting.keeper.watch(self.pool, self._is_leader),
            "dispatcher": lambda: self.dispatcher.run(self.pool),
            "watchdog": lambda: keep_watchdog(self.settings, lambda: self.alerting.keeper.rules, self._is_current),
        }

    def _jobs(self) -> list[Job]:
        """Return the jobs; all but the first two run in the worker that holds the lease only."""
        leader_jobs = [
            ("evaluate", EVALUATE_EVERY_S, lambda: self._as_leader(self.alerting.tick)),
            ("watch_silence", WATCH_SILENCE_EVERY_S, lambda: self._as_leader(self.alerting.watch_silence)),
            ("report", REPORT_EVERY_S, self._report),
            ("reader_transactions", END_READERS_EVERY_S, lambda: end_reader_transactions(self.pool)),
            ("prune_feed", 60.0, lambda: prune_feed(self.pool)),
            ("prune_answers", 600.0, lambda: prune_answers(self.pool)),
            ("prune_legacy", 600.0, lambda: prune_legacy_readings(self.pool)),
            ("prune_notifications", 600.0, lambda: prune_broker_notifications(self.pool)),
            ("prune_outbox", 600.0, lambda: prune_notifications(self.pool)),
            ("late_days", LATE_DAYS_EVERY_S, self._refresh_late_days),
            ("remove_sensors", REMOVE_SENSORS_EVERY_S, self._remove_sensors),
            ("measure_gateways", MEASURE_GATEWAYS_EVERY_S, lambda: measure_gateways(self.pool, self.metrics)),
        ]
        if self.edition == "community":
            leader_jobs.append(("overdue_policies", OVERDUE_POLICIES_EVERY_S, self._run_overdue_policies))
        else:
            leader_jobs.append(("roll_up", ROLL_UP_EVERY_S, self._roll_up))
            leader_jobs.append(("retention", 3_600.0, self._drop_old_chunks))
        return [
            Job("health", LOOK_EVERY_S, self.probe.watch),
            Job("measure", MEASURE_EVERY_S, lambda: measure(self.metrics, self.pool)),
            *(
                Job(name, every_s, run, True, FAILURES_ALARMING if name in NEEDED else None)
                for name, every_s, run in leader_jobs
            ),
        ]

    async def _as_leader(self, work: Callable[[Pool, int], Awaitable[None]]) -> None:
        """Do work that only the leader may do; give the lease up if another process has taken it unnoticed."""
        try:
            await work(self.pool, self.lease.term)
        except LeaseLostError as error:
            self.lease.lose(error)

    async def _report(self) -> None:
        failing = [f"worker: {text}" for text in (*self.jobs.list_problems(), *self.jobs.list_warnings())]
        await self.alerting.report(self.pool, [*failing, *self._overdue_policies.list_warnings()])

    async def _refresh_late_days(self) -> None:
        async with self._refreshing, self.pool.acquire() as connection:
            days = await refresh_late_days(connection, await connection.fetchval("SELECT now()"))
        if days:
            log.info("late_days_refreshed", days=days)

    async def _remove_sensors(self) -> None:
        async with self._refreshing:
            removed = await remove_deleted_sensors(self.pool)
        if removed:
            log.info("sensors_removed", sensors=removed)

    async def _run_overdue_policies(self) -> None:
        async with self._refreshing, self.pool.acquire() as connection:
            await self._overdue_policies.run(connection)

    async def _roll_up(self) -> None:
        async with self.pool.acquire() as connection:
            await roll_up(connection)

    async def _drop_old_chunks(self) -> None:
        async with self.pool.acquire() as connection:
            dropped = await drop_old_chunks(connection)
        if dropped:
            log.info("chunks_dropped", chunks=dropped)
