"""Ingest of JSON batches over HTTP, compared with one session's COPY of the same rows into an equal table."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from itertools import count

import aiohttp
import msgspec

from app.auth.keys import ApiKey
from app.clock import MINUTE_US, now_us
from app.db.pool import Connection, connect
from app.ingest.flush.batch import Batch, copy_payload
from app.ingest.upload import Readings, Rejected, Upload
from app.model import Reading, SeriesId
from tests.bench.database import fresh_database
from tests.bench.processes import API_KEY, served

BATCH_READINGS = 5_000
BATCHES = 60
SENSORS = 50
SPACING_MS = 100
CLIENTS = 8
ROUNDS = 3


def batches(start_ms: int) -> list[list[tuple[str, int, float]]]:
    """Return BATCHES batches of (sensor, milliseconds since 1970, value), in the order of a gateway's uploads."""
    moments = count(start_ms, SPACING_MS)
    made = []
    for _ in range(BATCHES):
        times = [next(moments) for _ in range(BATCH_READINGS // SENSORS)]
        made.append([(f"s{n}", at, 20 + n % 7 * 0.5) for at in times for n in range(SENSORS)])
    return made


async def post_all(address: str, start_ms: int) -> float:
    """Post all batches to /api/v1/readings, and return the values stored per second."""
    bodies = [
        msgspec.json.encode([{"sensor": s, "time": at, "values": {"temperature": v}} for s, at, v in batch])
        for batch in batches(start_ms)
    ]
    async with aiohttp.ClientSession(address, headers={"X-API-Key": API_KEY}) as http:

        async def post_some() -> None:
            while bodies:
                async with http.post("/api/v1/readings", data=bodies.pop()) as response:
                    answer = await response.json()
                    assert answer["accepted"] == BATCH_READINGS, answer

        started = time.perf_counter()
        await asyncio.gather(*(post_some() for _ in range(CLIENTS)))
        return BATCHES * BATCH_READINGS / (time.perf_counter() - started)


async def copy_all(connection: Connection, start_ms: int) -> float:
    """Copy all batches in one session, sorted, one transaction each, and return the rows stored per second."""
    ids = {f"s{n}": {"temperature": SeriesId(n + 1)} for n in range(SENSORS)}
    payloads = []
    for batch in batches(start_ms):
        readings = [Reading(sensor, at * 1_000, {"temperature": value}) for sensor, at, value in batch]
        upload = Upload(Readings.of(readings), Rejected(), now_us(), ApiKey("bench", frozenset()))
        payloads.append(copy_payload(Batch([upload], ids).samples))
    started = time.perf_counter()
    for payload in payloads:
        await connection.copy_to_table("equal", source=_stream(payload), format="binary")
    return BATCHES * BATCH_READINGS / (time.perf_counter() - started)


async def _stream(payload: bytes) -> AsyncIterator[bytes]:
    yield payload


async def main() -> None:
    """Print both rates and their ratio for each round."""
    async with fresh_database(os.environ.get("DATABASE_URL")) as dsn, served(dsn) as address:
        connection = await connect(dsn)
        await connection.execute(
            """CREATE TABLE equal (LIKE reading INCLUDING ALL);
               SELECT create_hypertable('equal', by_range('time', INTERVAL '1 day'), create_default_indexes => FALSE)"""
        )
        # The readings are fresh, because late ones would include the refresh of their day in the measured time.
        start_ms = (now_us() - 50 * MINUTE_US) // 1_000
        for number in range(ROUNDS):
            span_ms = number * BATCHES * BATCH_READINGS // SENSORS * SPACING_MS
            copied = await copy_all(connection, start_ms + span_ms)
            posted = await post_all(address, start_ms + span_ms)
            print(
                f"ingest: {posted:,.0f} values/s over HTTP, {copied:,.0f} rows/s by COPY, ratio {posted / copied:.2f}"
            )
        await connection.close()
