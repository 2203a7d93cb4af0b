"""The hub: every frame to every subscriber, each with a bounded queue of its own."""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Protocol

from app.live.frames import Frame
from app.live.protocol import CloseCode, Cursor, Filter, SensorStatus, Subscribe, readings_message, states_message
from app.metrics import Metrics
from app.model import FeedReading, MetricName, SensorName

#: What may wait for one client that takes everything; beyond, it is closed with its cursor.
QUEUE_BYTES = 8 * 2**20
#: Series and alerts that a slow screen may lag behind on; beyond, it is closed like any other.
CONFLATED_LIMIT = 200_000

SeriesName = tuple[SensorName, MetricName]
Send = Callable[[str], Awaitable[None]]


class ClosedError(Exception):
    """The connection must end, with this code and reason."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self._reason = reason

    @property
    def reason(self) -> str:
        """Say why, or, to a client that fell behind, from where to resume."""
        return self._reason


class TooSlowError(ClosedError):
    """The client fell too far behind; the reason is its cursor, which is known once nothing more is sent."""

    def __init__(self, queue: "_Queue") -> None:
        super().__init__(CloseCode.TOO_SLOW, "")
        self._queue = queue

    @property
    def reason(self) -> str:
        """Name the place up to which everything was sent."""
        return str(self._queue.sent)


OnClose = Callable[[ClosedError], None]


class Subscriber(Protocol):
    """Takes frames from the hub, never blocking, and gives them to one connection."""

    wants_states: bool

    def offer(self, frame: Frame) -> None:
        """Queue what this client wants of a frame."""

    def beat(self, message: str) -> None:
        """Send a sign of life, where this feed has one."""

    def change_states(self, changed: Mapping[SensorName, SensorStatus]) -> None:
        """Send the wanted ones of changed states, where this client has asked for them."""

    def close(self, code: CloseCode, reason: str) -> None:
        """End the connection."""


class Hub:
    """Knows the head of the feed and all subscribers of this process."""

    def __init__(self, metrics: Metrics) -> None:
        self.epoch = ""
        self.head = 0
        self._subscribers: set[Subscriber] = set()
        self._metrics = metrics

    @property
    def cursor(self) -> Cursor:
        """The newest place that every subscriber has been offered."""
        return Cursor(self.epoch, self.head)

    def begin(self, epoch: str, head: int, pruned_to: int) -> None:
        """Start at a head, or go on from ours; where rows past ours are gone, every client must start over."""
        if epoch == self.epoch and pruned_to <= self.head:
            return
        if self.epoch:
            self.close_all(CloseCode.SERVICE_RESTART, "the feed starts over")
        self.epoch, self.head = epoch, head

    @property
    def wants_states(self) -> bool:
        """Whether any client has asked for changes of states."""
        return any(subscriber.wants_states for subscriber in self._subscribers)

    def add(self, subscriber: Subscriber) -> None:
        """Offer every later frame to the subscriber."""
        self._subscribers.add(subscriber)

    def remove(self, subscriber: Subscriber) -> None:
        """Stop; harmless when it was not there."""
        self._subscribers.discard(subscriber)

    def publish(self, frames: Iterable[Frame]) -> None:
        """Offer frames, ascending, to all."""
        for frame in frames:
            for subscriber in tuple(self._subscribers):
                subscriber.offer(frame)
            self.head = frame.cursor.seq
            self._metrics.feed_seq.set(self.head)

    def beat(self, message: str) -> None:
        """Send a sign of life to all."""
        for subscriber in tuple(self._subscribers):
            subscriber.beat(message)

    def change_states(self, changed: Mapping[SensorName, SensorStatus]) -> None:
        """Send changed states to those who asked for them."""
        for subscriber in tuple(self._subscribers):
            subscriber.change_states(changed)

    def close_all(self, code: CloseCode, reason: str) -> None:
        """End every subscription."""
        for subscriber in tuple(self._subscribers):
            subscriber.close(code, reason)


class _Queue(ABC):
    """What the subscribers share: a place in the feed, and word that something waits."""

    def __init__(self, wanted: Filter, asked: Subscribe, position: Cursor, on_close: OnClose, metrics: Metrics) -> None:
        self._wanted = wanted
        self._alerts = asked.alerts
        self.wants_states = asked.states
        #: What stands outside the feed and moves no cursor: the newest sign of life, and changed states.
        self._beat: str | None = None
        self._states: dict[SensorName, SensorStatus] = {}
        #: Everything up to here was handed to the connection, or was not wanted.
        self.sent = position
        self._on_close = on_close
        self._metrics = metrics
        self._ready = asyncio.Event()
        self._ended = False

    def beat(self, message: str) -> None:
        """Send a sign of life, the newest only to a client that reads slowly."""
        self._beat = message
        self._ready.set()

    def change_states(self, changed: Mapping[SensorName, SensorStatus]) -> None:
        """Send the wanted ones of changed states, each sensor's newest."""
        if self.wants_states:
            self._states.update((name, state) for name, state in changed.items() if self._wanted.takes(name))
            self._ready.set()

    async def _send_outside(self, send: Send) -> bool:
        """Send what stands outside the feed; return whether there was anything."""
        if self._beat is not None:
            message, self._beat = self._beat, None
        elif self._states:
            message, self._states = states_message(self._states), {}
        else:
            return False
        await send(message)
        return True

    def close(self, code: CloseCode, reason: str) -> None:
        """End the connection, even while a message is being sent."""
        self._end(ClosedError(code, reason))

    def drop(self) -> None:
        """Close a client that fell too far behind, and tell it from where to resume."""
        self._metrics.clients_dropped.inc()
        self._end(TooSlowError(self))

    def _takes(self, frame: Frame) -> bool:
        """Tell whether a frame is new: a client that comes from another process may be ahead of this one."""
        return not self._ended and frame.cursor.seq > self.sent.seq

    def _end(self, error: ClosedError) -> None:
        # Nothing more may be sent: it would move the client's cursor past what it did not get.
        self._ended = True
        self._clear()
        self._on_close(error)

    @abstractmethod
    def _clear(self) -> None:
        """Drop what waits."""


class AllFrames(_Queue):
    """Mode `all`: every frame in order; a client that falls QUEUE_BYTES behind is closed and resumes."""

    def __init__(self, wanted: Filter, asked: Subscribe, position: Cursor, on_close: OnClose, metrics: Metrics) -> None:
        super().__init__(wanted, asked, position, on_close, metrics)
        self._waiting: deque[tuple[Cursor, str]] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def offer(self, frame: Frame) -> None:
        """Queue the wanted part of a frame, or close the client that is too slow for it."""
        text = frame.text_for(self._wanted, self._alerts) if self._takes(frame) else None
        if text is None:
            return
        if self._bytes and self._bytes + len(text) > QUEUE_BYTES:
            self.drop()
            return
        self._waiting.append((frame.cursor, text))
        self._bytes += len(text)
        self._ready.set()

    async def send_next(self, send: Send) -> None:
        """Wait for the next message and send it; only what was sent moves the cursor."""
        while not self._waiting:
            if not await self._send_outside(send):
                await self._ready.wait()
                self._ready.clear()
        cursor, text = self._waiting.popleft()
        await send(text)
        self._bytes -= len(text)
        self.sent = cursor

    def _clear(self) -> None:
        self._waiting.clear()


class LatestValues(_Queue):
    """Mode `latest`: per series the newest reading that the client has not seen; alerts are never conflated."""

    def __init__(self, wanted: Filter, asked: Subscribe, position: Cursor, on_close: OnClose, metrics: Metrics) -> None:
        super().__init__(wanted, asked, position, on_close, metrics)
        self._offered = position
        self._waiting: dict[SeriesName, FeedReading] = {}
        self._waiting_alerts: deque[tuple[Cursor, str]] = deque()
        self._newest: dict[SeriesName, str] = {}

    def __len__(self) -> int:
        return len(self._waiting) + len(self._waiting_alerts)

    def begin(self, latest: Iterable[tuple[SeriesName, str]]) -> None:
        """Take note of the latest times: nothing older will be sent."""
        self._newest.update((series, _sortable(time)) for series, time in latest)

    def offer(self, frame: Frame) -> None:
        """Take over newer values of wanted series; what arrives late is history, and not for this mode."""
        if not self._takes(frame):
            return
        self._offered = frame.cursor
        if frame.kind == "alert":
            self._take_alert(frame)
        else:
            for reading in frame.readings:
                for metric in self._wanted.select(reading.sensor, reading.values):
                    self._take((reading.sensor, metric), reading)
        if len(self) > CONFLATED_LIMIT:
            self.drop()

    async def send_next(self, send: Send) -> None:
        """Wait for the next message and send it: all values that wait, as one frame, or an alert.

        Values go first and claim no more than the place before the alert, so that no cursor passes what was not sent.
        """
        while not self:
            if not await self._send_outside(send):
                await self._ready.wait()
                self._ready.clear()
        if self._waiting:
            cursor = self._waiting_alerts[0][0].before() if self._waiting_alerts else self._offered
            waiting, self._waiting = self._waiting, {}
            await send(readings_message(cursor, _group(waiting)))
        else:
            cursor, text = self._waiting_alerts.popleft()
            await send(text)
        self.sent = cursor

    def _take_alert(self, frame: Frame) -> None:
        text = frame.text_for(self._wanted, self._alerts)
        if text is not None:
            self._waiting_alerts.append((frame.cursor, text))
            self._ready.set()

    def _take(self, series: SeriesName, reading: FeedReading) -> None:
        time = _sortable(reading.time)
        if time < self._newest.get(series, ""):
            return
        self._newest[series] = time
        if series in self._waiting:
            self._metrics.frames_conflated.inc()
        self._waiting[series] = reading
        self._ready.set()

    def _clear(self) -> None:
        self._waiting.clear()
        self._waiting_alerts.clear()


def _group(waiting: dict[SeriesName, FeedReading]) -> list[FeedReading]:
    """Put values of one sensor and time back together."""
    grouped: dict[tuple[SensorName, str], dict[MetricName, float]] = {}
    for (sensor, metric), reading in waiting.items():
        grouped.setdefault((sensor, reading.time), {})[metric] = reading.values[metric]
    return [FeedReading(sensor, time, values) for (sensor, time), values in grouped.items()]


def _sortable(time: str) -> str:
    """Make RFC 3339 times in UTC sort as text: without the Z, one with a fraction is longer and later."""
    return time.rstrip("Z")
