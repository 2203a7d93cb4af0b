"""Everything that runs beside the request handlers of the API: opened in order, and closed in reverse order."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast

import structlog

from app.alerting.rules.in_force import RulesInForce
from app.auth.connections import ConnectionCounts
from app.auth.key_ring import NOTE_USE_EVERY_S, KeyRing, keys_from_environment
from app.auth.rates import upload_rates
from app.auth.reads import READ_TIMEOUT_S, ReadSlots
from app.broker.broker import Broker
from app.db.edition import Edition, describe_edition
from app.db.pool import APP_ROLE, DATABASE_ERRORS, BoundedPool
from app.db.rights import find_missing_role
from app.db.servers import stalled
from app.db.servers.pooler import refuse_transaction_pooling
from app.db.servers.replica import ReplicaPool
from app.db.shared import SharedState
from app.errors import SettingsError
from app.health import LOOK_EVERY_S, Probe
from app.ingest.gateways.statistics import WRITE_EVERY_S
from app.ingest.intake import BEAT_EVERY_S, Ingest
from app.ingest.series.descriptions import SEEN_EVERY_S
from app.ingest.uploads.lanes import FLUSHERS
from app.jobs import Job, Jobs
from app.live.hub import Hub
from app.live.listener import Listener
from app.live.session import LiveFeed
from app.metrics import Metrics
from app.notify.transport import Endpoints
from app.settings import Settings
from app.start import (
    CUT_AFTER_S,
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

#: Longest time of a statement of a request, which is less than a request may take. PostgreSQL ends it a second later.
COMMAND_WITHIN_S = 25
#: Connections of each pool. Each kind of work has its own, so that none can starve another: with one for all, sixteen
#: slow reads kept acknowledged keys from being revoked and alerts from being acknowledged.
WRITE_CONNECTIONS, READ_CONNECTIONS, INGEST_CONNECTIONS, KEY_CONNECTIONS, FEED_CONNECTIONS = 4, 6, 3, 2, 3
log = structlog.get_logger()


class Services:
    """The pools, tasks and jobs beside the request handlers; made by create_app, opened when the server starts."""

    #: For all requests that are neither reads nor uploads: acknowledgements, silences, changes of sensors, the broker.
    pool: BoundedPool
    #: For GET requests; it leads to the replica if there is one.
    read_pool: BoundedPool
    #: For the queries of uploads outside the flushes; flushes have connections of their own.
    ingest_pool: BoundedPool
    #: For snapshots of the live feed, and for rows that its clients missed.
    feed_pool: BoundedPool
    #: For keys alone: whatever else goes on, a revoked key stops working.
    key_pool: BoundedPool
    edition: Edition

    def __init__(self, settings: Settings, needs_key: bool = True) -> None:
        self.settings = settings
        self._needs_key = needs_key
        self.dsn = require_dsn(settings.database_url)
        self.metrics = Metrics("api")
        self.ring = KeyRing(keys_from_environment(settings.api_key, settings.api_key_ws))
        self.ring.refusals.on_refused = lambda reason: self.metrics.auth_failures.labels(reason).inc()
        self.shared = SharedState()
        self.upload_rates = upload_rates(self.shared)
        self.ingest = Ingest(self.metrics, settings)
        self.hub = Hub(self.metrics)
        connections = ConnectionCounts(settings.max_ws_connections_per_key, self.shared)
        self.feed = LiveFeed(self.hub, self.ring, connections, self.metrics)
        self.reads = ReadSlots()
        self.listener = Listener(self.dsn, self.hub, self.metrics)
        self.broker = Broker(Endpoints(settings.slack_webhook_prefix, settings.telegram_api_base), self.shared)
        self.rules_in_force = RulesInForce()
        self.jobs = Jobs(self.metrics)
        self.probe = Probe(
            self.dsn,
            self.jobs,
            self.metrics,
            listener=self.listener,
            writer=self.ingest.writer,
            replica_is_away=lambda: self.replica_is_away,
            role=APP_ROLE,
        )

    @asynccontextmanager
    async def prepared(self) -> AsyncIterator[None]:
        """Open the pools and check that the server can start; raise AppError with a one-line message otherwise."""
        async with AsyncExitStack() as stack:
            self.pool = await self._open_pool(stack, WRITE_CONNECTIONS, min_size=1)
            await patiently(lambda: refuse_transaction_pooling("DATABASE_URL", self.dsn))
            self.ingest_pool = await self._open_pool(stack, INGEST_CONNECTIONS)
            self.feed_pool = await self._open_pool(stack, FEED_CONNECTIONS)
            self.read_pool = await self._open_read_pool(stack)
            self.edition = self.probe.edition = await patiently(lambda: check_schema(self.pool))
            self.key_pool = await self._open_pool(stack, KEY_CONNECTIONS)
            observe_waits(self.metrics, *self._pools)
            await patiently(self._check_role)
            await patiently(self._check_keys)
            yield

    async def _open_pool(self, stack: AsyncExitStack, size: int, **options: Any) -> BoundedPool:
        timeouts = {"command_timeout_s": COMMAND_WITHIN_S, "statement_timeout": f"{COMMAND_WITHIN_S + 1}s"}
        # Connections are opened when they are needed: a start opens one, not one of each pool.
        sizes = {"min_size": 0, "max_size": size, "role": APP_ROLE}
        return await stack.enter_async_context(
            opened_pool("DATABASE_URL", self.dsn, **{**timeouts, **sizes, **options})
        )

    async def _open_read_pool(self, stack: AsyncExitStack) -> BoundedPool:
        """Open the pool of the replica, and that of the primary for reads while the replica is away."""
        timeout = {"statement_timeout": f"{READ_TIMEOUT_S:.0f}s"}
        dsn = self.settings.read_database_url
        if dsn is None:
            return await self._open_pool(stack, READ_CONNECTIONS, **timeout)
        primary = await self._open_pool(stack, READ_CONNECTIONS, **timeout)
        options = {
            "min_size": 0,
            "max_size": READ_CONNECTIONS,
            "writes": False,
            "role": APP_ROLE,
            "pool_class": ReplicaPool,
        }
        opened = await stack.enter_async_context(opened_pool("READ_DATABASE_URL", dsn, **options, **timeout))
        replica = cast("ReplicaPool", opened)
        replica.fall_back_to(primary, dsn)
        return replica

    @property
    def _pools(self) -> tuple[BoundedPool, ...]:
        return self.pool, self.read_pool, self.ingest_pool, self.feed_pool, self.key_pool

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Open everything, run until the block ends, then close everything in reverse order."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.prepared())
            stack.callback(self.probe.close)
            self.ingest.pool, self.shared.pool = self.ingest_pool, self.pool
            await stack.enter_async_context(self.broker.opened(self.pool))
            await stack.enter_async_context(supervised(self._tasks()))
            await stack.enter_async_context(self.jobs.running(self._jobs()))
            async with asyncio.timeout(DATABASE_WAIT_S):
                await self.listener.started.wait()  # so that the first client finds the head of the feed
                await patiently(self._measure)  # so that the first scrape finds sizes
                await patiently(self.ingest.beat)
                await self.probe.watch()
            log.info("started", edition=self.edition, meaning=describe_edition(self.edition))
            yield
            log.info("stopping")
            asyncio.get_running_loop().call_later(CUT_AFTER_S, self._cut)
            await self.feed.connections.write()
            await self._write_last_counts()

    @property
    def replica_is_away(self) -> bool:
        """Return whether reads go to the primary because the replica does not answer."""
        return isinstance(self.read_pool, ReplicaPool) and self.read_pool.is_away

    async def _write_last_counts(self) -> None:
        """Store the counts and times that only this process has; log a failure, which must not prevent a clean stop."""
        try:
            async with asyncio.timeout(CUT_AFTER_S):
                await self.ingest.gateways.write(self.ingest_pool)
                await self._store_seen()
                await self.ring.note_use()
        except DATABASE_ERRORS as error:
            log.warning("gateways_not_written", error=repr(error))

    def _cut(self) -> None:
        """Cut the connections of all pools, so that nothing waits for a database that hangs."""
        for pool in self._pools:
            pool.cut()

    async def _store_seen(self) -> None:
        async with self.ingest_pool.acquire() as connection:
            await self.ingest.writer.registry.store_seen(connection)

    async def _measure(self) -> None:
        await measure(self.metrics, *self._pools)

    async def _check_role(self) -> None:
        """Log a warning when the API has more rights than it needs."""
        missing = await find_missing_role(self.pool)
        if missing is not None:
            log.warning("role_not_assumed", reason=missing)

    async def _check_keys(self) -> None:
        """Raise SettingsError when a needed API key is missing."""
        await self.ring.open(self.key_pool)
        if self._needs_key and not self.ring:
            raise SettingsError(
                "No API key is configured, so nobody could use the server: set API_KEY and API_KEY_WS, or run "
                "`tidegauge key create`"
            )

    def _tasks(self) -> dict[str, Callable[[], Awaitable[None]]]:
        replica = {"replica": self.read_pool.watch} if isinstance(self.read_pool, ReplicaPool) else {}
        return {
            "listener": self.listener.run,
            "key_refresh": self.ring.keep_fresh,
            "refused_keys": self.ring.refusals.report_forever,
            "heartbeats": self.feed.send_heartbeats,
            "sensors_followed": lambda: self.feed.follow_sensors(self.feed_pool),
            "shared_state": self.shared.recover,
            "connection_counts": self.feed.connections.share,
            "broker_store": lambda: self.broker.store.flush_forever(self.pool),
            **self.ingest.writer.flushers(self.dsn, FLUSHERS),
            **replica,
        }

    def _jobs(self) -> list[Job]:
        return [
            Job("beat", BEAT_EVERY_S, self.ingest.beat, not_ready_after=1),
            Job("gateways", WRITE_EVERY_S, lambda: self.ingest.gateways.write(self.ingest_pool)),
            Job("keys_used", NOTE_USE_EVERY_S, self.ring.note_use),
            Job("sensors_seen", SEEN_EVERY_S, self._store_seen),
            Job("stalled_sessions", stalled.LOOK_EVERY_S, lambda: stalled.end_stalled_sessions(self.pool)),
            Job("health", LOOK_EVERY_S, self.probe.watch),
            Job("measure", MEASURE_EVERY_S, self._measure),
        ]
