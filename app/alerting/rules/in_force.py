"""The rules in force and the state of alerting as the API shows them, read from the database.

The rules are those of the worker, which is another process.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

import asyncpg
import msgspec
import structlog

from app.alerting.rules.model import RuleSet, decode_rule_set
from app.alerting.rules.sql import SQL
from app.clock import rfc3339, to_us
from app.db.pool import Connection, Pool

log = structlog.get_logger()


class LastEvaluation(msgspec.Struct, frozen=True):
    """The newest evaluation with new readings."""

    at: datetime
    seconds: float
    pairs: int
    replayed: int


class AlertingStatus(msgspec.Struct, frozen=True):
    """The state of the worker that holds the lease, or last held it."""

    last_evaluation: LastEvaluation | None
    #: Rule -> what keeps it from working as intended.
    rule_warnings: Mapping[str, Sequence[str]]
    #: The names of the channels that can be used.
    channels: Collection[str]
    #: Problems of the current rule files.
    problems: list[str]


class RulesInForce:
    """The rules in force, decoded again only after they changed."""

    def __init__(self) -> None:
        self._version: int | None = None
        self._rules = RuleSet()

    async def read(self, pool: Pool) -> RuleSet:
        """Return the rules that the worker accepted last; none if it never accepted any."""
        if await pool.fetchval(SQL["get_rule_set_version"]) != self._version:
            stored = await pool.fetchrow(SQL["get_rule_set"])
            if stored is not None:
                self._version = stored["version"]
                try:
                    self._rules = decode_rule_set(stored["rules"])
                except msgspec.ValidationError as error:  # a worker of another version has stored them
                    log.warning("stored_rules_unreadable", error=str(error))
        return self._rules


async def read_status(pool: Pool) -> AlertingStatus:
    """Return the status that a worker stored last."""
    row = await pool.fetchrow(SQL["get_worker_status"])
    assert row is not None  # noqa: S101 -- the migration inserts the row
    problems = [each["message"] for each in await pool.fetch(SQL["list_rule_problems"])]
    last = row["last_evaluation"]
    warnings = [*row["rule_warnings"].items(), *row["companion_warnings"].items()]
    warnings += [(each["rule"], _unknown(each)) for each in await pool.fetch(SQL["list_unknown_companions"])]
    return AlertingStatus(
        None if last is None else msgspec.convert(last, LastEvaluation),
        {rule: [text for name, text in warnings if name == rule] for rule, _ in warnings},
        {channel["name"] for channel in row["channels"]},
        problems,
    )


def _unknown(row: asyncpg.Record) -> str:
    """Return the warning that a second metric is not known, so that its condition counts as met."""
    others = f" and {row['n'] - 1} more" if row["n"] > 1 else ""
    since = "was never seen" if row["since"] is None else f"unknown since {rfc3339(to_us(row['since']))}"
    return f"when: {row['metric']} {since} for {row['sensor']}{others}: the levels count without it"


async def store_last_evaluation(connection: Connection, last: LastEvaluation) -> None:
    """Store the newest evaluation in its transaction."""
    await connection.execute(SQL["put_last_evaluation"], msgspec.to_builtins(last))


async def note_evaluated(connection: Connection) -> None:
    """Note in the transaction of an evaluation that rules are evaluated now."""
    await connection.execute(SQL["note_evaluated"])


async def store_rule_warnings(connection: Connection, warnings: Mapping[str, str]) -> None:
    """Store the warnings about the `no_data` of rules, by rule, in the transaction of the check."""
    await connection.execute(SQL["put_rule_warnings"], dict(warnings))


async def store_status(pool: Pool, warnings: Sequence[str], channels: Mapping[str, str]) -> None:
    """Store warnings for the health probes, and the types of the channels that can be used, by name."""
    listed = [{"name": name, "type": channels[name]} for name in sorted(channels)]
    await pool.execute(SQL["put_worker_status"], list(warnings), listed)
