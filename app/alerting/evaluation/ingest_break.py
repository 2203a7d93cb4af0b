"""Breaks of ingest: times in which no upload could be taken, so that silence in them says nothing about a sensor."""

from app.alerting.evaluation.sql import SQL
from app.db.pool import Connection


async def read_ingest_since(connection: Connection) -> int:
    """Return since when uploads could be taken without a break, in microseconds since 1970; now during a break."""
    since_us: int = await connection.fetchval(SQL["get_ingest_since"])
    return since_us
