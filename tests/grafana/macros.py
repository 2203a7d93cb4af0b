"""The changes that Grafana 11.6, 12.x and 13 make to a query before PostgreSQL gets it.

Where each rule comes from, in grafana/grafana unless named otherwise (read, not copied):

- Which texts are variables, and that they are replaced in one pass: VARIABLE_REGEX in grafana/scenes,
  packages/scenes/src/variables/constants.ts and interpolation/sceneInterpolator.ts. A variable that does not exist is
  left as it is.
- `:sqlstring` doubles single quotes and writes `\\"` for a double quote: interpolation/formatRegistry.ts, since pull
  request 433 of grafana/scenes (2023), so in all these versions. `:raw`, `:csv`, `:percentencode`: the same file.
- A custom value of All is inserted as it stands, whatever the format: CustomAllValue in variants/MultiValueVariable.ts.
- Without a format the data source quotes: lists always, one text never or, in some versions, when the variable is
  of several values. In a repeated row or panel the value is one text (variants/LocalValueVariable.ts). One text was
  left bare in 11.6 and quoted in 12.0.0 to 12.0.7, 12.1.0 to 12.1.4, 12.2.0 to 12.2.2 and 12.3.0
  (packages/grafana-sql/src/datasource/SqlDatasource.ts; issues 106215, 114045); it is bare again from 12.0.8, 12.1.5,
  12.2.3 and 12.3.1 on, in 12.4 and in 13 (pull requests 114058 and 114873 to 114876; its truth table stands in
  grafana-postgresql-datasource/interpolationTruthTable.test.ts).
- `$__interval_ms`, then `$__interval`, `$__unixEpochFrom()` and `$__unixEpochTo()` are replaced everywhere, in values
  too: Interpolate in pkg/tsdb/grafana-postgresql-datasource/sqleng/sql_engine.go.
- Then comments are removed: not at all in 11.6; by a naive pattern, that cuts values with `--`, in 12.4.2 (issue
  123048); with regard to quotes from 12.1.11, 12.2.9, 12.3.7, 12.4.3 on and in 13 (pull requests 121772, 122128 to
  122131; stripSQLComments in pkg/tsdb/grafana-postgresql-datasource/macros.go).
- Then every `$word(arguments)` is a macro, in values too, and an unknown one is an error: the same file, as are the
  expansions of the macros.
- An interval is the range over the panel's `maxDataPoints`, rounded: roundInterval in
  packages/grafana-data/src/datetime/rangeutil.ts.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Literal
from urllib.parse import quote

import msgspec

#: Intervals in milliseconds: one below the limit is rounded to the value beside it (rangeutil in @grafana/data).
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
_VARIABLE = re.compile(r"\$(\w+)|\[\[(\w+?)(?::(\w+))?\]\]|\$\{(\w+)(?:\.([^:^}]+))?(?::([^}]+))?\}")
_MACRO = re.compile(r"\$([_a-zA-Z0-9]+)\(([^)]*)\)")
_NAIVE_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
#: Quoted texts, which stay, or a comment, which goes.
_QUOTED_OR_COMMENT = re.compile(
    r"""(?P<kept>'(?:[^']|'')*'|"(?:[^"]|"")*"|\$(?P<tag>(?:[A-Za-z_]\w*)?)\$.*?\$(?P=tag)\$)|--[^\n]*|/\*.*?\*/""",
    re.DOTALL,
)


class Grafana(msgspec.Struct, frozen=True):
    """A version of Grafana, as far as versions differ in what they do to a query."""

    name: str
    #: Whether one text of a variable of several values is quoted where no format is given.
    quotes_one_text: bool
    comments: Literal["kept", "cut naively", "cut"]


GRAFANA_11_6 = Grafana("11.6", quotes_one_text=False, comments="kept")
GRAFANA_12_0 = Grafana("12.0.0", quotes_one_text=True, comments="kept")
GRAFANA_12_4_2 = Grafana("12.4.2", quotes_one_text=False, comments="cut naively")
GRAFANA_12_4 = Grafana("12.4.3 and later", quotes_one_text=False, comments="cut")
GRAFANA_13 = Grafana("13", quotes_one_text=False, comments="cut")
#: Both ways of quoting, and each way to treat comments that leaves values whole.
VERSIONS = (GRAFANA_11_6, GRAFANA_12_0, GRAFANA_12_4, GRAFANA_13)


class Choice(msgspec.Struct, frozen=True):
    """What is chosen in one variable; `verbatim` is the custom value of All.

    `repeated` stands for a row or panel that is repeated for the one value, which then is a text and no list.
    """

    values: tuple[str, ...] = ()
    multi: bool = True
    verbatim: str | None = None
    repeated: bool = False

    def written(self, format_name: str | None, grafana: Grafana) -> str:
        """Return the text that stands for the variable; raise ValueError for a format that is not known here."""
        if self.verbatim is not None:
            return self.verbatim
        if format_name is not None:
            if format_name not in _FORMATS:
                raise ValueError(f"no query should need the format {format_name}")
            return _FORMATS[format_name](self.values)
        doubled = [value.replace("'", "''") for value in self.values]
        is_list = self.multi and not self.repeated
        if is_list or (self.multi and grafana.quotes_one_text):
            return ",".join(f"'{value}'" for value in doubled)
        return doubled[0]


class View(msgspec.Struct, frozen=True):
    """A time range on a panel of a given width."""

    start: datetime
    end: datetime
    max_data_points: int = 500
    min_interval_ms: int = 1_000

    @property
    def interval_ms(self) -> int:
        """Width of a point, rounded as Grafana does."""
        exact_ms = (self.end - self.start) / timedelta(milliseconds=1) / self.max_data_points
        place = bisect_right([limit for limit, _ in _ROUNDING], exact_ms)
        rounded_ms = _ROUNDING[place][1] if place < len(_ROUNDING) else _YEAR_MS
        return max(rounded_ms, self.min_interval_ms)


def expand(sql: str, view: View, choices: Mapping[str, Choice], grafana: Grafana = GRAFANA_13) -> str:
    """Return the SQL that reaches PostgreSQL; raise ValueError for a variable or a macro that does not exist."""
    sql = _VARIABLE.sub(lambda match: _variable(match, choices, grafana), sql)
    sql = sql.replace("$__interval_ms", str(view.interval_ms)).replace("$__interval", interval_text(view.interval_ms))
    sql = sql.replace("$__unixEpochFrom()", str(int(view.start.timestamp())))
    sql = sql.replace("$__unixEpochTo()", str(int(view.end.timestamp())))
    sql = _without_comments(sql, grafana)
    return _MACRO.sub(lambda match: _macro(match, sql, view), sql)


def interval_text(interval_ms: int) -> str:
    """Return an interval as `$__interval` shows it: 90 minutes as 1h, because the rest is cut off."""
    unit, unit_ms = next((unit, ms) for unit, ms in _UNITS_MS.items() if interval_ms >= ms)
    return f"{interval_ms // unit_ms}{unit}"


def interval_seconds(text: str) -> float:
    """Return what `interval_text` wrote, in seconds."""
    match = re.fullmatch(r"(\d+)(ms|s|m|h|d|y)", text.strip(" '"))
    if match is None:
        raise ValueError(f"{text!r} is no interval")
    return int(match[1]) * _UNITS_MS[match[2]] / 1_000


def _variable(match: re.Match[str], choices: Mapping[str, Choice], grafana: Grafana) -> str:
    name = match[1] or match[2] or match[4]
    if name.startswith("__"):
        return match[0]
    if name not in choices:
        raise ValueError(f"the dashboard has no variable {name}")
    return choices[name].written(match[3] or match[6], grafana)


def _sqlstring(values: tuple[str, ...]) -> str:
    escaped = (value.replace("'", "''").replace('"', '\\"') for value in values)
    return ",".join(f"'{value}'" for value in escaped)


_FORMATS: dict[str, Callable[[tuple[str, ...]], str]] = {
    "sqlstring": _sqlstring,
    "raw": ",".join,
    "csv": ",".join,
    "percentencode": lambda values: quote(values[0] if len(values) == 1 else f"{{{','.join(values)}}}", safe=""),
}


def _without_comments(sql: str, grafana: Grafana) -> str:
    if grafana.comments == "kept":
        return sql
    if grafana.comments == "cut naively":
        return _NAIVE_COMMENT.sub("", sql)
    return _QUOTED_OR_COMMENT.sub(lambda match: match["kept"] or "", sql)


def _macro(match: re.Match[str], sql: str, view: View) -> str:
    name, arguments = match[1], [argument.strip(" ") for argument in match[2].split(",")]
    if name == "__timeFilter":
        return f"{arguments[0]} BETWEEN {_quote(view.start)} AND {_quote(view.end)}"
    if name == "__timeFrom":
        return _quote(view.start)
    if name == "__timeTo":
        return _quote(view.end)
    if name in ("__timeGroup", "__timeGroupAlias"):
        bucket = f"time_bucket('{interval_seconds(arguments[1]):.3f}s',{arguments[0]})"
        # As before version 5.3: a comma right behind the first such macro gives it the alias.
        aliased = name == "__timeGroupAlias" or sql[sql.index(match[0]) + len(match[0]) :].startswith(",")
        return f'{bucket} AS "time"' if aliased else bucket
    raise ValueError(f"unknown macro {name}")


def _quote(moment: datetime) -> str:
    text = moment.astimezone(UTC).isoformat().replace("+00:00", "")
    return f"'{text.rstrip('0') if '.' in text else text}Z'"
