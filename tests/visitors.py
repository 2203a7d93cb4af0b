"""Those who must leave a server before it ends: a page that is still open complains about a server that is gone."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

_leaving: list[Callable[[], Awaitable[object]]] = []


@contextmanager
def visitor(leave: Callable[[], Awaitable[object]]) -> Iterator[None]:
    """Await `leave` before any server or proxy of the test ends, until the block ends."""
    _leaving.append(leave)
    try:
        yield
    finally:
        _leaving.remove(leave)


async def see_visitors_off() -> None:
    """Let all visitors leave."""
    for leave in _leaving:
        await leave()
