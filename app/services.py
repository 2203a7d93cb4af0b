"""Everything that runs beside the request handlers of the API: opened in order, and closed in reverse order."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import structlog

from app.alerting.rules.in_force import RulesInForce
from app.auth.connections import ConnectionCounts
from app.auth.keys import KeyRing, keys_from_environment
from app.broker.broker import Broker
from app.db.edition import Edition, describe_edition
from app.db.pool import APP_ROLE, DATABASE_ERRORS, Pool
from app.db.rights import find_missing_role
from app.db.shared import SharedState
from app.errors import SettingsError
from app.health import Probe
from app.ingest.gateways import WRITE_EVERY_S
from app.ingest.intake import BEAT_EVERY_S, Ingest
from app.ingest.series import SEEN_EVERY_S
from app.ingest.writer import FLUSHERS
from app.jobs import Job, Jobs
from app.live.hub import Hub
from app.live.listener import Listener
from app.live.session import LiveFeed
from app.metrics import Metrics
from app.notify.transport import Endpoints
from app.settings import Settings
from app.start import DATABASE_WAIT_S, MEASURE_EVERY_S, check_schema, measure, opened_pool, require_dsn
from app.tasks import supervised

log = structlog.get_logger()


class Services:
    """The pools, tasks and jobs beside the request handlers; made by create_app, opened when the server starts."""

    pool: Pool
    read_pool: Pool
    edition: Edition

    def __init__(self, settings: Settings, needs_key: bool = True) -> None:
        self.settings = settings
        self._needs_key = needs_key
        self.dsn = require_dsn(settings.database_url)
        self.metrics = Metrics("api")
        self.ring = KeyRing(keys_from_environment(settings.api_key, settings.api_key_ws))
        self.ingest = Ingest(self.metrics, settings)
        self.hub = Hub(self.metrics)
        self.shared = SharedState()
        connections = ConnectionCounts(settings.max_ws_connections_per_key, self.shared)
        self.feed = LiveFeed(self.hub, self.ring, connections, self.metrics)
        self.listener = Listener(self.dsn, self.hub, self.metrics)
        self.broker = Broker(Endpoints(settings.slack_webhook_prefix, settings.telegram_api_base), self.shared)
        self.rules_in_force = RulesInForce()
        self.jobs = Jobs(self.metrics)

    @property
    def probe(self) -> Probe:
        """Return what the health routes look at."""
        return Probe(self.pool, self.edition, self.jobs, self.metrics, listener=self.listener)

    @asynccontextmanager
    async def prepared(self) -> AsyncIterator[None]:
        """Open the pools and check that the server can start; raise AppError with a one-line message otherwise."""
        async with AsyncExitStack() as stack:
            self.pool = await stack.enter_async_context(opened_pool("DATABASE_URL", self.dsn, APP_ROLE))
            self.read_pool = self.pool
            if self.settings.read_database_url:
                opening = opened_pool("READ_DATABASE_URL", self.settings.read_database_url, APP_ROLE)
                self.read_pool = await stack.enter_async_context(opening)
            self.edition = await check_schema(self.pool)
            await self._check_role()
            await self._check_keys()
            yield

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Open everything, run until the block ends, then close everything in reverse order."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.prepared())
            self.ingest.pool = self.shared.pool = self.pool
            await stack.enter_async_context(self.broker.opened(self.pool))
            await stack.enter_async_context(supervised(self._tasks()))
            await stack.enter_async_context(self.jobs.running(self._jobs()))
            async with asyncio.timeout(DATABASE_WAIT_S):
                await self.listener.started.wait()  # so that the first client finds the head of the feed
                await measure(self.pool, self.metrics)  # so that the first scrape finds sizes
                await self.ingest.beat()
            log.info("started", edition=self.edition, meaning=describe_edition(self.edition))
            yield
            log.info("stopping")
            await self.feed.connections.write()
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

    async def _check_role(self) -> None:
        """Log a warning when the API has more rights than it needs."""
        missing = await find_missing_role(self.pool)
        if missing is not None:
            log.warning("role_not_assumed", reason=missing)

    async def _check_keys(self) -> None:
        """Raise SettingsError when a needed API key is missing."""
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
            "key_refresh": self.ring.keep_fresh,
            "heartbeats": self.feed.send_heartbeats,
            "sensors_followed": lambda: self.feed.follow_sensors(self.read_pool),
            "shared_state": self.shared.recover,
            "connection_counts": self.feed.connections.share,
            "broker_store": lambda: self.broker.store.flush_forever(self.pool),
            **flushers,
        }

    def _jobs(self) -> list[Job]:
        return [
            Job("beat", BEAT_EVERY_S, self.ingest.beat),
            Job("gateways", WRITE_EVERY_S, lambda: self.ingest.gateways.write(self.pool)),
            Job("sensors_seen", SEEN_EVERY_S, self._store_seen),
            Job("measure", MEASURE_EVERY_S, lambda: measure(self.pool, self.metrics)),
        ]
