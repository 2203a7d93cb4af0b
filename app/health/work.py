"""State of the work on the database, and the warnings that follow from it, for probes, metrics, log and doctor."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Literal

import msgspec

from app.clock import database_clock
from app.db.aggregates import list_warnings
from app.db.edition import Edition
from app.db.lease import is_held
from app.db.pool import Connection
from app.health.sql import SQL

#: Rules are evaluated every second, and a round of a large backlog takes a few.
EVALUATED_S = 30.0
#: A row of `dirty` is evaluated within seconds.
BACKLOG_S = 60.0
#: A message is sent within seconds, and within a minute where a service asks to be called less often.
UNSENT_S = 120.0
SKEW_S = 2.0
#: Rows of `dirty` beyond these are not counted.
COUNTED_ROWS = 100_000

#: Sensors whose names two gateways use, of which as many are named, and as many are counted.
SHARED_NAMES_SHOWN, SHARED_NAMES_READ = 3, 1_000

WarningKind = Literal[
    "worker_missing",
    "evaluation_stopped",
    "evaluation_behind",
    "messages_waiting",
    "aggregates_behind",
    "worker_reports",
    "not_durable",
    "shared_names",
    "clock_skew",
    "replica_away",
    "job_failing",
    "not_known",
]


class HealthWarning(msgspec.Struct, frozen=True):
    """Something that needs attention although the process does its work."""

    kind: WarningKind
    text: str


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """The state of the work that other processes do, as of one moment. Ages are in seconds."""

    has_leader: bool
    evaluated_at: datetime
    evaluated_ago_s: float
    #: What the worker that holds the lease has reported.
    worker_warnings: Sequence[str]
    dirty_rows: int
    dirty_oldest_s: float
    unsent_oldest_s: float
    #: Errors in the current rule files.
    rule_problems: list[str]
    #: Settings of PostgreSQL that are off although acknowledged readings can be lost then.
    not_durable: Sequence[str]
    #: Sensors that two gateways send readings of: name, the gateway that registered it, and the other one.
    shared_names: Sequence[Sequence[str]]
    #: Policies of TimescaleDB that fail, or rolled-up tables that fall behind.
    aggregates: Sequence[str]


async def read_work(connection: Connection, edition: Edition) -> Work:
    """Read the state of the work from a migrated database."""
    row = await connection.fetchrow(SQL["get_work"], COUNTED_ROWS + 1, SHARED_NAMES_READ)
    assert row is not None  # noqa: S101 -- the migration inserts the row
    aggregates = await list_warnings(connection, edition)
    return Work(has_leader=await is_held(connection), aggregates=aggregates, **row)


def list_work_warnings(work: Work) -> list[HealthWarning]:
    """Return the warnings that follow from the state of the work."""
    return [
        *_warn_of_evaluation(work),
        *_warn_of_messages(work),
        *(HealthWarning("aggregates_behind", text) for text in work.aggregates),
        *(HealthWarning("worker_reports", text) for text in work.worker_warnings),
        *_warn_of_durability(work),
        *_warn_of_shared_names(work),
    ]


def warn_of_skew(machine: str = "this machine") -> list[HealthWarning]:
    """Return a warning if the wall clock differs from the clock of the database, which was read a moment ago."""
    skew_s = database_clock.skew_s()
    if abs(skew_s) <= SKEW_S:
        return []
    direction = "ahead of" if skew_s > 0 else "behind"
    text = (
        f"clock: that of {machine} is {abs(skew_s):.0f} s {direction} the database's. Readings, alerts and messages go "
        "by the database's; the times of log lines differ"
    )
    return [HealthWarning("clock_skew", text)]


def _warn_of_evaluation(work: Work) -> Iterator[HealthWarning]:
    if not work.has_leader:
        text = "worker: none runs, so rules are not evaluated and alerts not sent: start `tidegauge work`"
        yield HealthWarning("worker_missing", text)
    if work.evaluated_ago_s > EVALUATED_S:
        text = f"rules: nobody has evaluated them since {work.evaluated_at:%Y-%m-%d %H:%M:%S} UTC"
        yield HealthWarning("evaluation_stopped", text)
    if work.dirty_oldest_s > BACKLOG_S:
        more = "over " if work.dirty_rows > COUNTED_ROWS else ""
        text = (
            f"rules: {more}{min(work.dirty_rows, COUNTED_ROWS):,} flushes wait to be evaluated, the oldest for "
            f"{work.dirty_oldest_s:.0f} s"
        )
        yield HealthWarning("evaluation_behind", text)


def _warn_of_messages(work: Work) -> Iterator[HealthWarning]:
    if work.unsent_oldest_s > UNSENT_S:
        text = (
            f"messages: the oldest unsent alert message is due for {work.unsent_oldest_s:.0f} s; "
            "/api/v1/notifications/outbox lists it with the errors"
        )
        yield HealthWarning("messages_waiting", text)


def _warn_of_durability(work: Work) -> Iterator[HealthWarning]:
    if work.not_durable:
        names, verb = " and ".join(work.not_durable), "are" if len(work.not_durable) > 1 else "is"
        text = f"database: {names} {verb} off, so readings that were acknowledged are lost when it crashes"
        yield HealthWarning("not_durable", text)


def _warn_of_shared_names(work: Work) -> Iterator[HealthWarning]:
    names = work.shared_names
    if names:
        shown = [f"{name!r} by {owner!r} and {other!r}" for name, owner, other in names[:SHARED_NAMES_SHOWN]]
        more = len(names) - len(shown)
        listed = f"{', '.join(shown)}{f', and {more} more' if more else ''}"
        remedy = "give the key of one a --prefix, or set the owner of a sensor that has moved"
        text = f"sensors: two gateways send readings under one name: {listed}; {remedy}"
        yield HealthWarning("shared_names", text)
