"""Benchmarks: `python -m tests.bench [NAME …]` runs those named, or all, and prints one table.

On the server of DATABASE_URL, or on an embedded one. The table is also written as JSON and, drawn, as SVG, into the
folder of `--output`.
"""

import argparse
import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import uvloop

from app import log
from app.db.embedded.server import EmbeddedServer
from tests.bench import alerts, broker, evaluation, history, live, page
from tests.bench.ingest import batches, endurance, growth, lines, peers, replay, rules, singles
from tests.bench.report.chart import draw, draw_curves
from tests.bench.report.rows import Report, Row
from tests.bench.report.run import Run, describe_machine
from tests.bench.report.table import render
from tests.processes import data_folder

Measure = Callable[[Run], AsyncIterator[Row]]
BENCHMARKS: dict[str, Measure] = {
    "batches": batches.measure,
    "lines": lines.measure,
    "replay": replay.measure,
    "rules": rules.measure,
    "endurance": endurance.measure,
    "singles": singles.measure,
    "growth": growth.measure,
    "peers": peers.measure,
    "notifications": broker.measure,
    "live": live.measure,
    "evaluation": evaluation.measure,
    "alerts": alerts.measure,
    "history": history.measure,
    "page": page.measure,
}
#: A benchmark that takes longer is ended.
LIMIT_S = 300.0


def main() -> None:
    """Run the benchmarks one after another; print and write the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure speeds beside raw limits.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of: {', '.join(BENCHMARKS)}")
    parser.add_argument("--output", type=Path, default=Path(".bench"), help="folder of the JSON and SVG files")
    parser.add_argument("--share", type=float, default=1.0, help="part of the usual counts and times, to try it out")
    asked = parser.parse_args()
    if unknown := set(asked.names) - BENCHMARKS.keys():
        parser.error(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    log.configure("warning")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        report = runner.run(measure_all(asked.names or list(BENCHMARKS), asked.share))
    print(render(report))
    asked.output.mkdir(exist_ok=True, parents=True)
    (asked.output / "table.json").write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2))
    (asked.output / "chart.svg").write_text(draw(report))
    for row in report.rows:
        if row.curves:
            (asked.output / "memory.svg").write_text(draw_curves(row))


async def measure_all(names: list[str], share: float) -> Report:
    """Run benchmarks on the server of DATABASE_URL or on a new embedded one; after Ctrl-C, return the rows so far."""
    async with AsyncExitStack() as stack:
        server = os.environ.get("DATABASE_URL") or start_server(stack)
        load_before = os.getloadavg()[0]
        rows: list[Row] = []
        for name in names:
            try:
                rows += await _measure(name, BENCHMARKS[name], Run(server, share))
            except asyncio.CancelledError:
                break
        return Report(await describe_machine(server, load_before), rows)


def start_server(stack: AsyncExitStack) -> str:
    """Start an embedded server that ends with the stack; return its address."""
    folder = stack.enter_context(data_folder(Path(stack.enter_context(TemporaryDirectory()))))
    return stack.enter_context(EmbeddedServer.start(folder)).dsn


async def _measure(name: str, measure: Measure, run: Run) -> list[Row]:
    """Return the rows of one benchmark; those that it measured before it failed or took LIMIT_S, and say so."""
    rows: list[Row] = []
    started = time.monotonic()
    try:
        async with asyncio.timeout(LIMIT_S):
            async for row in measure(run):
                rows.append(row)  # noqa: PERF401 -- what was measured before an error is kept
    except Exception as error:  # noqa: BLE001 -- the other benchmarks must still run
        print(f"{name}: ended early, {error!r}")
    print(f"{name}: {len(rows)} rows in {time.monotonic() - started:.0f} s", flush=True)
    return rows


if __name__ == "__main__":
    main()
