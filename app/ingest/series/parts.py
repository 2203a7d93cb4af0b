"""Long lists in parts, so that neither the event loop nor a statement takes too much at once."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TypeVar

#: Number of sensors or series in one turn of the event loop, and of rows in one statement.
ROWS_AT_ONCE = 1_000
T = TypeVar("T")


def parts(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield items in parts, because asyncpg encodes the arguments of a statement in one step."""
    for start in range(0, len(items), ROWS_AT_ONCE):
        yield items[start : start + ROWS_AT_ONCE]


async def in_turns(items: Sequence[T]) -> AsyncIterator[Sequence[T]]:
    """Yield items in parts, and let the event loop have its turn between two of them."""
    for number, part in enumerate(parts(items)):
        if number:
            await asyncio.sleep(0)
        yield part
