"""A report as a table of text."""

from itertools import starmap

from tests.bench.report.rows import Machine, Report, Row

HEADS: tuple[str, ...] = ("what", "figure", "beside it", "ratio", "goal", "p99 ms", "lag s", "caught up s")
HEADS += ("CPU s API", "database", "WAL", "MB")
LEGEND = (
    "CPU: seconds for a million values, requests or deliveries. WAL: bytes a value. MB: the most memory of all",
    "processes. Goals bound the ratio where there is one.",
)


def render(report: Report) -> str:
    """Return the table, with the machine above and the shape of each row below its name."""
    cells = [_cells(row) for row in report.rows]
    widths = [max(map(len, column)) for column in zip(HEADS, *cells, strict=True)]
    lines = [describe(report.machine), "", _line(HEADS, widths), "  ".join("-" * width for width in widths)]
    for row, texts in zip(report.rows, cells, strict=True):
        lines += [_line(texts, widths), f"    {row.shape}{'; ' if row.note else ''}{row.note}"]
    lines += ["", *LEGEND]
    return "\n".join(lines)


def describe(machine: Machine) -> str:
    """Return one line that says where a report was measured."""
    return (
        f"{machine.cores} cores of {machine.cpu}, {machine.memory_gb:.0f} GB, load {machine.load[0]:.1f} before and "
        f"{machine.load[1]:.1f} after; PostgreSQL {machine.postgresql}, TimescaleDB {machine.timescaledb} "
        f"({machine.edition}), Python {machine.python}; {machine.measured_at}"
    )


def _cells(row: Row) -> tuple[str, ...]:
    beside = f"{row.beside}: {number(row.beside_figure)}" if row.beside else ""
    goal = "" if row.goal is None else f"{row.goal.sign} {row.goal.bound:g} {'met' if row.is_met else 'MISSED'}"
    cpu = (row.api_cpu_s, row.database_cpu_s)
    measured = (row.p99_ms, row.lag_s, row.catch_up_s, *cpu, row.wal_bytes, row.peak_mb)
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    return (row.name, f"{number(row.figure)} {row.unit}", beside, ratio, goal, *map(number, measured))


def _line(texts: tuple[str, ...], widths: list[int]) -> str:
    return "  ".join(starmap(str.ljust, zip(texts, widths, strict=True))).rstrip()


def number(figure: float | None) -> str:
    """Return a figure with at least two digits that count; nothing for None."""
    if figure is None:
        return ""
    return f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:.1f}" if abs(figure) >= 10 else f"{figure:.2f}"
