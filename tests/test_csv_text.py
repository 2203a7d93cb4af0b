"""CSV that keeps floats and is safe in spreadsheets."""

import csv
import io
from math import pi

import pytest

from app.csv_text import encode_rows, spreadsheet_text


def test_float_is_the_same_when_it_is_read_again() -> None:
    text = encode_rows([("pi", pi), ("small", 5e-324)])
    assert text == "pi,3.141592653589793\nsmall,5e-324\n"
    assert [float(cell) for _, cell in csv.reader(io.StringIO(text))] == [pi, 5e-324]


def test_cell_is_quoted_when_it_has_a_comma_or_a_quote() -> None:
    assert encode_rows([('a,b"c', 1)]) == '"a,b""c",1\n'


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=HYPERLINK(A1)", "'=HYPERLINK(A1)"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@x", "'@x"),
        ("\tx", "'\tx"),
        ("cellar-1", "cellar-1"),
        ("", ""),
    ],
)
def test_text_gets_an_apostrophe_when_a_spreadsheet_would_take_it_for_a_formula(text: str, cell: str) -> None:
    assert spreadsheet_text(text) == cell
