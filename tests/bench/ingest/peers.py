"""The same batches stored by InfluxDB and VictoriaMetrics, where they are installed, each by its line protocol."""

import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import aiohttp

from tests.bench.connections import connected, p99, repeat, request
from tests.bench.ingest.batches import BATCH, CONNECTIONS
from tests.bench.ingest.load import Load, store, watched
from tests.bench.processes import program, served, wait_until_answered
from tests.bench.report.rows import Row
from tests.bench.report.run import Run
from tests.bench.usage import cpu_s, peak_mb
from tests.ports import free_port

UPLOADS = 200
_INFLUX_CONFIG = """
reporting-disabled = true
bind-address = "127.0.0.1:{rpc_port}"
[meta]
dir = "{folder}/meta"
[data]
dir = "{folder}/data"
wal-dir = "{folder}/wal"
[http]
bind-address = "127.0.0.1:{port}"
log-enabled = false
"""


class Peer(NamedTuple):
    """A time series database: its program, and paths of its HTTP interface."""

    name: str
    program: str
    probe: str
    create: str | None
    write: str


PEERS = (
    Peer("InfluxDB", "influxd", "/ping", "/query?q=CREATE%20DATABASE%20bench", "/write?db=bench&precision=ms"),
    Peer("VictoriaMetrics", "victoria-metrics", "/health", None, "/write?precision=ms"),
)


async def measure(run: Run) -> AsyncIterator[Row]:
    """Yield a row for each peer, beside the server itself in the same run."""
    load = Load(BATCH, run.count(UPLOADS, 4))
    async with run.database() as dsn, served(dsn) as server, watched(dsn) as database:
        ours = (await store(server, load, CONNECTIONS, database)).per_second
    for peer in PEERS:
        yield await _measure(peer, load, ours)


async def _measure(peer: Peer, load: Load, ours: float) -> Row:
    shape = f"{BATCH.series} × {BATCH.readings} in an upload, {CONNECTIONS} connections, {load.values:,} values"
    if shutil.which(peer.program) is None:
        return Row(name=peer.name, shape=shape, figure=0, unit="values/s", note="not installed")
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        process = await stack.enter_async_context(program(*_command(peer, port, Path(folder))))
        await wait_until_answered(address + peer.probe, process)
        if peer.create is not None:
            async with aiohttp.request("POST", address + peer.create) as response:
                response.raise_for_status()
        clients = await stack.enter_async_context(connected(address, CONNECTIONS))
        requests = [request(address, peer.write, load.lines(number)) for number in range(load.uploads)]
        before = cpu_s([process.pid])
        sent = await repeat(clients, requests, status=204)
        return Row(
            name=peer.name,
            shape=shape,
            figure=load.values / sent.lasted_s,
            unit="values/s",
            beside="Tidegauge, no rules",
            beside_figure=ours,
            p99_ms=p99(sent.seconds) * 1e3,
            api_cpu_s=(cpu_s([process.pid]) - before) / load.values * 1e6,
            peak_mb=peak_mb(process.pid),
            note="its CPU and memory are those of the whole database",
        )


def _command(peer: Peer, port: int, folder: Path) -> list[str]:
    if peer.program == "victoria-metrics":
        return [
            peer.program,
            f"-storageDataPath={folder}",
            f"-httpListenAddr=127.0.0.1:{port}",
            "-retentionPeriod=100y",
        ]
    config = folder / "influxdb.conf"
    config.write_text(_INFLUX_CONFIG.format(folder=folder, port=port, rpc_port=free_port()))
    return [peer.program, "-config", str(config)]
