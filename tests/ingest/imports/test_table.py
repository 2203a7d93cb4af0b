"""Lines of CSV: readings, and refusals that say what to write instead."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.clock import DAY_US, from_us
from app.ingest.imports.table import CsvTable, InvalidFileError, RawRetention, parse_time
from app.model import Reading

#: 2026-01-31T08:00:00Z
NOW_US = 1_769_846_400_000_000
COMMUNITY, APACHE = RawRetention(timedelta(days=400), "community"), RawRetention(timedelta(days=400), "apache-2")
LONG, WIDE = b"sensor,time,metric,value", b"time,sensor,temperature,humidity"


def parse(
    header: bytes, line: str | bytes, kept: RawRetention = APACHE
) -> tuple[Reading | None, list[tuple[str, str]]]:
    """Parse a line of a file with this header."""
    data = line if isinstance(line, bytes) else line.encode()
    return CsvTable(header).parse(data, kept, NOW_US)  # type: ignore[return-value]


def reading(sensor: str, time_us: int, **values: float) -> Reading:
    return Reading(sensor, time_us, values)


@pytest.mark.parametrize(
    ("header", "line", "expected"),
    [
        (LONG, "cellar,2026-01-31T07:00:00Z,t,12.5", reading("cellar", NOW_US - 3_600_000_000, t=12.5)),
        (LONG, "cellar,2026-01-31T09:00:00.000001+02:00,t,-1e-3", reading("cellar", NOW_US - 3_599_999_999, t=-0.001)),
        (LONG, "cellar,1769846400000,t,5", reading("cellar", NOW_US, t=5.0)),
        (LONG, '"a, ""b""",1769846400000,"x,y",.5', Reading('a, "b"', NOW_US, {"x,y": 0.5})),
        (LONG, "水位 😀,1769846400000,°C,1", Reading("水位 😀", NOW_US, {"°C": 1.0})),
        (b"\xef\xbb\xbfsensor,time,metric,value,unit", "a,1769846400000,t,1,K", reading("a", NOW_US, t=1.0)),
        (b"value,metric,time,sensor", "1,t,1769846400000,a", reading("a", NOW_US, t=1.0)),
        (WIDE, "1769846400000,a,1,2", reading("a", NOW_US, temperature=1.0, humidity=2.0)),
        (WIDE, "1769846400000,a,,2", reading("a", NOW_US, humidity=2.0)),
        (WIDE, "1769846400000,a,,", None),
        (b"sensor,time,value", "a,1769846400000,3", reading("a", NOW_US, value=3.0)),
    ],
)
def test_line_is_a_reading_when_it_is_right(header: bytes, line: str, expected: Reading | None) -> None:
    assert parse(header, line) == (expected, [])


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("a,1769846400000,t", "reading_invalid", "the line has 3 cells; write 4, as the first line has"),
        (
            'a,1769846400000,"t,5',
            "reading_invalid",
            "the line is not CSV: unexpected end of data; quotes inside of quotes are written twice",
        ),
        (b"\xff,1769846400000,t,5", "reading_invalid", "the line is not UTF-8; save the file as UTF-8"),
        (",1769846400000,t,5", "sensor_invalid", "sensor is ''; send a text of 1 to 200 printable characters"),
        (
            "a,1769846400000,,5",
            "metric_invalid",
            "the metric is named ''; send a text of 1 to 100 printable characters",
        ),
        ("a,1769846400000,t,", "value_not_a_number", "t is ''; send a number, or leave the metric out"),
        ("a,1769846400000,t,1_0", "value_not_a_number", "t is '1_0'; send a number, or leave the metric out"),
        ("a,1769846400000,t,٣", "value_not_a_number", "t is '٣'; send a number, or leave the metric out"),
        ("a,1769846400000,t,NaN", "value_out_of_range", "t is nan; send a finite number within ±1e+100"),
        ("a,1769846400000,t,-inf", "value_out_of_range", "t is -inf; send a finite number within ±1e+100"),
        ("a,1769846400000,t,1e101", "value_out_of_range", "t is 1e+101; send a finite number within ±1e+100"),
        (
            "a,31.1.26,t,5",
            "time_invalid",
            "time is '31.1.26'; write RFC 3339 with a zone, such as 2026-01-31T08:00:00Z, or milliseconds since 1970",
        ),
        (
            "a,2026-01-31T07:00:00,t,5",
            "time_without_zone",
            "time is '2026-01-31T07:00:00', which has no zone; write 2026-01-31T07:00:00Z for UTC",
        ),
    ],
)
def test_line_is_refused_with_a_remedy_when_it_is_wrong(line: str | bytes, code: str, message: str) -> None:
    assert parse(LONG, line) == (None, [(code, message)])


def test_line_is_refused_when_its_time_is_in_the_future() -> None:
    message = (
        "time is 2026-01-31T08:10:01Z, more than 10 minutes ahead of the server's clock (2026-01-31T08:00:00Z); "
        "set the gateway's clock"
    )
    assert parse(LONG, "a,2026-01-31T08:10:01Z,t,5") == (None, [("time_in_future", message)])


def test_other_values_are_kept_when_one_of_a_wide_line_is_wrong() -> None:
    assert parse(WIDE, "1769846400000,a,x,2") == (
        reading("a", NOW_US, humidity=2.0),
        [("value_not_a_number", "temperature is 'x'; send a number, or leave the metric out")],
    )


@pytest.mark.parametrize(
    ("kept", "oldest_days", "message"),
    [
        (
            APACHE,
            399,
            "older than the 399 days that are kept; the Apache-2 edition keeps no more, TimescaleDB Community can",
        ),
        (
            COMMUNITY,
            399,
            "older than the 399 days that are kept; lengthen the retention policy of `reading`, or remove it",
        ),
        (
            RawRetention(timedelta(days=1_000), "community"),
            999,
            "older than the 999 days that are kept; lengthen the retention policy of `reading`, or remove it",
        ),
    ],
)
def test_old_line_is_refused_with_a_remedy_when_retention_could_drop_it(
    kept: RawRetention, oldest_days: int, message: str
) -> None:
    oldest = NOW_US - oldest_days * DAY_US
    assert parse(LONG, f"a,{oldest // 1_000},t,1", kept) == (reading("a", oldest, t=1.0), [])
    time = from_us(oldest - 1_000).isoformat().replace("+00:00", "Z")
    assert parse(LONG, f"a,{oldest // 1_000 - 1},t,1", kept) == (None, [("time_too_old", f"time is {time}, {message}")])


def test_line_of_any_age_is_a_reading_when_readings_are_kept_for_ever() -> None:
    assert parse(LONG, "a,1953-01-31T23:00:00Z,t,1", RawRetention(None, "community"))[0] == reading(
        "a", -533_782_800_000_000, t=1.0
    )


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"sensor;time;metric;value", "The columns are separated by ';'; separate them by commas"),
        (b"sensor\ttime\tmetric\tvalue", r"The columns are separated by '\t'; separate them by commas"),
        (b"\xff\xfes\0e\0", "The file is UTF-16; save it as UTF-8"),
        (b"sensor,times,t", 'is "sensor,times,t", without a column time; write sensor,time,metric,value'),
        (b"sensor,times,t", 'or sensor,time and a column for each metric; did you mean "times"?'),
        (b"sensor,time", "The first line has no column of values"),
        (b"sensor,time,t,t", "The first line has the column 't' twice; leave one out"),
        (b"sensor,time,metric,value,place", "has the columns metric and value, and 'place'; leave that column out"),
        (b"sensor,time,t,", "In the first line, the metric is named ''; send a text of 1 to 100 printable characters"),
        (b'sensor,time,"t', "The first line is no list of columns: the line is not CSV"),
    ],
)
def test_file_is_refused_with_a_remedy_when_its_first_line_is_wrong(header: bytes, message: str) -> None:
    with pytest.raises(InvalidFileError) as refusal:
        CsvTable(header)
    assert message in str(refusal.value)


@given(st.text() | st.from_regex(r"[-0-9T:.+Z ]{0,30}", fullmatch=True))
def test_time_is_parsed_or_refused_when_text_is_anything(text: str) -> None:
    checked = parse_time(text)
    assert isinstance(checked, int) or checked[0] in ("time_invalid", "time_without_zone")


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode(errors="replace")))
def test_line_is_a_reading_or_refused_when_it_is_anything(line: bytes) -> None:
    for header in (LONG, WIDE):
        found, refusals = parse(header, line.replace(b"\n", b""))
        assert found is not None or refusals or line.count(b",") == 3
