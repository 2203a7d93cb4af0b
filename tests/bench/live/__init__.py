"""Deliveries of the live feed to 1,000 clients, beside a bare broadcast of the same frames to the same clients."""

import asyncio
import multiprocessing
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from statistics import quantiles
from typing import NamedTuple

import msgspec

from tests.bench.connections import HttpClient, connected, p99, request
from tests.bench.live.broadcast import broadcast
from tests.bench.live.followers import Followed, Followers, follow
from tests.bench.processes import API_KEY, running, served, wait_for_port
from tests.bench.report.rows import Goal, Row
from tests.bench.report.run import Run
from tests.bench.usage import cpu_s
from tests.ports import free_port

CLIENTS = 1_000
PER_SECOND = 50
SECONDS = 10.0
#: More than are ever needed at a time: each upload must start when it is due.
UPLOADERS = 64
SENSORS = 50


class Delivered(NamedTuple):
    """What all clients got, in how much of the servers' CPU time, and their memory."""

    got: Followed
    cpu_s: float
    peak_mb: float | None = None


async def measure(run: Run) -> AsyncIterator[Row]:
    """Yield one row for deliveries and one for their delay."""
    clients, seconds = run.count(CLIENTS, 20), run.seconds(SECONDS)
    bare = await _broadcast(clients, seconds)
    ours, answers_s = await _feed(run, clients, seconds)
    uploads = len(answers_s)
    shape = f"{clients:,} clients, {PER_SECOND} uploads/s of 1 reading, {seconds:g} s"
    p99_ms, bare_p99_ms = (quantiles(each.got.delays_s, n=100)[98] * 1e3 for each in (ours, bare))
    yield Row(
        name="live feed",
        shape=shape,
        figure=ours.got.deliveries / seconds,
        unit="deliveries/s",
        beside="all of them",
        beside_figure=clients * uploads / seconds,
        goal=Goal("≥", 1.0),
        p99_ms=p99_ms,
        lag_s=ours.got.late_s,
        api_cpu_s=ours.cpu_s / ours.got.deliveries * 1e6,
        client_cpu_s=ours.got.cpu_s / ours.got.deliveries * 1e6,
        peak_mb=ours.peak_mb,
        note=f"fewest of one client {ours.got.fewest} of {uploads}; counting took {ours.got.cpu_s:.1f} s of CPU, "
        f"at the bare broadcast {bare.got.cpu_s:.1f} s",
    )
    yield Row(
        name="live feed: p99 from upload to client",
        shape=shape,
        figure=p99_ms,
        unit="ms",
        goal=Goal("≤", 100),
        note=f"median {quantiles(ours.got.delays_s, n=100)[49] * 1e3:.0f} ms; bare broadcast p99 {bare_p99_ms:.0f} ms; "
        f"the uploads' own answers: p99 {p99(answers_s) * 1e3:.0f} ms",
    )
    yield Row(
        name="live feed: CPU of the server's processes",
        shape=f"{shape}, uploads and their storage included",
        figure=ours.cpu_s / ours.got.deliveries * 1e6,
        unit="s a million",
        beside="bare broadcast",
        beside_figure=bare.cpu_s / bare.got.deliveries * 1e6,
    )


async def _feed(run: Run, clients: int, seconds: float) -> tuple[Delivered, list[float]]:
    """Return what the server delivered, and in how many seconds it answered each upload."""
    async with (
        run.database() as dsn,
        served(dsn, API_KEY_WS=API_KEY) as server,
        _following(server.address, clients) as followers,
        connected(server.address, UPLOADERS) as uploaders,
    ):
        before = server.api_cpu_s()
        answers_s = await _upload(uploaders, server.address, seconds)
        got = await followers.all_got(len(answers_s))
        return Delivered(got, server.api_cpu_s() - before, server.peak_mb()), answers_s


async def _broadcast(clients: int, seconds: float) -> Delivered:
    port = free_port()
    frames = int(PER_SECOND * seconds)
    with running(broadcast, port, clients, PER_SECOND, seconds) as pid:
        await wait_for_port(port)
        async with _following(f"http://127.0.0.1:{port}", clients) as followers:
            before = cpu_s([pid])
            await asyncio.sleep(seconds)
            got = await followers.all_got(frames)
            return Delivered(got, cpu_s([pid]) - before)


async def _upload(uploaders: list[HttpClient], address: str, seconds: float) -> list[float]:
    """Post readings when they are due; return how long each answer took.

    A reading's value is the time at which it was sent, in µs.
    """
    loop = asyncio.get_running_loop()
    idle = list(uploaders)

    async def send(number: int) -> float:
        uploader = idle.pop()
        started = loop.time()
        reading = {"sensor": f"s{number % SENSORS}", "values": {"sent": time.monotonic_ns() // 1_000}}
        await uploader.send(request(address, "/api/v1/readings", msgspec.json.encode([reading])), 200)
        idle.append(uploader)
        return loop.time() - started

    began = loop.time()
    sending = []
    for number in range(int(PER_SECOND * seconds)):
        await asyncio.sleep(began + number / PER_SECOND - loop.time())
        sending.append(asyncio.create_task(send(number)))
    return await asyncio.gather(*sending)


@asynccontextmanager
async def _following(address: str, clients: int) -> AsyncIterator[Followers]:
    """Let a number of clients follow a feed, in a process of their own, until the block ends."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    with running(follow, address, clients, theirs):
        theirs.close()  # so that the end of the other process is noticed
        followers = Followers(ours)
        await followers.begun()
        yield followers
