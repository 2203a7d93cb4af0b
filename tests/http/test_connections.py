"""Connections of clients without a key, against a real `tidegauge serve`: an honest client does not notice them."""

import resource
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import pytest
import structlog

from app.http.connections import OpenConnections
from tests.conftest import Database
from tests.processes import ServerProcess, running

#: The time that an upload may take while others flood the server; alone it takes some milliseconds.
QUICK_S = 6.0


class Transport:
    """A connection that only notes whether it was aborted."""

    def __init__(self) -> None:
        self.is_aborted = False

    def abort(self) -> None:
        """Close the connection."""
        self.is_aborted = True


@pytest.fixture
async def serve(tmp_path: Path, database: Database) -> AsyncIterator[ServerProcess]:
    """A running `tidegauge serve`."""
    async with running(tmp_path, "serve", DATABASE_URL=database.dsn, LOG_FORMAT="json") as server:
        yield server


@contextmanager
def connected(port: int, count: int, sends: bytes = b"") -> Iterator[list[socket.socket]]:
    """Open connections that each send some bytes and then nothing more."""
    opened: list[socket.socket] = []
    try:
        for _ in range(count):
            opened.append(socket.create_connection(("127.0.0.1", port)))
            opened[-1].sendall(sends)
        yield opened
    finally:
        for each in opened:
            each.close()


@pytest.mark.parametrize(
    "sends",
    [b"", b"POST /api/v1/readings HTTP/1.1\r\nHost: x\r\nX-Slow: ", b"POST /api/v1/readings HTTP/1.1\r\nContent-Le"],
    ids=["nothing", "half a header", "half a name"],
)
async def test_upload_is_quick_when_2000_connections_have_sent_no_request(serve: ServerProcess, sends: bytes) -> None:
    with connected(serve.port, 2_000, sends):
        for number in range(5):
            started = monotonic()
            assert await serve.post([{"sensor": "s", "values": {"m": number}}]) == 200
            assert monotonic() - started < QUICK_S


async def test_server_goes_on_when_it_could_not_open_more_files_for_a_while(serve: ServerProcess) -> None:
    before = resource.prlimit(serve.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(serve.process.pid, resource.RLIMIT_NOFILE, (10, before[1]))
    with connected(serve.port, 20, b"GET /health/live HTTP/1.1\r\n\r\n") as opened:
        resource.prlimit(serve.process.pid, resource.RLIMIT_NOFILE, before)
        assert len(opened) == 20
    assert await serve.post([{"sensor": "s", "values": {"m": 1}}]) == 200


async def test_file_limit_is_raised_when_the_server_starts(tmp_path: Path, database: Database) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1] - 1, before[1]))  # which the server inherits
    try:
        async with running(tmp_path, "serve", DATABASE_URL=database.dsn) as serve:
            assert resource.prlimit(serve.process.pid, resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_connections_are_closed_in_order_of_age_when_there_are_too_many() -> None:
    connections = OpenConnections(3)
    first, second, third, fourth, fifth = (Transport() for _ in range(5))
    for each in (first, second, third):
        connections.add(each)  # type: ignore[arg-type]
    connections.prove(first)  # type: ignore[arg-type]
    connections.add(fourth)  # type: ignore[arg-type]
    assert [each.is_aborted for each in (first, second, third, fourth)] == [False, True, False, False]
    for each in (third, fourth):
        connections.prove(each)  # type: ignore[arg-type]
    connections.rest(fourth)  # type: ignore[arg-type]
    connections.rest(first)  # type: ignore[arg-type]
    connections.add(fifth)  # type: ignore[arg-type]
    assert [each.is_aborted for each in (first, third, fourth, fifth)] == [False, False, True, False]
    assert len(connections) == 3


def test_closed_connections_are_logged_together_when_they_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    connections = OpenConnections(2)
    with structlog.testing.capture_logs() as logged:
        for _ in range(10):
            connections.add(Transport())  # type: ignore[arg-type]
        monkeypatch.setattr("app.http.connections.LOG_EVERY_S", 0)
        connections.add(Transport())  # type: ignore[arg-type]
    expected = {"event": "connections_full", "log_level": "warning", "most": 2, "no_request": 2}
    assert logged == [{**expected, "closed": 1}, {**expected, "closed": 8}]


def test_new_connection_is_closed_when_all_others_are_busy() -> None:
    connections = OpenConnections(1)
    busy, new = Transport(), Transport()
    connections.add(busy)  # type: ignore[arg-type]
    connections.prove(busy)  # type: ignore[arg-type]
    connections.add(new)  # type: ignore[arg-type]
    assert (busy.is_aborted, new.is_aborted) == (False, True)
    connections.remove(busy)  # type: ignore[arg-type]
    connections.remove(new)  # type: ignore[arg-type]
    assert len(connections) == 0
