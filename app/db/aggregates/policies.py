"""Policies of the Community edition that TimescaleDB does not run: the lease holder does their work.

All background jobs fail on some PostgreSQL minor releases, and a managed server may run out of background workers.
"""

from collections.abc import Callable
from datetime import date, datetime, timedelta
from time import monotonic

import asyncpg
import structlog

from app.db.aggregates.continuous import refresh_level
from app.db.aggregates.levels import LEVELS, STATEMENT_TIMEOUT_S, AggregateLevel, first_safe_day
from app.db.aggregates.retention import find_raw_retention
from app.db.aggregates.sql import SQL
from app.db.pool import Connection

_REFRESH = "policy_refresh_continuous_aggregate"
_RETENTION = "policy_retention"
_LEVELS = {level.relation: level for level in LEVELS}
log = structlog.get_logger()


class OverduePolicies:
    """Runs policies that have failed or not succeeded for three of their intervals, each once an interval."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._ran_at: dict[int, float] = {}
        #: The error of each policy whose last run here failed, by `policy of relation`.
        self.errors: dict[str, str] = {}

    async def run(self, connection: Connection) -> list[str]:
        """Run what is overdue and return each that succeeded as `policy of relation`.

        One that fails, for example because TimescaleDB is trying it at the same moment, is tried again by the next
        call. Refreshes come first: when one fails, retention must not drop what is not materialised.
        """
        done = []
        self.errors = {}
        for job in await connection.fetch(SQL["list_overdue_policies"]):
            ran_at = self._ran_at.get(job["job_id"])
            if ran_at is not None and self._clock() - ran_at < job["schedule_interval"].total_seconds():
                continue
            if job["proc_name"] == _RETENTION and any(name.startswith(_REFRESH) for name in self.errors):
                continue
            started, name = self._clock(), f"{job['proc_name']} of {job['relation']}"
            try:
                await _run(connection, job)
            except asyncpg.PostgresError as error:
                self.errors[name] = str(error)
                log.warning("policy_failed", job=job["job_id"], policy=name, error=str(error))
            else:
                self._ran_at[job["job_id"]] = started
                done.append(name)
                log.info("policy_run_in_place_of_timescaledb", job=job["job_id"], policy=name)
        return done

    def list_warnings(self) -> list[str]:
        """Return what could not be done here either, in words."""
        return [f"{name} failed when Tidegauge ran it: {error}" for name, error in self.errors.items()]


async def _run(connection: Connection, job: asyncpg.Record) -> None:
    if job["proc_name"] == _REFRESH:
        await _refresh(connection, job)
    else:
        await connection.execute(f"CALL run_job({job['job_id']})", timeout=STATEMENT_TIMEOUT_S)


async def _refresh(connection: Connection, job: asyncpg.Record) -> None:
    """Refresh the policy's window, and before it all that is past the watermark.

    A refresh moves the watermark to the end of its window. What it leaves out before that would become invisible.
    """
    level = _LEVELS[job["relation"]]
    now: datetime = await connection.fetchval("SELECT now()")
    day = await _first_day(connection, level, now, job["start_offset"])
    while day <= now.date():
        await refresh_level(connection, level, day, level.refreshable_until(now))
        day += timedelta(days=1)


async def _first_day(connection: Connection, level: AggregateLevel, now: datetime, start_offset: timedelta) -> date:
    day = (now - start_offset).date()
    watermark = await connection.fetchval(SQL["get_continuous_watermark"], level.relation)
    if watermark is None:
        row = await connection.fetchrow(SQL["get_oldest_reading"], None)
        watermark = row["oldest"] if row is not None else None
    if watermark is not None:
        day = min(day, watermark.date())
    return max(day, first_safe_day(now, await find_raw_retention(connection)))
