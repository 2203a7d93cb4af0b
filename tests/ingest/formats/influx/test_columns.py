"""The columns of a body: lines that are alike give the same as lines that are read one by one."""

from contextlib import suppress

from hypothesis import example, given
from hypothesis import strategies as st

from app.ingest.formats.influx.columns import Columns, _read_alike, _read_any, read_columns
from app.ingest.formats.influx.lines import MalformedLineError

#: Pieces of lines, most of which fit, and texts that look like the JSON into which lines are rewritten.
PIECES = st.one_of(
    st.sampled_from(["m", "m,a=b", "m,a=b,v=1", "m,a=b,a=c", " v=", ",w=", "v=", "v=1", "w=2.5"]),
    st.sampled_from(["1", "-0.5e3", "1.", "01", "5i", "t", "1e3", "1e999", "1_0", "null", "-5", "٣"]),
    st.sampled_from([" ", ",", "=", '"x"', '",', "],[", "\\", "#", "\t", "\r", "\n", "é", "\u2028"]),
)
ALIKE = st.builds(
    lambda heads, fields, times, ends: "".join(
        f"{head} {field}{time}{end}" for head, field, time, end in zip(heads, fields, times, ends, strict=False)
    ),
    st.lists(st.sampled_from(["m", "m,a=b", "m,a=c", "n,v=1", "m b=1", "m,a"]), min_size=1, max_size=4),
    st.lists(st.sampled_from(["v=1", "v=2.5", "v=-3e2", "v=1,w=2", "v=1,w=2.5", "w=1", "v=1i", "=1"]), max_size=4),
    st.lists(st.sampled_from([" 5", " 6", "", " -5", " 5.0", " 1e3", "  5", " 1234567890123456789"]), max_size=4),
    st.lists(st.sampled_from(["\n", "\r\n", "\n\n", ""]), max_size=4),
)


@given(ALIKE | st.lists(PIECES, max_size=12).map("".join))
@example("a b=1 value=1 2")
@example("m,w=2 v=1,w=2 3")
@example("m v=1 1e3")
@example("m =1 5")
@example("m v\t=1 5")
def test_alike_lines_give_the_columns_of_lines_read_one_by_one(text: str) -> None:
    alike = _read_alike(text)
    if alike is not None:
        assert _rows(alike) == _rows(_read_any(text))


@given(st.lists(PIECES, max_size=30).map("".join) | st.text())
def test_any_text_gives_columns_or_is_refused(text: str) -> None:
    with suppress(MalformedLineError):
        columns = read_columns(text)
        assert len(columns.codes) == len(columns.lines) == len(columns.values) == len(columns.times)


def test_alike_lines_are_read_at_once() -> None:
    alike = _read_alike("m,a=1 v=1,w=2.5 5\nm,a=2 v=3,w=4 6\nm,a=1 v=5,w=6 7\n")
    assert alike is not None
    assert _rows(alike) == [
        (0, ("m,a=1", "v"), 1.0, 5),
        (0, ("m,a=1", "w"), 2.5, 5),
        (1, ("m,a=2", "v"), 3.0, 6),
        (1, ("m,a=2", "w"), 4.0, 6),
        (2, ("m,a=1", "v"), 5.0, 7),
        (2, ("m,a=1", "w"), 6.0, 7),
    ]


def _rows(columns: Columns) -> list[tuple[int, tuple[str, str], float, int | None]]:
    pairs = [columns.pairs[code] for code in columns.codes.tolist()]
    return list(zip(columns.lines.tolist(), pairs, columns.values, columns.times, strict=True))
