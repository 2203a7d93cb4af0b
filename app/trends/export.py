"""Export of raw readings as CSV, in order of time, sensor and metric: what `tidegauge import` reads."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

import asyncpg
import msgspec

from app.clock import rfc3339
from app.csv_text import encode_rows
from app.db.pool import Connection
from app.errors import NotFoundError
from app.globs import compile_glob
from app.model import ReportProgress
from app.trends.series import StoredSeries
from app.trends.sql import SQL

#: Rows that are fetched and written at a time.
_ROWS = 10_000


class Choice(msgspec.Struct, frozen=True):
    """The readings to export. Patterns of names may contain * and ?; without patterns, all names are chosen."""

    sensors: Sequence[str] = ()
    metrics: Sequence[str] = ()
    #: Included; None: from the oldest reading on.
    start: datetime | None = None
    #: Excluded; None: to the newest reading.
    end: datetime | None = None
    with_unit: bool = False

    def has(self, series: StoredSeries) -> bool:
        """Return whether a series is chosen."""
        return _matches(self.sensors, series.sensor) and _matches(self.metrics, series.metric)


async def export_readings(
    connection: Connection,
    choice: Choice,
    write: Callable[[bytes], object],
    report: ReportProgress = lambda done, total: None,
) -> int:
    """Write the chosen readings as CSV and return how many; raise NotFoundError if no series is chosen.

    Values and times are written so that the same ones are read again, to the microsecond. Names are written as they
    are, unlike in answers over HTTP, because the file is made to be imported. Each chunk of the hypertable is read by a
    cursor in a transaction of its own. `report` gets the chunks done and in all. `connection` must not have a short
    idle_in_transaction_session_timeout, because whoever reads the output may be slow.
    """
    series = await _choose(connection, choice)
    write(encode_rows([("sensor", "time", "metric", "value", *(("unit",) if choice.with_unit else ()))]).encode())
    windows = await connection.fetch(
        SQL["list_chunk_windows"],
        choice.start or datetime.min.replace(tzinfo=UTC),
        choice.end or datetime.max.replace(tzinfo=UTC),
    )
    count = 0
    for done, (start, end) in enumerate(windows):
        report(done, len(windows))
        async with connection.transaction():
            cursor = await connection.cursor(SQL["export_readings"], [each.id for each in series], start, end)
            while rows := await cursor.fetch(_ROWS):
                write(_encode(rows, series, choice).encode())
                count += len(rows)
    report(len(windows), len(windows))
    return count


async def _choose(connection: Connection, choice: Choice) -> list[StoredSeries]:
    """Return the chosen series in order of sensor and metric."""
    rows = await connection.fetch(SQL["list_all_series"])
    chosen = [series for row in rows if choice.has(series := StoredSeries(**row))]
    if not chosen:
        named = " and ".join(
            f"{what} {' or '.join(map(repr, patterns))}"
            for what, patterns in (("sensor", choice.sensors), ("metric", choice.metrics))
            if patterns
        )
        raise NotFoundError(f"No series has {named}; * stands for any text" if named else "No series is stored yet")
    return sorted(chosen, key=lambda series: (series.sensor, series.metric))


def _encode(rows: Iterable[asyncpg.Record], series: Sequence[StoredSeries], choice: Choice) -> str:
    """Return rows of position of the series, time in microseconds and value as CSV."""
    lines: list[tuple[object, ...]] = []
    us, time = None, ""
    for position, time_us, value in rows:
        if time_us != us:
            us, time = time_us, rfc3339(time_us)
        each = series[position - 1]
        unit = (each.unit or "",) if choice.with_unit else ()
        lines.append((each.sensor, time, each.metric, value, *unit))
    return encode_rows(lines)


def _matches(patterns: Sequence[str], name: str) -> bool:
    return not patterns or any(compile_glob(pattern)(name) for pattern in patterns)
