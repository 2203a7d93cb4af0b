"""The bridge: takes messages, uploads their readings, and acknowledges them when all of them are stored or refused."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import structlog

from app.clock import rfc3339
from app.mqtt.broker import BrokerConnection, BrokerLogin
from app.mqtt.counts import Counts
from app.mqtt.inbox import MessageQueue
from app.mqtt.messages.readings import read_message
from app.mqtt.model import BridgePlan, Draft, MqttMessage
from app.mqtt.stamps import Stamps
from app.mqtt.uploads import Stored, Uploader
from app.tasks import supervised
from app.uplink import Uplink

#: Largest number of messages in one upload.
BATCH_MESSAGES = 1_000
REPORT_EVERY_S = 10.0
#: Largest number of refusals of one upload, and of topics without a route, that get a line of their own in the log.
_REFUSALS_LOGGED = 10
_TOPICS_LOGGED = 100
log = structlog.get_logger()


class Bridge:
    """Runs against one broker and one server, and continues while either of them is away."""

    def __init__(self, plan: BridgePlan, credentials: BrokerLogin, url: str, key: str, data_dir: Path) -> None:
        self._plan = plan
        self._credentials = credentials
        self._url = url
        self._key = key
        self._file = data_dir / f"mqtt-{_as_file_name(plan.broker.client_id)}.sqlite"
        self.counts = Counts()
        self._reported = Counter[str]()
        self._unmatched: set[str] = set()
        self._inbox: MessageQueue
        self._stamps: Stamps
        self._connection: BrokerConnection
        self._uploads: Uploader

    def problems(self) -> list[str]:
        """Return the reasons for which messages do not reach the server now, if there are any."""
        return [problem for problem in (self._connection.problem, self._uploads.problem) if problem]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run until the block ends; the broker delivers unfinished messages again later. Raise SettingsError."""
        self._stamps = Stamps(self._file)
        try:
            self._inbox = MessageQueue()
            filters = self._plan.filters
            gone = self._stamps.add_filters(filters)
            self._connection = BrokerConnection(self._plan.broker, filters, gone, self._credentials, self._inbox)
            async with aiohttp.ClientSession() as http:
                self._uploads = Uploader(Uplink(http, self._url, self._key, "identity"), self._plan.gateway)
                async with self._connected(), supervised({"mqtt_bridge": self._run, "mqtt_report": self._report}):
                    yield
        finally:
            self._stamps.close()

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[None]:
        self._connection.start()
        try:
            yield
        finally:
            await asyncio.to_thread(self._connection.stop)

    async def _run(self) -> None:
        while True:
            messages = await self._inbox.take(BATCH_MESSAGES)
            try:
                await self._take(messages)
            except Exception:
                # The broker delivers unacknowledged messages again, but only on another connection.
                await asyncio.to_thread(self._connection.restart)
                raise

    async def _take(self, messages: Sequence[MqttMessage]) -> None:
        """Store the readings of some messages, then acknowledge all of them."""
        self._stamps.forget(self._connection.take_confirmed())
        drafts: list[Draft] = []
        topics: list[str] = []
        for message in messages:
            found = read_message(message, self._plan.routes)
            if isinstance(found, Draft):
                if found.time is None:
                    found.time = rfc3339(self._stamps.stamp(message))
                drafts.append(found)
                topics.append(message.topic)
            else:
                self._count_unread(found, message)
        await asyncio.to_thread(self._stamps.save)
        stored = await self._uploads.store(drafts)
        self._connection.acknowledge(messages)
        self._count(stored, topics, len(messages))

    def _count_unread(self, why: str, message: MqttMessage) -> None:
        self.counts.messages.labels(why).inc()
        if why == "unmatched" and message.topic not in self._unmatched and len(self._unmatched) < _TOPICS_LOGGED:
            self._unmatched.add(message.topic)
            log.warning("mqtt_topic_unmatched", topic=message.topic)

    def _count(self, stored: Stored, topics: Sequence[str], messages: int) -> None:
        refused = {refusal.index for refusal in stored.refusals}
        self.counts.messages.labels("refused").inc(len(refused))
        self.counts.messages.labels("stored").inc(len(topics) - len(refused))
        self._reported.update(
            messages=messages, accepted=stored.accepted, duplicates=stored.duplicates, rejected=stored.rejected
        )
        for refusal in stored.refusals[:_REFUSALS_LOGGED]:
            log.warning("mqtt_value_refused", topic=topics[refusal.index], code=refusal.code, message=refusal.message)

    async def _report(self) -> None:
        """Log the counts from time to time, unless nothing has happened."""
        while True:
            await asyncio.sleep(REPORT_EVERY_S)
            if self._reported:
                log.info("mqtt_messages_taken", **self._reported, waiting=len(self._inbox))
                self._reported.clear()

    def measure(self) -> None:
        """Set the gauges."""
        self.counts.connected.set(self._connection.is_connected)
        self.counts.waiting.set(len(self._inbox))


def _as_file_name(client_id: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else f"%{ord(letter):x}" for letter in client_id)
