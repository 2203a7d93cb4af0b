"""A report as a chart: a bar for each row's ratio to what is beside it, and a mark at its goal."""

from html import escape

from tests.bench.report.rows import Report, Row
from tests.bench.report.table import describe, number

ROW_PX = 34
LABEL_PX = 330
UNIT_PX = 260
WIDTH_PX = 980
MOST = 2.0
_FONT = 'font-family="sans-serif" font-size="12"'


def draw(report: Report) -> str:
    """Return the chart as SVG; rows without a ratio are left out."""
    rows = [row for row in report.rows if row.ratio is not None]
    height = 70 + ROW_PX * len(rows)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH_PX} {height}" {_FONT} role="img">',
        "<title>Speed compared with a limit or a peer of the same run</title>",
        f'<rect width="{WIDTH_PX}" height="{height}" fill="#ffffff"/>',
        f'<text x="10" y="20" font-size="10" fill="#52606d">{escape(describe(report.machine))}</text>',
        *(_axis(at, height) for at in (0.0, 0.5, 1.0, 1.5, MOST)),
        *(part for index, row in enumerate(rows) for part in _bar(row, 50 + index * ROW_PX)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _x(ratio: float) -> float:
    return round(LABEL_PX + UNIT_PX * min(ratio, MOST), 1)


def _axis(at: float, height: int) -> str:
    return (
        f'<line x1="{_x(at)}" x2="{_x(at)}" y1="40" y2="{height - 20}" stroke="#d9e2ec"/>'
        f'<text x="{_x(at)}" y="{height - 6}" text-anchor="middle" fill="#52606d">{at:g}</text>'
    )


def _bar(row: Row, y: int) -> list[str]:
    """Draw a row: blue where its goal is met or it has none, orange where it is missed."""
    ratio = row.ratio or 0.0
    colour = "#d9822b" if row.is_met is False else "#2b6cb0"
    said = f"{ratio:.2f} of {number(row.beside_figure)} {row.unit}, {row.beside}"
    parts = [
        f'<text x="{LABEL_PX - 8}" y="{y + 14}" text-anchor="end" fill="#102a43">{escape(row.name)}</text>',
        f'<rect x="{LABEL_PX}" y="{y + 2}" width="{_x(ratio) - LABEL_PX}" height="10" fill="{colour}"/>',
        f'<text x="{LABEL_PX + 4}" y="{y + 24}" font-size="10" fill="#52606d">{escape(said)}</text>',
    ]
    if row.goal is not None:
        goal = _x(row.goal.bound)
        parts.append(f'<line x1="{goal}" x2="{goal}" y1="{y}" y2="{y + 14}" stroke="#102a43" stroke-width="2"/>')
    return parts


CURVE_HEIGHT_PX = 260
_COLOURS = ("#2b6cb0", "#2f855a", "#d9822b")


def draw_curves(row: Row) -> str:
    """Return the figures that were watched during a row as SVG: time to the right, figures upwards from zero."""
    most_s = max(at for curve in row.curves for at, _ in curve.points) or 1.0
    most = max(curve.highest for curve in row.curves) or 1.0
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH_PX} {CURVE_HEIGHT_PX + 60}" {_FONT} role="img">',
        f"<title>{escape(row.name)}</title>",
        f'<rect width="{WIDTH_PX}" height="{CURVE_HEIGHT_PX + 60}" fill="#ffffff"/>',
        f'<text x="10" y="16" fill="#102a43">{escape(row.name)}: {escape(row.shape)}</text>',
        f'<text x="10" y="40" font-size="10" fill="#52606d">{most:.0f}</text>',
        f'<text x="{WIDTH_PX - 60}" y="{CURVE_HEIGHT_PX + 46}" font-size="10" fill="#52606d">{most_s:.0f} s</text>',
    ]
    for curve, colour, place in zip(row.curves, _COLOURS, range(len(row.curves)), strict=False):
        line = " ".join(
            f"{40 + at / most_s * (WIDTH_PX - 60):.1f},{30 + (1 - figure / most) * CURVE_HEIGHT_PX:.1f}"
            for at, figure in curve.points
        )
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        parts.append(
            f'<text x="{60 + 160 * place}" y="{CURVE_HEIGHT_PX + 46}" fill="{colour}">{escape(curve.name)}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"
