"""The expansion of queries as Grafana does it: first variables, then the macros of the data source."""

import re
from bisect import bisect_right
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import msgspec

#: Limits and intervals in ms: an interval below a limit is rounded to the value beside it (rangeutil, @grafana/data).
_ROUNDING = (
    (10, 1), (15, 10), (35, 20), (75, 50), (150, 100), (350, 200), (750, 500),
    (1_500, 1_000), (3_500, 2_000), (7_500, 5_000), (12_500, 10_000), (17_500, 15_000), (25_000, 20_000),
    (45_000, 30_000), (90_000, 60_000), (210_000, 120_000), (450_000, 300_000), (750_000, 600_000),
    (1_050_000, 900_000), (1_500_000, 1_200_000), (2_700_000, 1_800_000), (5_400_000, 3_600_000),
    (9_000_000, 7_200_000), (16_200_000, 10_800_000), (32_400_000, 21_600_000), (86_400_000, 43_200_000),
    (604_800_000, 86_400_000), (1_814_400_000, 604_800_000), (3_628_800_000, 2_592_000_000),
)  # fmt: skip
_YEAR_MS = 31_536_000_000
_UNITS_MS = {"y": _YEAR_MS, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_VARIABLE = re.compile(r"\$(\w+)|\$\{(\w+)(?::(\w+))?\}|\[\[(\w+)\]\]")
_MACRO = re.compile(r"\$(__\w+)\(([^)]*)\)")


class Choice(msgspec.Struct, frozen=True):
    """The chosen values of a variable; `verbatim` is the custom value of All, which Grafana does not quote."""

    values: tuple[str, ...] = ()
    multi: bool = True
    verbatim: str | None = None

    def literal(self) -> str:
        """Return the SQL text: quoted and joined as by the PostgreSQL data source; unquoted for a single value."""
        if self.verbatim is not None:
            return self.verbatim
        escaped = [value.replace("'", "''") for value in self.values]
        return ",".join(f"'{value}'" for value in escaped) if self.multi else escaped[0]


class View(msgspec.Struct, frozen=True):
    """A time range on a panel of a given width."""

    start: datetime
    end: datetime
    max_data_points: int = 500
    min_interval_ms: int = 1_000

    @property
    def interval_ms(self) -> int:
        """Return the time between two points in milliseconds, rounded as by Grafana."""
        exact_ms = (self.end - self.start) / timedelta(milliseconds=1) / self.max_data_points
        place = bisect_right([limit for limit, _ in _ROUNDING], exact_ms)
        rounded_ms = _ROUNDING[place][1] if place < len(_ROUNDING) else _YEAR_MS
        return max(rounded_ms, self.min_interval_ms)


def expand(sql: str, view: View, choices: Mapping[str, Choice]) -> str:
    """Return the SQL that PostgreSQL receives; raise ValueError for a variable or a macro that does not exist."""
    known = {
        **{name: choice.literal() for name, choice in choices.items()},
        "__interval": interval_text(view.interval_ms),
        "__interval_ms": str(view.interval_ms),
    }
    return _MACRO.sub(lambda match: _macro(match, view), _VARIABLE.sub(lambda match: _variable(match, known), sql))


def interval_text(interval_ms: int) -> str:
    """Format an interval like `$__interval`: 90 minutes are 1h, because the rest is cut off."""
    unit, unit_ms = next((unit, ms) for unit, ms in _UNITS_MS.items() if interval_ms >= ms)
    return f"{interval_ms // unit_ms}{unit}"


def interval_seconds(text: str) -> float:
    """Parse a text of `interval_text` and return seconds; raise ValueError."""
    match = re.fullmatch(r"(\d+)(ms|s|m|h|d|y)", text.strip(" '"))
    if match is None:
        raise ValueError(f"{text!r} is no interval")
    return int(match[1]) * _UNITS_MS[match[2]] / 1_000


def _variable(match: re.Match[str], known: Mapping[str, str]) -> str:
    name = match[1] or match[2] or match[4]
    if name.startswith("__") and name not in known:
        return match[0]
    if match[3]:
        raise ValueError(f"${{{name}:{match[3]}}}: the data source's own quoting is the only one that is right in SQL")
    if name not in known:
        raise ValueError(f"the dashboard has no variable {name}")
    return known[name]


def _macro(match: re.Match[str], view: View) -> str:
    name, arguments = match[1], [argument.strip() for argument in match[2].split(",")]
    if name == "__timeFilter":
        return f"{arguments[0]} BETWEEN {_quote(view.start)} AND {_quote(view.end)}"
    if name == "__timeFrom":
        return _quote(view.start)
    if name == "__timeTo":
        return _quote(view.end)
    if name in ("__timeGroup", "__timeGroupAlias"):
        bucket = f"time_bucket('{interval_seconds(arguments[1]):.3f}s',{arguments[0]})"
        return bucket if name == "__timeGroup" else f'{bucket} AS "time"'
    raise ValueError(f"unknown macro {name}")


def _quote(moment: datetime) -> str:
    return f"'{moment.astimezone(UTC).isoformat().replace('+00:00', 'Z')}'"
