"""Loads of uploads, and the speed at which they are stored."""

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Literal, NamedTuple

from app.clock import now_us
from app.db.pool import Connection, connect
from tests.bench.connections import connected, p99, repeat, request
from tests.bench.processes import Served
from tests.bench.usage import database_cpu_s

#: All readings lie within this time before now, because newer readings of a sensor would make others late.
SPAN_MS = 40 * 60_000
#: Microseconds from 1970 to 2000, where PostgreSQL's binary times begin.
_YEAR_2000_US = 946_684_800_000_000
_COPY_HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_ROW = struct.Struct("!hiiiqid")


class Shape(NamedTuple):
    """An upload: a number of series with a number of readings each, in order of time, as a gateway sends them."""

    series: int
    readings: int

    @property
    def values(self) -> int:
        """Return the values of an upload."""
        return self.series * self.readings


class Load:
    """So many uploads of one shape, each with the readings that follow those of the one before.

    With `sets`, the uploads use that number of sets of series in turn.
    """

    def __init__(self, shape: Shape, uploads: int, sets: int = 1, part: tuple[int, int] = (0, 1)) -> None:
        self.shape = shape
        self.uploads = uploads
        self.sets = sets
        #: `part` (k, n): the readings lie in the k-th of n equal parts of SPAN_MS, so that n loads do not overlap.
        per_series = shape.readings * -(-uploads // sets)
        part_ms = SPAN_MS / part[1]
        self._spacing_ms = part_ms / per_series
        self._start_ms = now_us() / 1_000 - SPAN_MS - 60_000 + part[0] * part_ms

    @property
    def values(self) -> int:
        """Return the values of all uploads."""
        return self.shape.values * self.uploads

    def rows(self, upload: int) -> Iterator[tuple[int, int, float]]:
        """Yield (number of the series, milliseconds since 1970, value) in the order of an upload; values are calm."""
        first = upload % self.sets * self.shape.series
        before = upload // self.sets * self.shape.readings
        for reading in range(before, before + self.shape.readings):
            time_ms = int(self._start_ms + reading * self._spacing_ms)
            for series in range(first, first + self.shape.series):
                yield series, time_ms, 20 + (series + reading) % 7 * 0.01

    def line_requests(self, address: str) -> list[bytes]:
        """Return the requests of the same uploads in Influx line protocol, ready to be sent."""
        path = "/api/v2/write?precision=ms"
        return [request(address, path, self.lines(number)) for number in range(self.uploads)]

    def requests(self, address: str) -> list[bytes]:
        """Return the requests, ready to be sent."""
        return [request(address, "/api/v1/readings", self.body(number)) for number in range(self.uploads)]

    def lines(self, upload: int) -> bytes:
        """Return an upload in Influx line protocol, times in milliseconds."""
        return "\n".join(f"temperature,sensor=s{n} value={v} {at}" for n, at, v in self.rows(upload)).encode()

    def body(self, upload: int) -> bytes:
        """Return an upload as JSON."""
        readings = (
            f'{{"sensor":"s{series}","time":{at},"values":{{"temperature":{value}}}}}'
            for series, at, value in self.rows(upload)
        )
        return f"[{','.join(readings)}]".encode()


class Stored(NamedTuple):
    """What storing a load took."""

    per_second: float
    p99_ms: float
    api_cpu_s: float
    worker_cpu_s: float
    database_cpu_s: float | None
    #: For a value, of the whole server.
    wal_bytes: float
    #: Uploads that were answered with 503 and sent again.
    refused: int


async def store(
    server: Served,
    load: Load,
    connections: int,
    database: Connection,
    per_second: float = 0,
    form: Literal["json", "lines"] = "json",
) -> Stored:
    """Send a load over some connections, limited to a number of values a second if given; CPU is for a million."""
    requests = load.requests(server.address) if form == "json" else load.line_requests(server.address)
    status = 200 if form == "json" else 204
    async with connected(server.address, connections) as clients:
        api_s, worker_s, database_before = server.api_cpu_s(), server.worker_cpu_s(), await database_cpu_s(database)
        wal_before = await wal_bytes(database)
        sent = await repeat(clients, requests, per_second / load.shape.values, status)
        api_s, worker_s = server.api_cpu_s() - api_s, server.worker_cpu_s() - worker_s
        database_after = await database_cpu_s(database)
        written = await wal_bytes(database) - wal_before
    return Stored(
        load.values / sent.lasted_s,
        p99(sent.seconds) * 1e3,
        api_s / load.values * 1e6,
        worker_s / load.values * 1e6,
        _for_a_million(database_before, database_after, load.values),
        written / load.values,
        sent.refused,
    )


async def wal_bytes(database: Connection) -> int:
    """Return the bytes of WAL that the server has written so far."""
    return int(await database.fetchval("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn"))


@asynccontextmanager
async def watched(dsn: str) -> AsyncIterator[Connection]:
    """Open a connection to watch a database with, for as long as the block lasts."""
    connection = await connect(dsn, idle_in_transaction_session_timeout="0")
    try:
        yield connection
    finally:
        await connection.close()


class Copied(NamedTuple):
    """What one session's COPY took."""

    per_second: float
    cpu_s: float | None


EQUAL_TABLE = """
CREATE TABLE equal (LIKE reading INCLUDING ALL);
SELECT create_hypertable('equal', by_range('time', INTERVAL '1 day'), create_default_indexes => FALSE);
"""


async def copy(dsn: str, load: Load, uploads_together: int, database: Connection) -> Copied:
    """Store a load by binary COPY in one session, some uploads in a transaction, sorted as a flush sorts them."""
    payloads = [
        copy_payload(sorted(row for upload in numbers for row in load.rows(upload)))
        for numbers in _parts(load.uploads, uploads_together)
    ]
    async with watched(dsn) as session:
        before = await database_cpu_s(database)
        started = time.perf_counter()
        for payload in payloads:
            await session.copy_to_table("equal", source=_stream(payload), format="binary")
        lasted_s = time.perf_counter() - started
        after = await database_cpu_s(database)
    return Copied(load.values / lasted_s, _for_a_million(before, after, load.values))


def copy_payload(rows: Iterable[tuple[int, int, float]]) -> bytes:
    """Return rows in PostgreSQL's binary COPY format."""
    packed = (
        _COPY_ROW.pack(3, 4, series + 1, 8, at_ms * 1_000 - _YEAR_2000_US, 8, value) for series, at_ms, value in rows
    )
    return b"".join((_COPY_HEAD, *packed, struct.pack("!h", -1)))


def _for_a_million(before_s: float | None, after_s: float | None, count: int) -> float | None:
    return None if before_s is None or after_s is None else (after_s - before_s) / count * 1e6


def _parts(count: int, size: int) -> Iterator[range]:
    for first in range(0, count, size):
        yield range(first, min(first + size, count))


async def _stream(payload: bytes) -> AsyncIterator[bytes]:
    yield payload
    await asyncio.sleep(0)
