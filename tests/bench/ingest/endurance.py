"""Minutes of full load under the example rules: memory of both processes, and how far evaluation is behind."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from tests.bench.connections import connected, p99, repeat, request
from tests.bench.ingest.batches import BATCH, CONNECTIONS
from tests.bench.ingest.load import Load, watched
from tests.bench.ingest.rules import GATEWAYS, RULES, Evaluation, begin, followed
from tests.bench.processes import Served, served
from tests.bench.report.rows import Curve, Goal, Row
from tests.bench.report.run import Run
from tests.bench.usage import held_mb

LOAD_S = 180.0
REST_S = 60.0
#: More uploads than any machine takes within LOAD_S.
UPLOADS = 20_000


class Watch:
    """What both processes hold, and how far evaluation is behind, once a second."""

    def __init__(self, server: Served, evaluation: Evaluation) -> None:
        self._server = server
        self._evaluation = evaluation
        self.api_mb, self.worker_mb, self.lag_s = (Curve(name) for name in ("API, MB", "worker, MB", "lag, s × 100"))

    async def follow(self) -> None:
        """Look once a second until cancelled."""
        began = time.monotonic()
        while True:
            at = time.monotonic() - began
            api, worker = self._server.pids
            self.api_mb.points.append((at, held_mb(api)))
            self.worker_mb.points.append((at, held_mb(worker)))
            self.lag_s.points.append((at, self._evaluation.lag_s * 100))
            await asyncio.sleep(1.0)


@asynccontextmanager
async def watching(server: Served, evaluation: Evaluation) -> AsyncIterator[Watch]:
    """Watch until the block ends."""
    watch = Watch(server, evaluation)
    task = asyncio.create_task(watch.follow())
    try:
        yield watch
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def measure(run: Run) -> AsyncIterator[Row]:
    """Yield the rows."""
    async with (
        run.database() as dsn,
        served(dsn, RULES_DIR=str(RULES)) as server,
        watched(dsn) as database,
        followed(dsn) as evaluation,
        watching(server, evaluation) as watch,
        connected(server.address, CONNECTIONS) as clients,
    ):
        await begin(server, database, (0, 20))
        load = Load(BATCH, UPLOADS, GATEWAYS, part=(1, 2))
        sent = await repeat(clients, _requests(load, server.address, run.seconds(LOAD_S)))
        lag_s, caught_up_s = evaluation.lag_s, await Evaluation(database).catch_up()
        peaks = watch.api_mb.highest, watch.worker_mb.highest
        await asyncio.sleep(run.seconds(REST_S))
        after = watch.api_mb.last, watch.worker_mb.last
    values = len(sent.seconds) * BATCH.values
    shape = (
        f"{BATCH.series} × {BATCH.readings} in an upload of one of {GATEWAYS} gateways, {CONNECTIONS} connections, "
        f"{values:,} values"
    )
    yield Row(
        name="minutes of full load under the example rules",
        shape=f"{shape} in {sent.lasted_s:.0f} s",
        figure=values / sent.lasted_s,
        unit="values/s",
        p99_ms=p99(sent.seconds) * 1e3,
        lag_s=lag_s,
        catch_up_s=caught_up_s,
        curves=(watch.api_mb, watch.worker_mb, watch.lag_s),
        note=f"uploads refused with 503 and sent again: {sent.refused}",
    )
    for name, figures, most in (("most", peaks, (350, 250)), ("a minute later", after, (200, 200))):
        for process, figure, goal in zip(("API", "worker"), figures, most, strict=True):
            yield Row(
                name=f"memory of the {process}, {name}", shape=shape, figure=figure, unit="MB", goal=Goal("≤", goal)
            )


def _requests(load: Load, address: str, seconds: float) -> Iterator[bytes]:
    """Make requests for a number of seconds, each only when it is sent, because all of them would fill the memory."""
    ends_at = time.monotonic() + seconds
    for upload in range(load.uploads):
        if time.monotonic() > ends_at:
            return
        yield request(address, "/api/v1/readings", load.body(upload))
