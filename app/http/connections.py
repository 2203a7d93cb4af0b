"""The limit of the connections of a process, and the choice of a connection to close when there are too many."""

import asyncio
import resource
from time import monotonic

import structlog

#: Number of open files that the process needs beside its clients: listening sockets, the database, the log, modules.
OTHER_FILES = 200
#: More connections than this would take gigabytes of memory, even if the limit of open files allows them.
_MOST_FILES = 100_000
#: Between two lines of the log about connections that were closed for newer ones.
LOG_EVERY_S = 60.0
log = structlog.get_logger()


class OpenConnections:
    """The open connections of a process: those that have sent no complete request, idle ones, and the rest.

    There is no limit for each address, because all clients behind a proxy share one. When there are more than `most`,
    the connection is closed that has been open longest without a complete request or a sign-in to the live feed. If
    there is none, it is the one that has been idle longest between two requests; otherwise it is the new one.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        # A dict keeps the order of insertion, and removes a key as fast as a set.
        self._unproven: dict[asyncio.Transport, None] = {}
        self._idle: dict[asyncio.Transport, None] = {}
        self._busy: set[asyncio.Transport] = set()
        self._closed = 0
        self._logged_at = float("-inf")

    def __len__(self) -> int:
        return len(self._unproven) + len(self._idle) + len(self._busy)

    def add(self, connection: asyncio.Transport) -> None:
        """Count a new connection; close one when there are too many."""
        self._unproven[connection] = None
        if len(self) > self._most:
            self._close_one(connection)

    def prove(self, connection: asyncio.Transport) -> None:
        """Note that a connection has sent a complete request or has signed in, and that it is busy."""
        if connection in self._unproven or connection in self._idle:
            self.remove(connection)
            self._busy.add(connection)

    def rest(self, connection: asyncio.Transport) -> None:
        """Note that a connection is idle until its next request."""
        if connection in self._busy:
            self._busy.remove(connection)
            self._idle[connection] = None

    def remove(self, connection: asyncio.Transport) -> None:
        """Forget a connection that has ended; do nothing for one that is forgotten already."""
        self._unproven.pop(connection, None)
        self._idle.pop(connection, None)
        self._busy.discard(connection)

    def _close_one(self, new: asyncio.Transport) -> None:
        oldest = next(iter(self._unproven))
        if oldest is new and self._idle:
            oldest = next(iter(self._idle))
        self.remove(oldest)
        oldest.abort()
        self._closed += 1
        if monotonic() - self._logged_at >= LOG_EVERY_S:
            self._logged_at = monotonic()
            log.warning("connections_full", most=self._most, closed=self._closed, no_request=len(self._unproven))
            self._closed = 0


def raise_file_limit() -> None:
    """Let the process open as many files as it may; each connection is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:  # macOS refuses more than a limit of its kernel
        log.warning("file_limit_not_raised", wanted=hard, error=str(error))


def find_most_connections() -> int:
    """Return how many connections the process may have, by the limit of its files."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most_files = _MOST_FILES if files == resource.RLIM_INFINITY else min(files, _MOST_FILES)
    return max(most_files - OTHER_FILES, most_files // 2)
