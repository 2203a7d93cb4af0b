"""Reads the database's clock for the clock of a process."""

from time import monotonic_ns

from app.clock import database_clock
from app.db.pool import Connection
from app.db.sql import SQL


async def follow_clock(connection: Connection) -> None:
    """Set this process's clock by the database's."""
    asked_ns = monotonic_ns()
    database_us = await connection.fetchval(SQL["get_clock"])
    database_clock.follow(database_us, asked_ns, monotonic_ns())
