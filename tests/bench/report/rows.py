"""The report of a benchmark: one row for each figure, beside a limit or a peer that was measured in the same run."""

from typing import Literal

import msgspec


class Goal(msgspec.Struct, frozen=True):
    """A bound on the ratio to what is beside, or on the figure itself where nothing is."""

    sign: Literal["≥", "≤"]
    bound: float

    def is_met(self, figure: float) -> bool:
        """Return whether a figure keeps to the bound."""
        return figure >= self.bound if self.sign == "≥" else figure <= self.bound


class Curve(msgspec.Struct):
    """A figure over time."""

    name: str
    #: (seconds since the start, figure)
    points: list[tuple[float, float]] = []

    @property
    def highest(self) -> float:
        """Return the highest figure."""
        return max(figure for _, figure in self.points)

    @property
    def last(self) -> float:
        """Return the last figure."""
        return self.points[-1][1]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One figure; fields that were not measured are None."""

    name: str
    #: Series × readings of an upload, connections, and the size of the whole load.
    shape: str
    figure: float
    unit: str
    #: The limit or the peer of the same run, and its figure in the same unit.
    beside: str | None = None
    beside_figure: float | None = None
    goal: Goal | None = None
    p99_ms: float | None = None
    #: Seconds by which a consumer (evaluation, the live feed) was behind when the load ended.
    lag_s: float | None = None
    #: Seconds from then until it had caught up.
    catch_up_s: float | None = None
    #: CPU seconds for a million values, requests or deliveries.
    api_cpu_s: float | None = None
    database_cpu_s: float | None = None
    client_cpu_s: float | None = None
    #: Bytes of WAL a value, of the whole server: something else on it counts, too.
    wal_bytes: float | None = None
    #: The most memory that the server's processes held together.
    peak_mb: float | None = None
    note: str = ""
    #: What was watched meanwhile, drawn as a chart of its own.
    curves: tuple[Curve, ...] = ()

    @property
    def ratio(self) -> float | None:
        """Return the figure divided by that beside it."""
        return self.figure / self.beside_figure if self.beside_figure else None

    @property
    def is_met(self) -> bool | None:
        """Return whether the row keeps to its goal, or None without one."""
        if self.goal is None:
            return None
        return self.goal.is_met(self.figure if self.ratio is None else self.ratio)


class Machine(msgspec.Struct, frozen=True):
    """Where the rows were measured."""

    cpu: str
    cores: int
    memory_gb: float
    #: The average number of runnable processes before the first and after the last row.
    load: tuple[float, float]
    edition: str
    postgresql: str
    timescaledb: str
    python: str
    measured_at: str


class Report(msgspec.Struct, frozen=True):
    """A whole run."""

    machine: Machine
    rows: list[Row]
