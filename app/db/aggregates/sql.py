"""The SQL statements of the aggregates, by name, and the scripts that make them."""

from pathlib import Path

from app.db.queries import load_queries

SQL = load_queries(Path(__file__).with_name("queries.sql"))
#: Over a table of old aggregates, `{relation}`.
REBUILD = load_queries(Path(__file__).with_name("rebuild.sql"))
#: For the Apache-2 edition alone.
ROLL_UP = load_queries(Path(__file__).with_name("roll_up.sql"))


def read_script(name: str) -> str:
    """Read one of the files in `relations/`, which create tables, views and policies."""
    return (Path(__file__).parent / "relations" / f"{name}.sql").read_text(encoding="utf-8")
