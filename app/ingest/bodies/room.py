"""A limit for all bodies together that are being received or decoded, so that they do not fill the memory."""

from types import TracebackType
from typing import Self

from app.errors import OverloadedError

#: Limit in bytes of all bodies, as sent, that this process is receiving or decoding.
BODIES_LIMIT = 128 * 2**20


class BodyRoom:
    """Room for bodies. When it is full, uploads are refused with 503 and Retry-After."""

    def __init__(self) -> None:
        self._taken = 0

    def take(self, byte_count: int) -> None:
        """Take room for a piece of a body; raise OverloadedError, without taking it, when there is too little."""
        if self._taken + byte_count > BODIES_LIMIT:
            taken = f"{self._taken / 2**20:.0f} MiB"
            raise OverloadedError(f"Bodies of {taken} are being received already. Keep the data and send them again.")
        self._taken += byte_count

    def give_back(self, byte_count: int) -> None:
        """Release room that was taken."""
        self._taken -= byte_count


class HeldRoom:
    """The room that one request holds; it is given back when the block ends."""

    def __init__(self, room: BodyRoom) -> None:
        self._room = room
        self._held = 0

    def take(self, byte_count: int) -> None:
        """Take more; raise OverloadedError when there is too little."""
        self._room.take(byte_count)
        self._held += byte_count

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._room.give_back(self._held)
