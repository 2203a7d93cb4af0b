"""Everything that runs beside the request handlers: opened in order, supervised, and closed in reverse order."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from time import monotonic
from typing import Any

import asyncpg
import structlog

from app.alerting.service import Alerting
from app.auth.connections import ConnectionCounts
from app.auth.keys import KeyRing, keys_from_environment
from app.broker.broker import Broker
from app.broker.store import prune_notifications as prune_broker_notifications
from app.db.aggregates import OverduePolicies, drop_old_chunks, refresh_late_days, roll_up
from app.db.edition import Edition, describe_edition, detect_edition
from app.db.lease import Lease
from app.db.migrations import check_migrated
from app.db.pool import DATABASE_ERRORS, Pool, open_pool
from app.db.sql import SQL
from app.errors import SettingsError
from app.ingest.flush.legacy_records import prune_legacy_readings
from app.ingest.gateways import WRITE_EVERY_S
from app.ingest.idempotency import prune_answers
from app.ingest.intake import Ingest
from app.ingest.series import SEEN_EVERY_S
from app.ingest.writer import FLUSHERS
from app.jobs import Job, Jobs
from app.live.hub import Hub
from app.live.listener import Listener
from app.live.retention import prune_feed
from app.live.session import LiveFeed
from app.metrics import Metrics
from app.notify.dispatcher import Dispatcher
from app.notify.outbox import prune_notifications
from app.notify.transport import Endpoints
from app.sensors.removal import remove_deleted_sensors
from app.settings import Settings
from app.tasks import supervised

#: Interval between two evaluations of the rules.
EVALUATE_EVERY_S = 1.0
#: Interval between two refreshes of the days that late readings touched.
LATE_DAYS_EVERY_S = 10.0
#: Interval between two runs that remove deleted sensors.
REMOVE_SENSORS_EVERY_S = 10.0
#: Interval between two updates of the rolled-up tables of the Apache-2 edition.
ROLL_UP_EVERY_S = 60.0
#: Interval between two checks of the policies of the Community edition; the shortest policy runs every minute.
OVERDUE_POLICIES_EVERY_S = 30.0
#: How long the start waits for a database that is still starting.
DATABASE_WAIT_S = 30.0
log = structlog.get_logger()


class Services:
    """The pools, tasks and jobs beside the request handlers; made by create_app, opened when the server starts."""

    pool: Pool
    read_pool: Pool
    edition: Edition

    def __init__(self, settings: Settings, needs_key: bool = True) -> None:
        if settings.database_url is None:
            raise SettingsError("DATABASE_URL is not set; `tidegauge up` runs a database of its own")
        self.settings = settings
        self._needs_key = needs_key
        self.dsn = settings.database_url
        self.metrics = Metrics()
        self.ring = KeyRing(keys_from_environment(settings.api_key, settings.api_key_ws))
        self.ingest = Ingest(self.metrics, settings)
        self.hub = Hub(self.metrics)
        connections = ConnectionCounts(settings.max_ws_connections_per_key)
        self.feed = LiveFeed(self.hub, self.ring, connections, self.metrics)
        self.listener = Listener(self.dsn, self.hub, self.metrics)
        self.broker = Broker(Endpoints(settings.slack_webhook_prefix, settings.telegram_api_base))
        self.alerting = Alerting(settings, self.metrics)
        self.dispatcher = Dispatcher(
            metrics=self.metrics,
            endpoints=self.alerting.endpoints,
            compose=self.alerting.compose,
            channels=self.alerting.channels,
            fallbacks=self.alerting.fallbacks,
        )
        self.alerting.on_due = self.dispatcher.wake
        self.lease = Lease(self.dsn)
        self.jobs = Jobs(self.metrics, lambda: self.lease.held)
        self.overdue_policies = OverduePolicies()
        #: Two refreshes of one continuous aggregate at a time would fail or wait for each other.
        self._refreshing = asyncio.Lock()

    @asynccontextmanager
    async def prepared(self) -> AsyncIterator[None]:
        """Open the pools and check that the server can start; raise AppError with a one-line message otherwise."""
        async with AsyncExitStack() as stack:
            self.pool = await _wait_for_pool("DATABASE_URL", self.dsn)
            stack.push_async_callback(_close_pool, self.pool)
            self.read_pool = self.pool
            if self.settings.read_database_url:
                self.read_pool = await _wait_for_pool("READ_DATABASE_URL", self.settings.read_database_url)
                stack.push_async_callback(_close_pool, self.read_pool)
            await self._check_start()
            yield

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Open everything, run until the block ends, then close everything in reverse order."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.prepared())
            self.ingest.pool = self.pool
            await stack.enter_async_context(self.broker.opened(self.pool))
            await self.alerting.keeper.open(self.pool)
            await stack.enter_async_context(supervised(self._tasks()))
            await stack.enter_async_context(self.jobs.running(self._jobs()))
            async with asyncio.timeout(DATABASE_WAIT_S):
                await self.listener.started.wait()  # so that the first client finds the head of the feed
                await self._measure()  # so that the first scrape finds sizes
            log.info("started", edition=self.edition, meaning=describe_edition(self.edition))
            yield
            log.info("stopping")
            await self._write_last_counts()

    async def _write_last_counts(self) -> None:
        """Write what is known of gateways and sensors only here; log a failure, which must not prevent a clean stop."""
        try:
            async with asyncio.timeout(5):
                await self.ingest.gateways.write(self.pool)
                await self._store_seen()
        except DATABASE_ERRORS as error:
            log.warning("gateways_not_written", error=repr(error))

    async def _store_seen(self) -> None:
        async with self.pool.acquire() as connection:
            await self.ingest.writer.registry.store_seen(connection)

    async def _check_start(self) -> None:
        """Raise MigrationError when migrations are pending, SettingsError when a needed API key is missing."""
        async with self.pool.acquire() as connection:
            await check_migrated(connection)
            self.edition = await detect_edition(connection)
        await self.ring.open(self.pool)
        if self._needs_key and not self.ring:
            raise SettingsError(
                "No API key is configured, so nobody could use the server: set API_KEY and API_KEY_WS, or run "
                "`tidegauge key create`"
            )

    def _tasks(self) -> dict[str, Callable[[], Awaitable[None]]]:
        flushers = {
            f"flusher_{number}": lambda: self.ingest.writer.flush_forever(self.dsn) for number in range(1, FLUSHERS + 1)
        }
        return {
            "listener": self.listener.run,
            "lease": self.lease.keep,
            "key_refresh": self.ring.keep_fresh,
            "heartbeats": self.feed.send_heartbeats,
            "sensors_followed": lambda: self.feed.follow_sensors(self.read_pool),
            "dispatcher": lambda: self.dispatcher.run(self.pool),
            "rules_watch": lambda: self.alerting.keeper.watch(self.pool),
            "broker_store": lambda: self.broker.store.flush_forever(self.pool),
            **flushers,
        }

    def _jobs(self) -> list[Job]:
        jobs = [
            Job("gateways", WRITE_EVERY_S, lambda: self.ingest.gateways.write(self.pool)),
            Job("sensors_seen", SEEN_EVERY_S, self._store_seen),
            Job("measure", 15, self._measure),
            Job("evaluate", EVALUATE_EVERY_S, lambda: self.alerting.tick(self.pool, self.lease.term), leader_only=True),
            Job("watch_silence", 10, lambda: self.alerting.watch_silence(self.pool), leader_only=True),
            Job("prune_feed", 60, lambda: prune_feed(self.pool), leader_only=True),
            Job("prune_answers", 600, lambda: prune_answers(self.pool), leader_only=True),
            Job("prune_legacy", 600, lambda: prune_legacy_readings(self.pool), leader_only=True),
            Job("prune_notifications", 600, lambda: prune_broker_notifications(self.pool), leader_only=True),
            Job("prune_outbox", 600, lambda: prune_notifications(self.pool), leader_only=True),
            Job("late_days", LATE_DAYS_EVERY_S, self._refresh_late_days, leader_only=True),
            Job("remove_sensors", REMOVE_SENSORS_EVERY_S, self._remove_sensors, leader_only=True),
        ]
        if self.edition == "community":
            jobs.append(Job("overdue_policies", OVERDUE_POLICIES_EVERY_S, self._run_overdue_policies, leader_only=True))
        else:
            jobs.append(Job("roll_up", ROLL_UP_EVERY_S, self._roll_up, leader_only=True))
            jobs.append(Job("retention", 3_600, self._drop_old_chunks, leader_only=True))
        return jobs

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
            await self.overdue_policies.run(connection)

    async def _roll_up(self) -> None:
        async with self.pool.acquire() as connection:
            await roll_up(connection)

    async def _drop_old_chunks(self) -> None:
        async with self.pool.acquire() as connection:
            dropped = await drop_old_chunks(connection)
        if dropped:
            log.info("chunks_dropped", chunks=dropped)

    async def _measure(self) -> None:
        size = await self.pool.fetchval(SQL["get_database_size"])
        self.metrics.database_bytes.set(size)
        self.metrics.pool_connections.labels("open").set(self.pool.get_size())
        self.metrics.pool_connections.labels("idle").set(self.pool.get_idle_size())


async def _wait_for_pool(name: str, dsn: str) -> Pool:
    """Open a pool, waiting at most DATABASE_WAIT_S for a database that is starting; raise SettingsError."""
    deadline = monotonic() + DATABASE_WAIT_S
    while True:
        try:
            return await open_pool(dsn)
        except (OSError, asyncpg.CannotConnectNowError) as error:
            if monotonic() > deadline:
                raise SettingsError(f"The database at {name} does not answer: {error}") from None
            log.info("waiting_for_database", error=str(error))
            await asyncio.sleep(1)
        except asyncpg.PostgresError as error:
            raise SettingsError(f"The database at {name} refuses: {error}") from None


async def _close_pool(pool: Any) -> None:
    """Close a pool; after 5 s, terminate the connections that are still in use."""
    try:
        async with asyncio.timeout(5):
            await pool.close()
    except TimeoutError:
        pool.terminate()
