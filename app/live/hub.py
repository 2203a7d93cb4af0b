"""The hub, which offers every frame to every subscriber, and the bounded queues of the subscribers."""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Protocol

from app.live.frames import Frame
from app.live.protocol import CloseCode, Cursor, Filter, SensorStatus, Subscribe, readings_message, states_message
from app.metrics import Metrics
from app.model import FeedReading, MetricName, SensorName

#: Most text that may wait for one client in mode `all`; beyond it, the connection is closed with the client's cursor.
QUEUE_BYTES = 8 * 2**20
#: Most series and alerts that may wait for one client in mode `latest`; beyond it, the connection is closed likewise.
CONFLATED_LIMIT = 200_000

SeriesName = tuple[SensorName, MetricName]
Send = Callable[[str], Awaitable[None]]


class ClosedError(Exception):
    """The connection must be closed, with this code and reason."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self._reason = reason

    @property
    def reason(self) -> str:
        """Return why the connection is closed; for a client that fell behind, return the cursor to resume from."""
        return self._reason


class TooSlowError(ClosedError):
    """The client fell too far behind; the reason is its cursor, which is final once nothing more is sent."""

    def __init__(self, queue: "_Queue") -> None:
        super().__init__(CloseCode.TOO_SLOW, "")
        self._queue = queue

    @property
    def reason(self) -> str:
        """Return the cursor up to which everything was sent."""
        return str(self._queue.sent)


OnClose = Callable[[ClosedError], None]


class Subscriber(Protocol):
    """Takes frames from the hub without blocking, for one connection."""

    wants_states: bool

    def offer(self, frame: Frame) -> None:
        """Queue the part of a frame that the client wants."""

    def send_heartbeat(self, message: str) -> None:
        """Queue a heartbeat, where this feed has heartbeats."""

    def change_states(self, changed: Mapping[SensorName, SensorStatus]) -> None:
        """Queue the changed states that the client wants, if it asked for states."""

    def close(self, code: CloseCode, reason: str) -> None:
        """Close the connection."""


class Hub:
    """The head of the feed and all subscribers of this process."""

    def __init__(self, metrics: Metrics) -> None:
        self.epoch = ""
        self.head = 0
        self._subscribers: set[Subscriber] = set()
        self._metrics = metrics

    @property
    def cursor(self) -> Cursor:
        """Return the cursor of the newest frame that was offered to every subscriber."""
        return Cursor(self.epoch, self.head)

    def begin(self, epoch: str, head: int, pruned_to: int) -> None:
        """Start at `head`, or continue from the present head if no row after it was pruned.

        When the epoch is another or rows were pruned, every connection is closed and its client must start over.
        """
        if epoch == self.epoch and pruned_to <= self.head:
            return
        if self.epoch:
            self.close_all(CloseCode.SERVICE_RESTART, "the feed starts over")
        self.epoch, self.head = epoch, head

    @property
    def wants_states(self) -> bool:
        """Whether any client has asked for changed states."""
        return any(subscriber.wants_states for subscriber in self._subscribers)

    def add(self, subscriber: Subscriber) -> None:
        """Offer every frame published from now on to the subscriber."""
        self._subscribers.add(subscriber)

    def remove(self, subscriber: Subscriber) -> None:
        """Stop offering frames to the subscriber; do nothing when it was not added."""
        self._subscribers.discard(subscriber)

    def publish(self, frames: Iterable[Frame]) -> None:
        """Offer frames, in ascending order, to all subscribers."""
        for frame in frames:
            for subscriber in tuple(self._subscribers):
                subscriber.offer(frame)
            self.head = frame.cursor.seq
            self._metrics.feed_seq.set(self.head)

    def send_heartbeat(self, message: str) -> None:
        """Queue a heartbeat for every client."""
        for subscriber in tuple(self._subscribers):
            subscriber.send_heartbeat(message)

    def change_states(self, changed: Mapping[SensorName, SensorStatus]) -> None:
        """Queue changed states for the clients that asked for them."""
        for subscriber in tuple(self._subscribers):
            subscriber.change_states(changed)

    def close_all(self, code: CloseCode, reason: str) -> None:
        """Close every subscriber's connection."""
        for subscriber in tuple(self._subscribers):
            subscriber.close(code, reason)


class _Queue(ABC):
    """The base of both modes: the client's position in the feed, and an event that is set when a message waits."""

    def __init__(self, wanted: Filter, asked: Subscribe, position: Cursor, on_close: OnClose, metrics: Metrics) -> None:
        self._wanted = wanted
        self._alerts = asked.alerts
        self.wants_states = asked.states
        #: Messages that are not part of the feed and move no cursor: the newest heartbeat, and changed states.
        self._heartbeat: str | None = None
        self._states: dict[SensorName, SensorStatus] = {}
        #: Everything up to this cursor was sent to the client or is not wanted.
        self.sent = position
        self._on_close = on_close
        self._metrics = metrics
        self._ready = asyncio.Event()
        self._ended = False

    def send_heartbeat(self, message: str) -> None:
        """Queue a heartbeat; a slow client gets the newest only."""
        self._heartbeat = message
        self._ready.set()

    def change_states(self, changed: Mapping[SensorName, SensorStatus]) -> None:
        """Queue the changed states that the client wants; a slow client gets each sensor's newest."""
        if self.wants_states:
            self._states.update((name, state) for name, state in changed.items() if self._wanted.takes(name))
            self._ready.set()

    async def _send_notice(self, send: Send) -> bool:
        """Send a heartbeat or changed states that wait; return whether anything waited."""
        if self._heartbeat is not None:
            message, self._heartbeat = self._heartbeat, None
        elif self._states:
            message, self._states = states_message(self._states), {}
        else:
            return False
        await send(message)
        return True

    def close(self, code: CloseCode, reason: str) -> None:
        """Close the connection, even while a message is being sent."""
        self._end(ClosedError(code, reason))

    def drop(self) -> None:
        """Close the connection of a client that fell too far behind, with the cursor to resume from."""
        self._metrics.clients_dropped.inc()
        self._end(TooSlowError(self))

    def _is_new(self, frame: Frame) -> bool:
        """Return whether the client lacks a frame; a client from another process may be ahead of this one."""
        return not self._ended and frame.cursor.seq > self.sent.seq

    def _end(self, error: ClosedError) -> None:
        # Nothing more may be sent, because it would move the client's cursor past frames that the client did not get.
        self._ended = True
        self._clear()
        self._on_close(error)

    @abstractmethod
    def _clear(self) -> None:
        """Discard all waiting messages."""


class AllFrames(_Queue):
    """Mode `all`: every frame in order; a client that falls QUEUE_BYTES behind is closed and may resume."""

    def __init__(self, wanted: Filter, asked: Subscribe, position: Cursor, on_close: OnClose, metrics: Metrics) -> None:
        super().__init__(wanted, asked, position, on_close, metrics)
        self._waiting: deque[tuple[Cursor, str]] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def offer(self, frame: Frame) -> None:
        """Queue the wanted part of a frame, or close the connection when the queue is full."""
        text = frame.text_for(self._wanted, self._alerts) if self._is_new(frame) else None
        if text is None:
            return
        if self._bytes and self._bytes + len(text) > QUEUE_BYTES:
            self.drop()
            return
        self._waiting.append((frame.cursor, text))
        self._bytes += len(text)
        self._ready.set()

    async def send_next(self, send: Send) -> None:
        """Wait for the next message and send it; move the cursor after sending."""
        while not self._waiting:
            if not await self._send_notice(send):
                await self._ready.wait()
                self._ready.clear()
        cursor, text = self._waiting.popleft()
        await send(text)
        self._bytes -= len(text)
        self.sent = cursor

    def _clear(self) -> None:
        self._waiting.clear()


class LatestValues(_Queue):
    """Mode `latest`: for each series the newest reading not yet sent, and every alert."""

    def __init__(self, wanted: Filter, asked: Subscribe, position: Cursor, on_close: OnClose, metrics: Metrics) -> None:
        super().__init__(wanted, asked, position, on_close, metrics)
        self._offered = position
        self._waiting: dict[SeriesName, FeedReading] = {}
        self._waiting_alerts: deque[tuple[Cursor, str]] = deque()
        self._newest: dict[SeriesName, str] = {}

    def __len__(self) -> int:
        return len(self._waiting) + len(self._waiting_alerts)

    def begin(self, latest: Iterable[tuple[SeriesName, str]]) -> None:
        """Store the latest time of each series; older readings will not be sent."""
        self._newest.update((series, _sortable(time)) for series, time in latest)

    def offer(self, frame: Frame) -> None:
        """Queue newer values of the wanted series, and alerts; late readings are not sent in this mode."""
        if not self._is_new(frame):
            return
        self._offered = frame.cursor
        if frame.kind == "alert":
            self._queue_alert(frame)
        else:
            for reading in frame.readings:
                for metric in self._wanted.select(reading.sensor, reading.values):
                    self._queue_value((reading.sensor, metric), reading)
        if len(self) > CONFLATED_LIMIT:
            self.drop()

    async def send_next(self, send: Send) -> None:
        """Wait for the next message and send it: all values that wait, as one frame, or an alert.

        Values go first. While an alert waits, their cursor is the one before the alert, so that a client that resumes
        does not miss the alert.
        """
        while not self:
            if not await self._send_notice(send):
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

    def _queue_alert(self, frame: Frame) -> None:
        text = frame.text_for(self._wanted, self._alerts)
        if text is not None:
            self._waiting_alerts.append((frame.cursor, text))
            self._ready.set()

    def _queue_value(self, series: SeriesName, reading: FeedReading) -> None:
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
    """Join the values of one sensor and time into one reading."""
    grouped: dict[tuple[SensorName, str], dict[MetricName, float]] = {}
    for (sensor, metric), reading in waiting.items():
        grouped.setdefault((sensor, reading.time), {})[metric] = reading.values[metric]
    return [FeedReading(sensor, time, values) for (sensor, time), values in grouped.items()]


def _sortable(time: str) -> str:
    """Return an RFC 3339 time in UTC in a form that sorts as text: without its Z, because fractions may be missing."""
    return time.rstrip("Z")
