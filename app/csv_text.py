"""CSV as every part of Tidegauge writes it: commas, lines that end in LF, and cells that are safe in spreadsheets."""

import csv
import io
from collections.abc import Iterable, Sequence

#: A spreadsheet takes text that begins so for a formula.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def encode_rows(rows: Iterable[Sequence[object]]) -> str:
    """Return rows as CSV; floats are written with as many digits as it takes to read the same float again."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()


def spreadsheet_text(text: str) -> str:
    """Return a text with an apostrophe before it where a spreadsheet would take it for a formula.

    Whoever holds a key with the scope `ingest` chooses names of sensors and metrics, and a formula can send away what
    else is in the sheet of the person who opens the file. Quotes do not help: spreadsheets drop them.
    """
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text
