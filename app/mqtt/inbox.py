"""Messages on their way from the thread that reads from the broker to the event loop that uploads them."""

import asyncio
from collections import deque
from threading import Condition

from app.mqtt.model import MqttMessage

#: While this many bytes or messages wait, nothing more is read from the broker. The broker then keeps its messages, and
#: may close the connection after its keepalive; unacknowledged messages are delivered again.
WAITING_LIMIT = 70_000
WAITING_BYTES = 2**26


class MessageQueue:
    """A bounded queue with a thread on one side and the event loop on the other."""

    def __init__(self) -> None:
        self._messages: deque[MqttMessage] = deque()
        self._bytes = 0
        self._is_closed = False
        self._changed = Condition()
        self._loop = asyncio.get_running_loop()
        self._has_some = asyncio.Event()

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, message: MqttMessage) -> None:
        """Add a message, after waiting while the queue is full. The thread calls this."""
        with self._changed:
            self._changed.wait_for(self._has_room)
            if self._is_closed:
                return
            self._messages.append(message)
            self._bytes += len(message.payload)
            self._loop.call_soon_threadsafe(self._has_some.set)

    async def take(self, most: int) -> list[MqttMessage]:
        """Wait for messages; return those that came first, at least one."""
        while True:
            await self._has_some.wait()
            with self._changed:
                taken = [self._messages.popleft() for _ in range(min(most, len(self._messages)))]
                self._bytes -= sum(len(message.payload) for message in taken)
                if not self._messages:
                    self._has_some.clear()
                self._changed.notify_all()
            if taken:
                return taken

    def close(self) -> None:
        """Release the thread if it waits."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _has_room(self) -> bool:
        return self._is_closed or (len(self._messages) < WAITING_LIMIT and self._bytes < WAITING_BYTES)
