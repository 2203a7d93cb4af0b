"""CSV, long and wide."""

import pytest

from app.errors import InvalidRequestError, PayloadTooLargeError
from tests.ingest.formats.shapes.shape_bodies import NOW_MS, parse

LONG = (
    "time,sensor,metric,value,unit\n"
    f"{NOW_MS - 1_000},a,t,1.5,°C\n"
    '2026-01-31T07:59:58Z,"a, b",t,2,\r\n'
    "\n"
    f"{NOW_MS},c,t,,\n"
)
WIDE = f"time;t;h\n{NOW_MS - 1_000};1.5;60\n2026-01-31T07:59:58Z;;61\n"


@pytest.mark.parametrize("media_type", ["text/csv", "text/plain", ""])
def test_long_rows_are_read(media_type: str) -> None:
    result = parse(LONG, media_type)
    assert result.values == [("a", "t", 1_000_000, 1.5), ("a, b", "t", 2_000_000, 2.0)]
    assert [reading.units for reading in result.readings] == [{"t": "°C"}, None]
    assert [reading.index for reading in result.readings] == [0, 1]
    assert result.rejected == []


def test_columns_of_a_wide_table_are_metrics_of_one_sensor() -> None:
    result = parse(WIDE, "text/csv", asked="roof")
    assert result.values == [
        ("roof", "t", 1_000_000, 1.5),
        ("roof", "h", 1_000_000, 60.0),
        ("roof", "h", 2_000_000, 61.0),
    ]
    assert {row[0] for row in parse(WIDE, "text/csv").values} == {"key"}


def test_bad_row_or_cell_is_refused_alone() -> None:
    rows = [
        f"{NOW_MS},a,nan,1",
        f"{NOW_MS},a,1,{'9' * 5_000}",
        f"{NOW_MS},a,1,9007199254740993",
        f"{NOW_MS},,1,2",
        "noon,a,1,2",
        f"{NOW_MS},a,1",
        f'{NOW_MS},"a,1,2',
        f"{NOW_MS - 1},a,7,8,",
    ]
    result = parse("\n".join(["time,sensor,x,y", *rows[:-1], f"{NOW_MS - 1},a,7,8"]), "text/csv")
    assert [row[1:] for row in result.values] == [
        ("y", 0, 1.0),
        ("x", 0, 1.0),
        ("x", 0, 1.0),
        ("x", 1_000, 7.0),
        ("y", 1_000, 8.0),
    ]
    assert [(index, code) for index, code, _ in result.refusals] == [
        (0, "value_out_of_range"),
        (1, "value_out_of_range"),
        (2, "value_not_exact"),
        (3, "sensor_invalid"),
        (4, "time_invalid"),
        (5, "reading_invalid"),
        (6, "reading_invalid"),
    ]
    assert result.refusals[5][2] == "the line has 3 cells; send 4, as the first line has"


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("timestamp,sensor,t", "The first line has the column 'timestamp'; did you mean time?"),
        ("time,device,t", "The first line has the column 'device'; did you mean sensor?"),
        ("time,sensor,metric,valeu", "The first line has the column 'valeu'; did you mean value?"),
        ("time,t,t", "The first line has the column 't' twice; leave one out"),
        (
            "time,sensor",
            "The first line is 'time,sensor'; send time,sensor,metric,value, or time,sensor and a column a metric",
        ),
        (
            "time,sensor,metric,value,x",
            "The first line has the columns metric and value, and 'x'; leave that column out",
        ),
        ("time,,a", "In the first line, the metric is named ''; send a text of 1 to 100 printable characters"),
    ],
)
def test_table_is_refused_when_its_first_line_cannot_be_used(head: str, message: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        parse(f"{head}\n1,2,3\n", "text/csv")
    assert str(refused.value) == message


def test_line_is_refused_when_it_is_larger_than_a_mebibyte() -> None:
    with pytest.raises(PayloadTooLargeError, match="Line 2 is larger than 1 MiB"):
        parse("time,t\n" + "1," * 2**20, "text/csv")


def test_json_that_is_sent_as_csv_is_refused_with_its_first_line() -> None:
    with pytest.raises(InvalidRequestError, match=r"The first line is '\[\{\"sensor\": \"roof\"'; send time,sensor,"):
        parse('[{"sensor": "roof"\n', "text/csv")


def test_separator_after_the_last_cell_is_left_out() -> None:
    result = parse(f"time,sensor,wind,\n{NOW_MS - 1000},roof,3.5,\n{NOW_MS - 2000},roof,4,\n", "text/csv")
    assert ([row[3] for row in result.values], result.rejected) == ([3.5, 4.0], [])


@pytest.mark.parametrize("line", ["2026-01-31T08:00:00Z,roof,wind,3.5", "roof,wind,3.5"])
def test_body_without_names_is_refused(line: str) -> None:
    """Its values would be taken for names of metrics."""
    with pytest.raises(InvalidRequestError, match="which is a value and no name; send the names of the columns first"):
        parse(f"{line}\n{line}\n", "text/csv")


def test_utf_16_with_its_mark_is_read_and_other_encodings_are_refused() -> None:
    text = "sensor,größe\nroof,3.5\n"
    assert parse(text.encode("utf-16"), "text/csv").values == parse(text, "text/csv").values
    with pytest.raises(InvalidRequestError, match="The first line is not UTF-8; send UTF-8"):
        parse(text.encode("latin-1"), "text/csv")


def test_decimal_comma_is_refused_with_the_remedy() -> None:
    assert parse("sensor;wind\nroof;3,5\n", "text/csv").refusals == [
        (0, "value_not_a_number", "wind is 3,5; send a number with a point, or leave the metric out")
    ]
