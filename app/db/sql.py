"""The SQL statements of migrations, aggregates, locks, the lease and the health checks, by name."""

from pathlib import Path

from app.db.queries import load_queries

SQL = load_queries(Path(__file__).with_name("queries.sql"))
