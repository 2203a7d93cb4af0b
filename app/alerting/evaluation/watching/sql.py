"""SQL statements of the checks for missing data and for clocks, by name."""

from pathlib import Path

from app.db.queries import load_queries

SQL = load_queries(Path(__file__).with_name("queries.sql"))
