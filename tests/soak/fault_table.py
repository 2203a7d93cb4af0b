"""The table of faults in docs/faults.md, from the rows that the tests in tests/faults measured.

`python -m tests.soak.fault_table [FILE]` prints it.
"""

import sys
from pathlib import Path

import msgspec

from tests.faults.verdict import Row
from tests.soak.totals import FOLDER

FILE = FOLDER / "faults.jsonl"
_HEAD = "| fault | what a client outside sees | back after | lost | doubled |\n|---|---|---|---|---|"


def render(file: Path = FILE) -> str:
    """Return the table in Markdown; of rows with one name, the last counts."""
    rows = {row.fault: row for row in (msgspec.json.decode(line, type=Row) for line in file.read_bytes().splitlines())}
    return "\n".join([_HEAD, *(_line(row) for row in rows.values())])


def _line(row: Row) -> str:
    back = "–" if row.back_after_s is None else f"{row.back_after_s} s"
    lost, doubled = ("?" if count is None else count for count in (row.lost, row.doubled))
    return f"| {row.fault} | {_seen(row)} | {back} | {lost} | {doubled} |"


def _seen(row: Row) -> str:
    """Describe what gateways and probes saw."""
    seen = []
    if refused := row.statuses.get("503"):
        seen.append(f"{refused} × 503")
    if unanswered := row.statuses.get("none"):
        seen.append(f"{unanswered} × connection refused or lost")
    if not seen and row.statuses:
        seen.append("only 200")
    if row.slowest_answer_s:
        seen.append(f"slowest answer {row.slowest_answer_s} s")
    if row.unready_after_s is not None:
        seen.append(f"health 503 after {row.unready_after_s} s")
    if row.slowest_health_s:
        seen.append(f"slowest health {row.slowest_health_s} s")
    if row.note:
        seen.append(row.note)
    return "; ".join(seen)


if __name__ == "__main__":
    print(render(Path(sys.argv[1]) if len(sys.argv) > 1 else FILE))
