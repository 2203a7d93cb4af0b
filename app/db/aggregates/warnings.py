"""Warnings in words about work that the database does not do, although readings are taken and answers are right."""

from datetime import timedelta

import asyncpg

from app.db.aggregates.sql import ROLL_UP, SQL
from app.db.edition import Edition
from app.db.pool import Connection

#: Past this the rolled-up tables are behind; usually they end ten minutes ago.
_LAG = timedelta(minutes=30)


async def list_warnings(connection: Connection, edition: Edition) -> list[str]:
    """Return the warnings that `/health/ready` and `tidegauge doctor` share."""
    if edition == "community":
        return [_describe_policy(row) for row in await connection.fetch(SQL["list_overdue_policies"])]
    watermark = await connection.fetchrow(ROLL_UP["get_watermark"])
    return [] if watermark is None or watermark["lag"] < _LAG else [_describe_lag(watermark)]


def _describe_policy(row: asyncpg.Record) -> str:
    since = f"since {row['succeeded_at']:%Y-%m-%d %H:%M} UTC" if row["has_succeeded"] else "yet"
    return (
        f"TimescaleDB job {row['job_id']} ({row['proc_name']} of {row['relation']}) fails or does not run: no success "
        f"{since}. Tidegauge does its work meanwhile"
    )


def _describe_lag(row: asyncpg.Record) -> str:
    text = f"The rolled-up tables are {row['lag'].total_seconds() / 60:.0f} minutes behind, which makes trends slow"
    if row["xact_start"] is None:
        return text
    return (
        f"{text}. They wait for transactions that have written something; server process {row['pid']} has had one "
        f"open since {row['xact_start']:%Y-%m-%d %H:%M} UTC"
    )
