"""What waits for a client: messages in order, counted in bytes, and how they are written."""

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

#: What a queue remembers of a message: the cursor that the client is at once it is sent, or a record's id.
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
    """The bytes that wait for all clients of this process together; a message that waits for several counts once."""

    def __init__(self) -> None:
        self.bytes = 0

    def hold(self, message: FramedMessage) -> None:
        """Count a message that waits for one client more."""
        if not message.clients:
            self.bytes += len(message)
        message.clients += 1

    def release(self, message: FramedMessage) -> None:
        """Count a message that waits for one client less."""
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
        """Remove the first messages, WRITE_BYTES or one of any size; return the last position, and them framed."""
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
    """What waits for one client; it is written at once while the client keeps up, and else as the client reads."""

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
        """Send what has changed of the states that the client wants, if it asked for states."""

    def flush(self) -> None:
        """Write what waits while the client keeps up; leave the rest to `flush_forever`."""
        while self and self._wire.is_writable:
            self._wire.write(self._take())
        if self:
            self._blocked.set()

    async def drain(self) -> None:
        """Write all that waits, as fast as the client reads."""
        while self:
            await self._wire.drained()
            self.flush()

    async def flush_forever(self) -> None:
        """Write what waits whenever the client can take it again, after `flush` could not write all."""
        while True:
            await self._blocked.wait()
            await self.drain()
            self._blocked.clear()

    def close(self, code: CloseCode, reason: str) -> None:
        """Close the connection; what waits is discarded."""
        self._end(ClosedError(code, reason))

    @abstractmethod
    def drop(self) -> None:
        """Close the connection of a client that fell too far behind."""

    @abstractmethod
    def _take(self) -> Sequence[bytes]:
        """Remove what is to be written next, at least one frame, and return it framed."""

    def _end(self, error: ClosedError) -> None:
        # Nothing more may be sent, because it would move the client's cursor past frames that the client did not get.
        self._ended = True
        self.discard()
        self._on_close(error)

    def discard(self) -> None:
        """Discard what waits."""
        self._waiting.clear()
