"""Addresses on this machine to which no connection can be made."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from tests.ports import free_port


@contextmanager
def server_with_full_backlog() -> Iterator[str]:
    """Yield the URL of a server whose connection queue is full, so that new connections are never made."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def closed_port_url() -> str:
    """Return the URL of a port on which no server listens."""
    return f"http://127.0.0.1:{free_port()}"
