"""The probe of one process. It uses a connection of its own, so that it answers even if everything else hangs."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import get_args

import asyncpg
import msgspec
import structlog

from app.clock import database_clock
from app.db.clock import follow_clock
from app.db.edition import Edition
from app.db.migrations import MigrationError, list_pending
from app.db.pool import DATABASE_ERRORS, Connection, connect, cut_after
from app.health.sql import SQL
from app.health.work import HealthWarning, WarningKind, Work, list_work_warnings, read_work, warn_of_skew
from app.ingest.writer import Writer
from app.jobs import Jobs
from app.live.listener import Listener
from app.log import redact
from app.metrics import Metrics

#: Interval between two looks of the process itself, for the log and the metrics.
LOOK_EVERY_S = 5.0
#: An answer of the probe takes a little more than this at most; clients wait for 3 s.
ANSWER_S = 2.5
#: The database has this long to let the probe connect, and again for all questions of a look.
_ASK_S = 2.0
#: A flush that takes longer hangs. A flush of the largest upload takes a few seconds.
FLUSH_S = 10.0
#: Shorter warnings, such as that of a worker that restarts, are not logged.
SETTLED_S = 9.0
_ONLY_READS = "database: it only reads; it is a standby, or default_transaction_read_only is on"
#: The kind of all problems in the log; each warning has its own kind.
_PROBLEM = "problem"
#: Largest number of texts of one kind in a line of the log; further ones are only counted.
_SHOWN = 3
log = structlog.get_logger()


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one look; `problems` keep the process from its work."""

    problems: list[str]
    warnings: list[HealthWarning]
    rule_problems: list[str]
    has_leader: bool


class _Answer(msgspec.Struct, frozen=True):
    """The answer of the database: problems, and the state of the work or the error of reading it."""

    problems: list[str] = []
    work: Work | None = None
    unread: str | None = None


class Probe:
    """Looks at one process: whether it can work now, and what else needs attention."""

    edition: Edition

    def __init__(
        self,
        dsn: str,
        jobs: Jobs,
        metrics: Metrics,
        *,
        listener: Listener | None = None,
        writer: Writer | None = None,
        is_leader: Callable[[], bool] | None = None,
        replica_is_away: Callable[[], bool] = lambda: False,
        role: str | None = None,
    ) -> None:
        self.jobs = jobs
        self.metrics = metrics
        #: API only.
        self.listener = listener
        #: Worker only.
        self.is_leader = is_leader
        self._writer = writer
        self._replica_is_away = replica_is_away
        self._dsn = dsn
        #: Role of the sessions, see `connect`.
        self._role = role
        self._connection: Connection | None = None
        self._asking: asyncio.Task[_Answer] | None = None
        self._work: Work | None = None
        self._leads_since: float | None = None
        #: Kind -> time since which it holds; and the kinds that were logged.
        self._since: dict[str, float] = {}
        self._told: set[str] = set()

    async def look(self) -> Seen:
        """Return the present problems and warnings within ANSWER_S. Concurrent looks share the database queries."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask(), name="health")
        asking = self._asking  # another look may begin the next one meanwhile
        done, _ = await asyncio.wait({asking}, timeout=ANSWER_S)
        answer = asking.result() if done else _Answer(["database: does not answer in time"])
        self._work = answer.work or self._work
        seen = self._judge(answer)
        self._log_changes(seen, is_known=answer.work is not None)
        self.measure(seen)
        return seen

    async def watch(self) -> None:
        """Look once, and update the log and the metrics; a job calls this."""
        await self.look()

    def close(self) -> None:
        """Close the connection; no look may follow."""
        if self._asking is not None:
            self._asking.cancel()
        self._drop()

    def measure(self, seen: Seen | None = None) -> None:
        """Set the gauges that change with time alone, and with `seen` also the others."""
        metrics = self.metrics
        metrics.clock_skew_seconds.set(database_clock.skew_s())
        if self._writer is not None:
            metrics.flush_age_seconds.set(self._writer.oldest_flush_s)
        if self.is_leader is not None:
            if not self.is_leader():
                self._leads_since = None
            elif self._leads_since is None:
                self._leads_since = monotonic()
            metrics.lease_held.set(self._leads_since is not None)
            metrics.lease_age_seconds.set(0.0 if self._leads_since is None else monotonic() - self._leads_since)
        if seen is not None:
            metrics.ready.set(not seen.problems)
            kinds = {warning.kind for warning in seen.warnings}
            for kind in get_args(WarningKind):
                metrics.warnings.labels(kind).set(kind in kinds)
        if seen is not None and self._work is not None:
            metrics.last_evaluation_seconds.set(self._work.evaluated_at.timestamp())
            metrics.dirty_rows.set(self._work.dirty_rows)
            metrics.dirty_oldest_seconds.set(self._work.dirty_oldest_s)

    async def _ask(self) -> _Answer:
        """Ask the database; a connection that fails or is too slow is replaced by the next look."""
        try:
            async with asyncio.timeout(_ASK_S):
                connection = await self._connected()
            with cut_after(connection, _ASK_S):
                return await self._question(connection)
        except asyncpg.ReadOnlySQLTransactionError:
            self._drop()
            return _Answer([_ONLY_READS])
        except MigrationError as error:
            return _Answer([f"migrations: {error}"])
        except DATABASE_ERRORS as error:
            self._drop()
            return _Answer([f"database: does not answer ({type(error).__name__})"])

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.is_closed():
            # The server ends a query that waits for a lock, so that the answers of the other queries can be used.
            self._connection = await connect(
                self._dsn,
                writes=False,
                role=self._role,
                application_name="tidegauge health",
                lock_timeout="500ms",
                statement_timeout="1s",
            )
        return self._connection

    async def _question(self, connection: Connection) -> _Answer:
        await follow_clock(connection)
        if await connection.fetchval(SQL["is_read_only"]):
            self._drop()  # the next connection may reach a server that writes
            return _Answer([_ONLY_READS])
        if pending := await list_pending(connection):
            return _Answer([f"migrations: {name} is not applied" for name in pending])
        try:
            return _Answer(work=await read_work(connection, self.edition))
        except DATABASE_ERRORS as error:  # nothing shows that readings cannot be stored or read
            return _Answer(unread=redact(f"{type(error).__name__}: {error}"))

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    def _judge(self, answer: _Answer) -> Seen:
        work = answer.work
        problems = [*answer.problems, *self._list_process_problems()]
        warnings = [] if work is None else list_work_warnings(work)
        if answer.unread is not None:
            text = f"database: it answers, but the state of the work could not be read ({answer.unread})"
            warnings.append(HealthWarning("not_known", text))
        return Seen(
            problems=problems,
            warnings=[*warnings, *self._list_process_warnings()],
            rule_problems=[] if work is None else work.rule_problems,
            has_leader=work is not None and work.has_leader,
        )

    def _list_process_problems(self) -> list[str]:
        problems = []
        if self.listener is not None and not self.listener.is_healthy:
            problems.append("listener: the live feed is not being followed")
        if self._writer is not None:
            problems += self._list_flush_problems(self._writer)
        return problems + self.jobs.list_problems()

    def _list_flush_problems(self, writer: Writer) -> list[str]:
        """Describe flushes that hang or fail.

        A failure counts until a later flush or beat has succeeded. A flush that only takes long, such as one
        with a hundred thousand new sensors, does not stop the beats.
        """
        long_s = writer.oldest_flush_s
        if long_s > FLUSH_S and not self.jobs.succeeded_since("beat", monotonic() - long_s):
            return [f"flush: one is under way for {long_s:.0f} s; uploads are not stored"]
        failure = writer.failure
        if failure is None or self.jobs.succeeded_since("beat", failure.at):
            return []
        return [f"flush: the last one failed, and nothing was stored since: {redact(failure.error)}"]

    def _list_process_warnings(self) -> list[HealthWarning]:
        warnings = [HealthWarning("job_failing", text) for text in self.jobs.list_warnings()]
        if self._replica_is_away():
            text = "replica: the database at READ_DATABASE_URL does not answer; reads go to that at DATABASE_URL"
            warnings.append(HealthWarning("replica_away", text))
        return warnings + warn_of_skew()

    def _log_changes(self, seen: Seen, is_known: bool) -> None:
        """Log the beginning and the end of problems, at once, and of warnings that have held for SETTLED_S.

        While the state of the database is not known, the warnings about it stay.
        """
        held = _group(seen)
        for kind in self._since.keys() - held.keys():
            if is_known or kind in (_PROBLEM, "not_known"):
                self._log_end(kind)
        for kind, text in held.items():
            since = self._since.setdefault(kind, monotonic())
            if kind not in self._told and (kind == _PROBLEM or monotonic() - since >= SETTLED_S):
                self._log_begin(kind, text)

    def _log_begin(self, kind: str, text: str) -> None:
        self._told.add(kind)
        if kind == _PROBLEM:
            log.error("process_unready", text=text)
        else:
            log.warning("health_warning_began", kind=kind, text=text)

    def _log_end(self, kind: str) -> None:
        del self._since[kind]
        if kind not in self._told:
            return
        self._told.discard(kind)
        if kind == _PROBLEM:
            log.info("process_ready_again")
        else:
            log.info("health_warning_ended", kind=kind)


def _group(seen: Seen) -> Mapping[str, str]:
    """Return the texts by kind; all problems are of one kind."""
    texts: dict[str, list[str]] = {_PROBLEM: seen.problems} if seen.problems else {}
    for warning in seen.warnings:
        texts.setdefault(warning.kind, []).append(warning.text)
    return {kind: "; ".join(_shorten(found)) for kind, found in texts.items()}


def _shorten(texts: Sequence[str]) -> list[str]:
    """Return the first texts, and how many more there are."""
    return list(texts) if len(texts) <= _SHOWN else [*texts[:_SHOWN], f"and {len(texts) - _SHOWN} more"]
