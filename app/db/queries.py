"""Named SQL: each domain's `queries.sql` holds its statements, each under `-- name: verb_noun`."""

import re
from collections.abc import Mapping
from pathlib import Path

_NAME = re.compile(r"^-- name: (\w+)\s*$")


def load_queries(path: Path) -> Mapping[str, str]:
    """Read `queries.sql` into {name: statement}; raise ValueError for SQL without a name and for a repeated name."""
    queries: dict[str, list[str]] = {}
    lines: list[str] | None = None
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if match := _NAME.match(line):
            if match[1] in queries:
                raise ValueError(f"{path}:{number}: query {match[1]} is defined twice")
            lines = queries[match[1]] = []
        elif lines is not None:
            lines.append(line)
        elif line.strip() and not line.startswith("--"):
            raise ValueError(f"{path}:{number}: SQL before the first '-- name:' line")
    return {name: "\n".join(lines).strip().rstrip(";") for name, lines in queries.items()}
