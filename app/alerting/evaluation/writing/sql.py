"""SQL statements of the writing of episodes, by name."""

from pathlib import Path

from app.db.queries import load_queries

SQL = load_queries(Path(__file__).with_name("queries.sql"))
