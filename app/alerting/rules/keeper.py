"""The rules in force: read from files, checked, stored in the database, and replaced when the files change.

Only the worker that holds the lease reads the files. All others follow the database. If the files are invalid, or their
folder is empty or missing, the last accepted rules stay in force, also after a restart: an unmounted volume must not
resolve every alert.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic

import msgspec
import structlog

from app.alerting.rules.matching import RuleBook
from app.alerting.rules.model import RuleSet, decode_rule_set, encode_rule_set
from app.alerting.rules.sql import SQL
from app.db.lease import LeaseLostError
from app.db.pool import Connection, Pool
from app.db.rights.locks import lock_evaluation
from app.errors import AppError
from app.metrics import Metrics
from app.yaml_files.problems import FileErrors, FileProblem

#: The files are read this long after their last change, because editors write a file in several steps.
SETTLE_S = 2.0
_LOOK_EVERY_S = 0.5
#: Ends the open alerts whose rule was removed or no longer selects their series; returns their number.
EndAlerts = Callable[[Connection, RuleSet], Awaitable[int]]
#: (path, time of change in nanoseconds since 1970, size in bytes) of each file.
Files = tuple[tuple[str, int, int], ...]
log = structlog.get_logger()


class RulesUnreadableError(AppError):
    """The rules in force were stored in a form that this version does not know, so it must not evaluate."""

    code = "rules_unreadable"
    title = "The stored rules cannot be read"


async def _is_alone(_connection: Connection | Pool) -> None:
    """Allow a process without a lease to put rules in force."""


class RuleKeeper:
    """Holds the rules of this process."""

    def __init__(
        self, folders: Sequence[Path], load: Callable[[], RuleSet], end_alerts: EndAlerts, metrics: Metrics
    ) -> None:
        self.rules = RuleSet()
        self.book = RuleBook(self.rules)
        #: Problems of the current files. If there are any, the rules in force are older than the files.
        self.problems: tuple[FileProblem, ...] = ()
        #: When each rule was first accepted, by name, in microseconds since 1970.
        self.since: Mapping[str, int] = {}
        #: Those of rules and of channels; each may also be one file.
        self._folders = folders
        #: Reads and checks the files; raises FileErrors.
        self._load = load
        self._end_alerts = end_alerts
        self._metrics = metrics
        #: The state of the files when they were last read; None: they must be read again.
        self._read_files: Files | None = None
        self._reload_now = asyncio.Event()
        #: Whether the rules in force in the database can be read; otherwise older rules or none are in use.
        self.is_readable = True
        #: Raises LeaseLostError if another process is the leader now: only the leader puts rules in force.
        self.check_leader: Callable[[Connection | Pool], Awaitable[None]] = _is_alone
        #: Version of the rules in use; None: there are none yet.
        self._version: int | None = None
        #: Set once the files have been read for the first time.
        self.has_read = asyncio.Event()

    async def open(self, pool: Pool) -> None:
        """Load the rules in force from the database, then read the files."""
        await self.follow(pool)
        await self.reload(pool)

    async def follow(self, connection: Connection | Pool) -> None:
        """Use the rules in force in the database, if they differ from those in use."""
        if await connection.fetchval(SQL["get_rule_set_version"]) == self._version:
            return
        stored = await connection.fetchrow(SQL["get_rule_set"])
        if stored is None:
            return
        since = {row["name"]: row["us"] for row in await connection.fetch(SQL["list_rules_since"])}
        # From here on without an await: another task must not find the new version with the old rules.
        try:
            rules = decode_rule_set(stored["rules"])
        except msgspec.ValidationError as error:
            self.is_readable, self._version = False, stored["version"]
            log.warning("stored_rules_unreadable", error=str(error))
            return
        self._use(rules, since, stored["version"])

    def reload_soon(self) -> None:
        """Let `watch` read the files again at once, as on SIGHUP."""
        self._reload_now.set()

    async def watch(self, pool: Pool, is_leader: Callable[[], bool]) -> None:
        """Read the files again whenever they changed and then stayed unchanged for SETTLE_S. Run until cancelled.

        A process that is not the leader reads no files. Once it becomes the leader, it reads them at once.
        """
        seen, unchanged_since = self._read_files, monotonic()
        while True:
            if not is_leader():
                self._read_files = None
                await asyncio.sleep(_LOOK_EVERY_S)
                continue
            if self._read_files is None:
                self.reload_soon()
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY_S):
                    await self._reload_now.wait()
            found = await asyncio.to_thread(self._list_files)
            if found != seen:
                seen, unchanged_since = found, monotonic()
            is_due = seen != self._read_files and monotonic() - unchanged_since >= SETTLE_S
            if is_due or self._reload_now.is_set():
                self._reload_now.clear()
                try:
                    await self.reload(pool)
                except LeaseLostError as error:
                    log.info("rules_not_accepted", error=str(error))
                    await asyncio.sleep(_LOOK_EVERY_S)

    async def reload(self, pool: Pool) -> bool:
        """Read the files; return whether their rules are now in force.

        If a database error is raised, the files count as not read, so that `watch` reads them again.
        """
        files = await asyncio.to_thread(self._list_files)
        self._read_files = None
        try:
            rules = await asyncio.to_thread(self._load)
        except FileErrors as error:
            await self.check_leader(pool)
            await self._set_problems(pool, error.problems)
            log.error("rules_refused", problems=[str(problem) for problem in error.problems])
        else:
            await self._accept(pool, rules)
            await self._set_problems(pool, ())
        self._read_files = files
        self.has_read.set()
        return not self.problems

    async def _set_problems(self, pool: Pool, problems: tuple[FileProblem, ...]) -> None:
        """Set the problems of the files, here and in the database, from which the live feed reads them."""
        self.problems = problems
        self._metrics.rule_problems.set(len(problems))
        # PostgreSQL cannot store NUL, which a rule file may hold.
        await pool.execute(
            SQL["put_rule_problems"], [str(problem).replace("\0", "\N{REPLACEMENT CHARACTER}") for problem in problems]
        )

    async def _accept(self, pool: Pool, rules: RuleSet) -> None:
        async with pool.acquire() as connection, connection.transaction():
            # A running evaluation uses the old rules, so wait until it has committed.
            await lock_evaluation(connection)
            await self.check_leader(connection)
            version = await connection.fetchval(SQL["put_rule_set"], encode_rule_set(rules).decode())
            await connection.execute(SQL["sync_rules"], [rule.name for rule in rules.rules])
            ended = await self._end_alerts(connection, rules)
            since = {row["name"]: row["us"] for row in await connection.fetch(SQL["list_rules_since"])}
        self._use(rules, since, version)
        log.info("rules_accepted", rules=len(rules.rules), channels=len(rules.channels), episodes_ended=ended)

    def _use(self, rules: RuleSet, since: Mapping[str, int], version: int) -> None:
        self.rules, self.since = rules, since
        self.book = RuleBook(rules)
        self.is_readable, self._version = True, version

    def _list_files(self) -> Files:
        """List the rule files without hidden ones, which editors create while they write."""
        paths = [
            path
            for folder in self._folders
            for path in ([folder] if folder.is_file() else sorted(folder.glob("[!.]*.y*ml")))
        ]
        return tuple(_describe(path) for path in paths)


def _describe(path: Path) -> tuple[str, int, int]:
    try:
        stat = path.stat()
    except OSError:
        return str(path), 0, 0
    return str(path), stat.st_mtime_ns, stat.st_size
