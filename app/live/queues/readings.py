"""The two modes of /ws/live: every frame, or the latest value of each series."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence

from app.live.frames import Frame
from app.live.protocol import (
    RETIRED,
    CloseCode,
    Cursor,
    Filter,
    SensorStatus,
    Subscribe,
    readings_message,
    states_message,
)
from app.live.queues.waiting import Backlog, ClosedError, OnClose, Queue
from app.live.wire import ClientWire, frame_text
from app.metrics import Metrics
from app.model import FeedReading, MetricName, SensorName

#: Limit of the bytes that wait for one client in mode `all`; beyond it, the connection is closed with its cursor.
QUEUE_BYTES = 8 * 2**20
#: Limit of the series and alerts that wait for one client in mode `latest`; beyond it, the same happens.
CONFLATED_LIMIT = 200_000
#: Memory of one waiting value in mode `latest`, as measured: its place in the dict, its key and its reading.
VALUE_BYTES = 600

SeriesName = tuple[SensorName, MetricName]


class TooSlowError(ClosedError):
    """The client fell too far behind; the reason is its cursor, which is final once nothing more is sent."""

    def __init__(self, queue: "FeedQueue") -> None:
        super().__init__(CloseCode.TOO_SLOW, "")
        self._queue = queue

    @property
    def reason(self) -> str:
        """Return the cursor up to which everything was sent."""
        return str(self._queue.sent)


class FeedQueue(Queue[Cursor]):
    """The base of both modes of /ws/live: the client's position in the feed, and messages that move no cursor."""

    def __init__(
        self,
        wanted: Filter,
        asked: Subscribe,
        position: Cursor,
        wire: ClientWire,
        backlog: Backlog,
        on_close: OnClose,
        metrics: Metrics,
    ) -> None:
        super().__init__(wire, backlog, on_close, metrics)
        self._wanted = wanted
        self._alerts = asked.alerts
        self.wants_states = asked.states
        self._heartbeat: bytes | None = None
        self._states: dict[SensorName, SensorStatus] = {}
        #: The states that were queued for the client so far.
        self._known_states: dict[SensorName, SensorStatus] = {}
        #: Up to this cursor, everything that the client wants was sent.
        self.sent = position

    def __len__(self) -> int:
        return len(self._waiting) + (self._heartbeat is not None) + len(self._states)

    def send_heartbeat(self, framed: bytes) -> None:
        """Queue a heartbeat; a slow client gets only the newest one."""
        self._heartbeat = framed
        self.flush()

    def update_states(self, states: Mapping[SensorName, SensorStatus]) -> None:
        """Queue changed states that the client wants; a slow client gets only the newest state of each sensor.

        The first call queues all of them. A sensor that is no longer in `states` is retired.
        """
        if not self.wants_states or self._ended:
            return
        wanted = {name: state for name, state in states.items() if self._wanted.takes(name)}
        gone = dict.fromkeys(self._known_states.keys() - wanted.keys(), RETIRED)
        self._states |= {**gone, **dict(wanted.items() - self._known_states.items())}
        self._known_states = wanted
        self.flush()

    def drop(self) -> None:
        """Close the connection of a client that fell too far behind, with the cursor to resume from."""
        self._metrics.clients_dropped.inc()
        self._end(TooSlowError(self))

    def _take(self) -> Sequence[bytes]:
        # Notices come first: they are few, and a stream of readings must not hold them back.
        frames = self._take_notice() or self._take_frames()
        self._metrics.frames_sent.inc(len(frames))
        return frames

    def _take_notice(self) -> list[bytes]:
        if self._heartbeat is not None:
            framed, self._heartbeat = self._heartbeat, None
        elif self._states:
            framed, self._states = frame_text(states_message(self._states)), {}
        else:
            return []
        return [framed]

    @abstractmethod
    def _take_frames(self) -> Sequence[bytes]:
        """Remove frames of the feed, return them framed, and move the client's cursor past them."""

    def _is_new(self, frame: Frame) -> bool:
        """Return whether the client lacks a frame; a client from another process may be ahead of this one."""
        return not self._ended and frame.cursor.seq > self.sent.seq

    def discard(self) -> None:
        """Discard all waiting messages."""
        super().discard()
        self._heartbeat = None
        self._states.clear()


class AllFrames(FeedQueue):
    """Mode `all`: every frame in order; a client that falls QUEUE_BYTES behind is closed and may resume."""

    def offer(self, frame: Frame) -> None:
        """Queue the wanted part of a frame, or close the connection when the queue is full."""
        message = frame.message_for(self._wanted, self._alerts) if self._is_new(frame) else None
        if message is None:
            return
        if self._waiting and self._waiting.bytes + len(message) > QUEUE_BYTES:
            self.drop()
            return
        self._waiting.put(frame.cursor, message)

    def _take_frames(self) -> Sequence[bytes]:
        self.sent, frames = self._waiting.take()
        return frames


class LatestValues(FeedQueue):
    """Mode `latest`: for each series the newest reading not yet sent, and every alert."""

    def __init__(
        self,
        wanted: Filter,
        asked: Subscribe,
        position: Cursor,
        wire: ClientWire,
        backlog: Backlog,
        on_close: OnClose,
        metrics: Metrics,
    ) -> None:
        super().__init__(wanted, asked, position, wire, backlog, on_close, metrics)
        self._offered = position
        self._values: dict[SeriesName, FeedReading] = {}
        self._newest: dict[SeriesName, str] = {}

    def __len__(self) -> int:
        return super().__len__() + len(self._values)

    @property
    def waiting_bytes(self) -> int:
        """Return the bytes that wait for this client, by estimate."""
        return self._waiting.bytes + len(self._values) * VALUE_BYTES

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
            before = len(self._values)
            for reading in frame.readings:
                for metric in self._wanted.select(reading.sensor, reading.values):
                    self._queue_value((reading.sensor, metric), reading)
            self._backlog.bytes += (len(self._values) - before) * VALUE_BYTES
        if len(self) > CONFLATED_LIMIT:
            self.drop()

    def _take_frames(self) -> Sequence[bytes]:
        """Remove all values that wait, as one frame, or alerts.

        Values go first. While an alert waits, their cursor is the one before the alert, so that a client that resumes
        does not miss the alert.
        """
        if not self._values:
            self.sent, frames = self._waiting.take()
            return frames
        self.sent = self._waiting.first.before() if self._waiting else self._offered
        message = readings_message(self.sent, _group(self._values))
        self._clear_values()
        return [frame_text(message)]

    def _queue_alert(self, frame: Frame) -> None:
        message = frame.message_for(self._wanted, self._alerts)
        if message is not None:
            self._waiting.put(frame.cursor, message)

    def _queue_value(self, series: SeriesName, reading: FeedReading) -> None:
        time = _sortable(reading.time)
        if time < self._newest.get(series, ""):
            return
        self._newest[series] = time
        if series in self._values:
            self._metrics.frames_conflated.inc()
        self._values[series] = reading

    def _clear_values(self) -> None:
        self._backlog.bytes -= len(self._values) * VALUE_BYTES
        self._values.clear()

    def discard(self) -> None:
        """Discard all waiting messages."""
        super().discard()
        self._clear_values()


def _group(waiting: dict[SeriesName, FeedReading]) -> list[FeedReading]:
    """Join the values of one sensor and time into one reading."""
    grouped: dict[tuple[SensorName, str], dict[MetricName, float]] = {}
    for (sensor, metric), reading in waiting.items():
        grouped.setdefault((sensor, reading.time), {})[metric] = reading.values[metric]
    return [FeedReading(sensor, time, values) for (sensor, time), values in grouped.items()]


def _sortable(time: str) -> str:
    """Return an RFC 3339 time in UTC without its Z. Such texts sort by time, even if some lack a fraction."""
    return time.rstrip("Z")
