"""Ports for the servers of the tests."""

import random
import socket
from contextlib import suppress


def free_port() -> int:
    """Return a port on which no process listens, and which the kernel gives to nobody who asks for any port."""
    while True:
        port = random.SystemRandom().randrange(15_000, 32_000)
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
