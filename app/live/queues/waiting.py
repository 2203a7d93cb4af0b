"""Queues of one client: its waiting messages, in order and counted in bytes, and the writing of them."""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

from app.live.frames import Frame, FramedMessage
from app.live.protocol import CloseCode, SensorStatus
from app.live.wire import ClientWire
from app.metrics import Metrics
from app.model import SensorName

#: Bytes that are written together for one client.
WRITE_BYTES = 64 * 2**10

#: Position of a message in the feed: the cursor of the client after it was sent, or the id of a record.
Position = TypeVar("Position")


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


OnClose = Callable[[ClosedError], None]


class Backlog:
    """The bytes that wait for all clients of this process; a message that waits for several clients counts once."""

    def __init__(self) -> None:
        self.bytes = 0

    def hold(self, message: FramedMessage) -> None:
        """Count a message for one more client."""
        if not message.clients:
            self.bytes += len(message)
        message.clients += 1

    def release(self, message: FramedMessage) -> None:
        """Count a message for one client fewer."""
        message.clients -= 1
        if not message.clients:
            self.bytes -= len(message)


class Waiting(Generic[Position]):
    """The messages that wait for one client."""

    def __init__(self, backlog: Backlog) -> None:
        self._backlog = backlog
        self._messages: deque[tuple[Position, FramedMessage]] = deque()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def first(self) -> Position:
        """Return the position of the first message."""
        return self._messages[0][0]

    def put(self, position: Position, message: FramedMessage) -> None:
        """Append a message."""
        self._messages.append((position, message))
        self.bytes += len(message)
        self._backlog.hold(message)

    def take(self) -> tuple[Position, list[bytes]]:
        """Remove the first messages, up to WRITE_BYTES but at least one; return the last position and the frames."""
        taken: list[bytes] = []
        size = 0
        while self._messages and (not taken or size + len(self._messages[0][1]) <= WRITE_BYTES):
            position, message = self._messages.popleft()
            self._backlog.release(message)
            size += len(message)
            taken.append(message.framed)
        self.bytes -= size
        return position, taken

    def remove(self, position: Position) -> None:
        """Remove the messages of a position."""
        for found in [each for each in self._messages if each[0] == position]:
            self._messages.remove(found)
            self.bytes -= len(found[1])
            self._backlog.release(found[1])

    def clear(self) -> None:
        """Remove all messages."""
        while self._messages:
            self.take()


class Queue(ABC, Generic[Position]):
    """The queue of one client. Messages are written at once while the client keeps up, else as fast as it reads."""

    wants_states = False

    def __init__(self, wire: ClientWire, backlog: Backlog, on_close: OnClose, metrics: Metrics) -> None:
        self._wire = wire
        self._backlog = backlog
        self._waiting: Waiting[Position] = Waiting(backlog)
        self._on_close = on_close
        self._metrics = metrics
        self._blocked = asyncio.Event()
        self._ended = False

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    def waiting_bytes(self) -> int:
        """Return the bytes that wait for this client."""
        return self._waiting.bytes

    @abstractmethod
    def offer(self, frame: Frame) -> None:
        """Queue the part of a frame that the client wants; `flush` writes it."""

    def send_heartbeat(self, framed: bytes) -> None:
        """Send a heartbeat, where this feed has heartbeats."""

    def update_states(self, states: Mapping[SensorName, SensorStatus]) -> None:
        """Send changed states that the client wants, if it asked for states."""

    def flush(self) -> None:
        """Write waiting messages while the client keeps up; leave the rest to `flush_forever`."""
        while self and self._wire.is_writable:
            self._wire.write(self._take())
        if self:
            self._blocked.set()

    async def drain(self) -> None:
        """Write all waiting messages, as fast as the client reads."""
        while self:
            await self._wire.drained()
            self.flush()

    async def flush_forever(self) -> None:
        """Write the messages that `flush` left, as fast as the client reads, until cancelled."""
        while True:
            await self._blocked.wait()
            await self.drain()
            self._blocked.clear()

    def close(self, code: CloseCode, reason: str) -> None:
        """Close the connection and discard waiting messages."""
        self._end(ClosedError(code, reason))

    @abstractmethod
    def drop(self) -> None:
        """Close the connection of a client that fell too far behind."""

    @abstractmethod
    def _take(self) -> Sequence[bytes]:
        """Remove and return the frames to write next, at least one."""

    def _end(self, error: ClosedError) -> None:
        # Nothing more may be sent: it would move the cursor of the client past frames that it did not get.
        self._ended = True
        self.discard()
        self._on_close(error)

    def discard(self) -> None:
        """Discard all waiting messages."""
        self._waiting.clear()
