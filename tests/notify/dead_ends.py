"""Addresses at which no connection comes about."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def deaf_server() -> Iterator[str]:
    """A server whose queue of connections is full: the next one is never made."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def closed_server() -> str:
    """A port at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"
