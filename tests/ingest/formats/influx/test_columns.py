"""The columns of a body: lines that are alike give the same as lines that are read one by one."""

from collections.abc import Iterable
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.ingest.formats.influx import columns as columns_module
from app.ingest.formats.influx.columns import Columns, _read_any, read_alike, read_columns
from app.ingest.formats.influx.lines import MalformedLineError, read_points

#: Pieces of lines, most of which fit, and texts that look like the JSON into which lines are rewritten.
PIECES = st.one_of(
    st.sampled_from(["m", "m,a=b", "m,a=b,v=1", "m,a=b,a=c", " v=", ",w=", "v=", "v=1", "w=2.5"]),
    st.sampled_from(["1", "-0.5e3", "1.", "01", "5i", "t", "1e3", "1e999", "1_0", "null", "-5", "٣"]),
    st.sampled_from([" ", ",", "=", '"x"', '",', "],[", "\\", "#", "\t", "\r", "\n", "é", "\u2028"]),
)
FIELDS = [
    *(
        "v=1",
        "v=2.5",
        "v=-3e2",
        "v=-0",
        "v=1,w=2",
        "v=1,w=2.5",
        "w=2,v=1",
        "w=1",
        "v=1i",
        "=1",
        "v=1,7",
        "v=1,w",
        "v=1,v=2",
    ),
    *("v=1,w=2,x=3", "v=1,x=3,w=2", "v=1,w=2,3", "v=1,w=12345678901234567890", "v=9007199254740993,w=2"),
]
ALIKE = st.builds(
    lambda heads, fields, times, ends: "".join(
        f"{head} {field}{time}{end}" for head, field, time, end in zip(heads, fields, times, ends, strict=False)
    ),
    st.lists(st.sampled_from(["m", "m,a=b", "m,a=c", "n,v=1", "m b=1", "m,a"]), min_size=1, max_size=4),
    st.lists(st.sampled_from(FIELDS), max_size=4),
    st.lists(st.sampled_from([" 5", " 6", "", " -5", " 5.0", " 1e3", "  5", " 1234567890123456789"]), max_size=4),
    st.lists(st.sampled_from(["\n", "\r\n", "\n\n", ""]), max_size=4),
)


@given(ALIKE | st.lists(PIECES, max_size=12).map("".join))
@example("a b=1 value=1 2")
@example("m,w=2 v=1,w=2 3")
@example("m v=1 1e3")
@example("m =1 5")
@example("m v\t=1 5")
@example("m v=1,w=2,x=3 5\nm v=1,x=3,w=2 5")
@example("m v=1,w=2 5\nm,a=b v=1,7 5")
@example("m v=1,5 7")
@example("m v=1 \t5")
@example("m v=1 \r5")
def test_alike_lines_give_the_columns_of_lines_read_one_by_one(text: str) -> None:
    alike = read_alike(text)
    if alike is not None:
        assert _rows(alike) == _rows(_read_any(read_points(text)))


@given(st.lists(PIECES, max_size=30).map("".join) | st.text())
def test_any_text_gives_columns_or_is_refused(text: str) -> None:
    with suppress(MalformedLineError):
        for columns in read_columns(text):
            assert len(columns.codes) == len(columns.lines) == len(columns.values) == len(columns.times)


@given(ALIKE | st.lists(PIECES, max_size=12).map("".join))
def test_parts_give_the_columns_of_the_whole(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns_module, "PART_LENGTH", 4)
        patch.setattr(columns_module, "_POINTS_AT_ONCE", 2)
        assert _outcome(read_columns(text)) == _outcome(_read_any(points) for points in [read_points(text)])


@pytest.mark.parametrize("line", ["{}", "m {}=1", "m v={}", 'm v="{}"', "#{}", "m,a={} v=1", "m v=1 1{}"])
def test_line_is_refused_when_it_is_longer_than_a_mebibyte(line: str) -> None:
    text = "m v=1 1\n" + line.format("1" * 3 * 2**20) + "\nm v=2 2"
    with pytest.raises(MalformedLineError, match="line 2, column 1: a line is longer than 1,048,576 characters"):
        list(read_columns(text))


def test_blank_lines_and_comments_are_skipped_when_they_are_megabytes() -> None:
    for blank in ("\n" * 3 * 2**20, "#" + "x" * 1_000_000 + "\n\n", ("# comment\r\n" * 300_000)):
        parts = read_columns(f"m v=1 1\n{blank}m v=2 2")
        assert [value for part in parts for value in part.values] == [1.0, 2.0]


def test_alike_lines_are_read_at_once() -> None:
    alike = read_alike("m,a=1 v=1,w=2.5 5\nm,a=2 v=3,w=4 6\nm,a=1 v=5,w=6 7\n")
    assert alike is not None
    assert _rows(alike) == [
        (0, ("m,a=1", "v"), 1.0, 5),
        (0, ("m,a=1", "w"), 2.5, 5),
        (1, ("m,a=2", "v"), 3.0, 6),
        (1, ("m,a=2", "w"), 4.0, 6),
        (2, ("m,a=1", "v"), 5.0, 7),
        (2, ("m,a=1", "w"), 6.0, 7),
    ]


def test_values_stay_with_their_keys_when_lines_have_them_in_another_order() -> None:
    """Telegraf writes the fields of each line in an order of its own."""
    (columns,) = read_columns("m,a=b x=1,y=2,z=3 5\nm,a=c x=4,z=6,y=5 5")
    assert [(key, value) for _, (_, key), value, _ in _rows(columns)] == [
        ("x", 1.0), ("y", 2.0), ("z", 3.0), ("x", 4.0), ("z", 6.0), ("y", 5.0)
    ]  # fmt: skip


def _rows(columns: Columns) -> list[tuple[int, tuple[str, str], float, int | None]]:
    pairs = [columns.pairs[code] for code in columns.codes.tolist()]
    return list(zip(columns.lines.tolist(), pairs, list(columns.values), list(columns.times), strict=True))


def _outcome(parts: Iterable[Columns]) -> list[tuple[int, tuple[str, str], float, int | None]] | str:
    """Return all rows, or what is wrong."""
    try:
        return [row for part in parts for row in _rows(part)]
    except MalformedLineError as error:
        return str(error)
