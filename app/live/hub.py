"""The hub, which offers every frame to every subscriber."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.live.frames import Frame
from app.live.labels import Labels
from app.live.protocol import CloseCode, Cursor, SensorStatus
from app.live.queues.waiting import Backlog, Queue
from app.live.wire import frame_text
from app.metrics import Metrics
from app.model import SensorName

#: Limit of the bytes that wait for all clients of this process together; a message that waits for several clients
#: counts once. Beyond it, the connections with the most waiting bytes are closed, until the rest fits.
ALL_QUEUES_BYTES = 128 * 2**20


class Hub:
    """The head of the feed and all subscribers of this process.

    What the subscribers' queues hold together is bounded by ALL_QUEUES_BYTES.
    """

    def __init__(self, metrics: Metrics) -> None:
        self.epoch = ""
        self.head = 0
        self.labels = Labels()
        self.backlog = Backlog()
        self._subscribers: set[Queue[Any]] = set()
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

    def is_followed(self) -> bool:
        """Return whether any client follows the feed."""
        return bool(self._subscribers)

    @property
    def wants_states(self) -> bool:
        """Whether any client has asked for changed states."""
        return any(subscriber.wants_states for subscriber in self._subscribers)

    def add(self, subscriber: Queue[Any]) -> None:
        """Offer every frame published from now on to the subscriber."""
        self._subscribers.add(subscriber)

    def remove(self, subscriber: Queue[Any]) -> None:
        """Stop offering frames to the subscriber; do nothing when it was not added."""
        self._subscribers.discard(subscriber)

    def publish(self, frames: Sequence[Frame]) -> None:
        """Offer frames, in ascending order, to all subscribers; write them to those that keep up."""
        for subscriber in tuple(self._subscribers):
            for frame in frames:
                subscriber.offer(frame)
            subscriber.flush()
        if frames:
            self.skip_to(frames[-1].cursor.seq)
        self._drop_slowest()

    def skip_to(self, seq: int) -> None:
        """Set the head to a frame. Every subscriber was offered it, or there is no subscriber."""
        self.head = seq
        self._metrics.feed_seq.set(seq)

    def _drop_slowest(self) -> None:
        """While the queues hold more than ALL_QUEUES_BYTES, close the connection with the most waiting bytes."""
        while self.backlog.bytes > ALL_QUEUES_BYTES:
            slowest = max(self._subscribers, key=lambda subscriber: subscriber.waiting_bytes, default=None)
            if slowest is None or not slowest.waiting_bytes:
                return  # the remaining bytes wait for clients that catch up page by page, as fast as they read
            slowest.drop()

    def send_heartbeat(self, message: bytes) -> None:
        """Send a heartbeat to every client that keeps up, and queue it for the others."""
        framed = frame_text(message)
        for subscriber in tuple(self._subscribers):
            subscriber.send_heartbeat(framed)

    def update_states(self, states: Mapping[SensorName, SensorStatus]) -> None:
        """Offer the states of all sensors to the clients that asked for them."""
        for subscriber in tuple(self._subscribers):
            subscriber.update_states(states)

    def close_all(self, code: CloseCode, reason: str) -> None:
        """Close every subscriber's connection."""
        for subscriber in tuple(self._subscribers):
            subscriber.close(code, reason)
