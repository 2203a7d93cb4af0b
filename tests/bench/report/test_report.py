"""The table, its JSON and its chart; and a few benchmarks, with counts so small that their figures mean nothing."""

import re
from xml.etree import ElementTree

import msgspec
import pytest

from tests.bench.__main__ import BENCHMARKS, Measure
from tests.bench.ingest import peers
from tests.bench.ingest.load import Load, Shape, copy_payload
from tests.bench.report.chart import draw
from tests.bench.report.rows import Goal, Machine, Report, Row
from tests.bench.report.run import Run
from tests.bench.report.table import render

MACHINE = Machine(
    cpu="Abacus 3",
    cores=2,
    memory_gb=16.0,
    load=(0.25, 1.5),
    edition="community",
    postgresql="17.2",
    timescaledb="2.29.2",
    python="3.11.7",
    measured_at="2026-01-31 08:00 UTC",
)
SLOW = Row(
    name="no rules",
    shape="50 × 100",
    figure=150_000.0,
    unit="values/s",
    beside="COPY",
    beside_figure=300_000.0,
    goal=Goal("≥", 0.8),
    p99_ms=41.25,
    peak_mb=98.6,
    note="113 bytes of WAL",
)
QUICK = Row(name="p99 <1>", shape="16 connections", figure=7.5, unit="ms", goal=Goal("≤", 30))


def test_row_judges_its_ratio_or_else_its_figure_when_it_has_a_goal() -> None:
    assert (SLOW.ratio, SLOW.is_met) == (0.5, False)
    assert (QUICK.ratio, QUICK.is_met) == (None, True)
    assert Row(name="x", shape="", figure=1, unit="s").is_met is None


def test_table_has_machine_shape_and_goal_of_each_row() -> None:
    lines = render(Report(MACHINE, [SLOW, QUICK])).splitlines()
    assert lines[0] == (
        "2 cores of Abacus 3, 16 GB, load 0.2 before and 1.5 after; PostgreSQL 17.2, TimescaleDB 2.29.2 (community), "
        "Python 3.11.7; 2026-01-31 08:00 UTC"
    )
    assert [re.split("  +", line) for line in lines[4:8]] == [
        ["no rules", "150,000 values/s", "COPY: 300,000", "0.50", "≥ 0.8 MISSED", "41.2", "98.6"],
        ["", "50 × 100; 113 bytes of WAL"],
        ["p99 <1>", "7.50 ms", "≤ 30 met"],
        ["", "16 connections"],
    ]


def test_chart_is_svg_with_a_bar_for_each_ratio() -> None:
    drawn = ElementTree.fromstring(draw(Report(MACHINE, [SLOW, QUICK])))  # noqa: S314 -- our own
    texts = [each.text for each in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert "no rules" in texts
    assert "0.50 of 300,000 values/s, COPY" in texts
    assert "p99 <1>" not in texts


def test_report_reads_its_json_back() -> None:
    report = Report(MACHINE, [SLOW, QUICK])
    assert msgspec.json.decode(msgspec.json.encode(report), type=Report) == report


def test_load_goes_round_its_sets_of_series_in_order_of_time() -> None:
    load = Load(Shape(series=2, readings=3), uploads=4, sets=2)
    uploads = [list(load.rows(number)) for number in range(4)]
    assert [sorted({series for series, _, _ in rows}) for rows in uploads] == [[0, 1], [2, 3], [0, 1], [2, 3]]
    assert [at for _, at, _ in uploads[0]] == sorted(at for _, at, _ in uploads[0])
    assert max(at for _, at, _ in uploads[0]) < min(at for _, at, _ in uploads[2])
    assert load.values == 24


def test_copy_payload_has_a_head_each_row_and_an_end() -> None:
    assert len(copy_payload([(0, 946_684_800_000, 1.0), (1, 946_684_800_001, 2.0)])) == 19 + 2 * 34 + 2


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        (
            "batches",
            [
                "no rules",
                "no rules: CPU of the API",
                "the same batches again",
                "batches of 10 × 10, 64 at a time",
            ],
        ),
        ("lines", ["line protocol"]),
        pytest.param(
            "live",
            ["live feed", "live feed: p99 from upload to client", "live feed: CPU of the server's processes"],
            marks=pytest.mark.slow,
        ),
    ],
)
async def test_benchmark_yields_its_rows(server_dsn: str, name: str, rows: list[str]) -> None:
    measure: Measure = BENCHMARKS[name]
    measured = {row.name: row async for row in measure(Run(server_dsn, 0.001))}
    assert set(rows) <= measured.keys()
    assert all(row.figure > 0 for row in measured.values())
    if name == "live":
        assert measured["live feed"].ratio == 1.0


async def test_benchmark_says_so_when_a_peer_is_not_installed(server_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    rows = [row async for row in peers.measure(Run(server_dsn, 0.001))]
    assert [(row.name, row.note) for row in rows] == [
        ("InfluxDB", "not installed"),
        ("VictoriaMetrics", "not installed"),
    ]
