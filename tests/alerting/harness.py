"""Alerting as a process runs it, on a real database, with a local receiver for two webhook channels."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from app.alerting.actions.sql import SQL
from app.alerting.service import Alerting
from app.auth.keys import ApiKey
from app.clock import MINUTE_US, now_us
from app.db.pool import Connection, connect
from app.ingest.flush.batch import Batch
from app.ingest.flush.transaction import write_flush
from app.ingest.series.registry import SeriesRegistry
from app.ingest.uploads.readings import Readings
from app.ingest.uploads.receipt import Rejected
from app.ingest.uploads.upload import Upload
from app.metrics import Metrics
from app.model import Reading, Tags
from app.notify.dispatch.dispatcher import Dispatcher
from app.settings import Settings
from tests.conftest import Database
from tests.notify.dispatchers import quick_pacer, until
from tests.receivers import Accepted, WebhookReceiver

#: A warning above 8, critical above 12; the episode ends at 8 or less.
WARM = """
  - name: warm
    sensors: {metric: temperature}
    levels: {warning: {above: 8}, critical: {above: 12}}
    group_by: [site]
    notify: [ops]
"""
_KEY = ApiKey("test", frozenset({"ingest"}))
#: The columns of each table that hold wall-clock times.
_WALL_CLOCK_COLUMNS = {
    "alert_episode": ("first_known_at",),
    "alert_told": ("told_at",),
    "notification": ("due_at", "claimed_at", "finished_at", "next_attempt_at", "attempt_started_at"),
    "ingest_state": ("since",),
    "series_state": ("received_at",),
    "silence": ("starts_at", "ends_at"),
}
#: Alerts of missing data have wall-clock times only.
_AGE_NO_DATA_ALERTS = """
UPDATE alert_episode
   SET started_at = started_at - $1 * INTERVAL '1 minute', fired_at = fired_at - $1 * INTERVAL '1 minute',
       resolved_at = resolved_at - $1 * INTERVAL '1 minute'
 WHERE kind = 'no_data'
"""
_NOTHING_DUE = (
    "SELECT NOT EXISTS (SELECT FROM notification WHERE state = 'sending' OR state = 'waiting' AND due_at <= now())"
)


class AlertingHarness:
    """Rules, readings and deliveries of one database. Only deliveries happen without a call."""

    def __init__(self, database: Database, connection: Connection, receiver: WebhookReceiver, folder: Path) -> None:
        self.pool = database.pool
        self.receiver = receiver
        self.folder = folder
        self.alerting = Alerting(Settings(rules_dir=folder), Metrics())
        self.dispatcher = Dispatcher(
            metrics=Metrics(),
            endpoints=self.alerting.endpoints,
            compose=self.alerting.compose,
            channels=self.alerting.channels,
            fallbacks=self.alerting.fallbacks,
            pacer=quick_pacer(),
        )
        self.alerting.on_due = self.dispatcher.wake
        self._connection = connection
        self._registry = SeriesRegistry()

    async def use_rules(self, rules: str) -> None:
        """Put these rules in force, with the channels `ops` and `duty`."""
        channels = "".join(
            f'  {name}: {{type: webhook, url: "{self.receiver.url}/{name}"}}\n' for name in ("ops", "duty")
        )
        (self.folder / "rules.yml").write_text(f"version: 1\nchannels:\n{channels}rules:{rules or ' []'}\n")
        assert await self.alerting.keeper.reload(self.pool), self.alerting.keeper.problems

    async def upload(
        self, sensor: str, *readings: tuple[float, float], tags: Tags | None = None, gateway: str | None = None
    ) -> None:
        """Store temperature readings of a sensor as one flush; each reading is (minutes ago, value)."""
        at_us = now_us()
        tags = {"site": "quay"} if tags is None else tags
        taken = [
            Reading(sensor, at_us - round(minutes_ago * MINUTE_US), {"temperature": value}, tags)
            for minutes_ago, value in readings
        ]
        upload = Upload(Readings.of(taken), Rejected(), at_us, _KEY, gateway)
        await self._registry.register(self._connection, [upload])
        await self._registry.describe(self._connection, [upload])
        batch = Batch([upload], self._registry.series_of)
        await write_flush(self._connection, batch, self._registry, by_copy=False)

    async def notify_firing(self, sensor: str = "freezer-1", value: float = 9) -> None:
        """Let a sensor's alert fire and wait until its message has been sent."""
        await self.upload(sensor, (3, value))
        await self.tick()
        await self.advance(1)

    async def silence(self, minutes: float, **matchers: Any) -> int:
        """Silence matching alerts from now on; return the id of the silence."""
        silence_id: int = await self.pool.fetchval(
            "INSERT INTO silence (matchers, starts_at, ends_at, author) "
            "VALUES ($1, now(), now() + $2 * INTERVAL '1 minute', 'anna') RETURNING id",
            matchers,
            minutes,
        )
        return silence_id

    async def ack(self, sensor: str) -> None:
        """Acknowledge the alert of a sensor as `anna`."""
        episode_id = await self.pool.fetchval(
            """SELECT episode.id
                 FROM alert_episode AS episode
                 JOIN series ON series.id = episode.series_id
                 JOIN sensor ON sensor.id = series.sensor_id
                WHERE sensor.name = $1""",
            sensor,
        )
        assert await self.pool.fetchval(SQL["ack_episode"], episode_id, "anna") == episode_id

    async def tick(self) -> None:
        """Evaluate and plan, then deliver all that is due."""
        await self.alerting.tick(self.pool, 1)
        await self.deliver()

    async def check_no_data(self) -> None:
        """Look for missing data, then deliver all that is due."""
        await self.alerting.watch_silence(self.pool, 1)
        await self.deliver()

    async def deliver(self) -> None:
        """Wait until no message is due or being sent."""
        self.dispatcher.wake()
        await until(self.pool, _NOTHING_DUE)

    async def advance(self, minutes: float) -> None:
        """Move all wall-clock times into the past, then plan and deliver. Readings keep their times."""
        async with self._deliveries_paused():
            for table, columns in _WALL_CLOCK_COLUMNS.items():
                shifts = ", ".join(f"{column} = {column} - $1 * INTERVAL '1 minute'" for column in columns)
                await self.pool.execute(f"UPDATE {table} SET {shifts}", float(minutes))
            await self.pool.execute(_AGE_NO_DATA_ALERTS, float(minutes))
        await self.tick()

    @asynccontextmanager
    async def delivering(self) -> AsyncIterator[None]:
        """Deliver what is due until the block ends."""
        self._start()
        try:
            yield
        finally:
            await self._stop()

    @asynccontextmanager
    async def _deliveries_paused(self) -> AsyncIterator[None]:
        await self._stop()
        yield
        self._start()

    def _start(self) -> None:
        self._delivering = asyncio.create_task(self.dispatcher.run(self.pool))

    async def _stop(self) -> None:
        self._delivering.cancel()
        with suppress(asyncio.CancelledError):
            await self._delivering

    def messages(self, channel: str = "ops") -> list[str]:
        """Return each message to a channel in order, as its title and the sensors of its entries."""
        return [_summary(message) for message in self._accepted(channel)]

    def entries(self, channel: str = "ops") -> list[dict[str, Any]]:
        """Return all entries of the last message to a channel."""
        return list(self._accepted(channel)[-1].body["entries"])

    def notes(self, channel: str = "ops") -> list[str]:
        """Return the notes of all entries of the last message to a channel."""
        return [entry["note"] for entry in self.entries(channel)]

    def _accepted(self, channel: str) -> list[Accepted]:
        return [message for message in self.receiver.accepted if message.path == f"/{channel}"]

    async def told(self) -> list[tuple[Any, ...]]:
        """Return (channel, sensor or gateway, told, level) of every row of alert_told, by episode and channel."""
        rows = await self.pool.fetch(
            """SELECT told.channel, coalesce(sensor.name, episode.gateway), told.told, told.told_level
                 FROM alert_told AS told
                 JOIN alert_episode AS episode ON episode.id = told.episode_id
                 LEFT JOIN series ON series.id = episode.series_id
                 LEFT JOIN sensor ON sensor.id = series.sensor_id
                ORDER BY episode.id, told.channel"""
        )
        return [tuple(row) for row in rows]

    async def open_alerts(self) -> list[tuple[Any, ...]]:
        """Return (rule, sensor or gateway, kind) of all open alerts."""
        rows = await self.pool.fetch(
            """SELECT episode.rule, coalesce(sensor.name, episode.gateway), episode.kind
                 FROM alert_episode AS episode
                 LEFT JOIN series ON series.id = episode.series_id
                 LEFT JOIN sensor ON sensor.id = series.sensor_id
                WHERE episode.resolved_at IS NULL AND episode.reason IS DISTINCT FROM 'retracted'
                  AND episode.reason IS DISTINCT FROM 'no_data_clear'
                ORDER BY episode.id"""
        )
        return [tuple(row) for row in rows]


@asynccontextmanager
async def running_harness(database: Database, folder: Path) -> AsyncIterator[AlertingHarness]:
    """Open a harness whose deliveries run until the block ends."""
    connection = await connect(database.dsn)
    try:
        async with WebhookReceiver() as receiver:
            harness = AlertingHarness(database, connection, receiver, folder)
            await harness.pool.execute("UPDATE ingest_state SET beat_at = 'infinity'")
            async with harness.delivering():
                yield harness
    finally:
        await connection.close()


def _summary(message: Accepted) -> str:
    entries: Sequence[dict[str, Any]] = message.body["entries"]
    silent = " (silent)" if message.body["silent"] else ""
    return f"{message.body['title']} [{' '.join(entry['sensor'] for entry in entries)}]{silent}"
