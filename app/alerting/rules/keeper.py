"""The rules in force: read from their files, checked, kept in the database, and replaced when the files change.

A bad set of files, also an empty or missing folder, leaves the rules running that were accepted last, through a
restart too: an unmounted volume must not resolve every alert.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic

import msgspec
import structlog

from app.alerting.rules.matching import RuleBook
from app.alerting.rules.model import RuleSet, decode_rule_set, encode_rule_set
from app.alerting.rules.problems import RuleErrors, RuleProblem
from app.alerting.rules.sql import SQL
from app.db.locks import lock_evaluation
from app.db.pool import Connection, Pool
from app.metrics import Metrics

#: Editors write a file in several steps: wait so long after the last change.
SETTLE_S = 2.0
_LOOK_EVERY_S = 0.5
#: Ends alerts that no rule of the set is about any more, in the caller's transaction; returns how many.
EndUnruled = Callable[[Connection, RuleSet], Awaitable[int]]
#: Name, time of change in nanoseconds since 1970, and size of each.
Files = tuple[tuple[str, int, int], ...]
log = structlog.get_logger()


class RuleKeeper:
    """Holds the rules of this process."""

    def __init__(self, folder: Path, load: Callable[[], RuleSet], end_unruled: EndUnruled, metrics: Metrics) -> None:
        self.rules = RuleSet()
        self.book = RuleBook(self.rules)
        #: What is wrong with the files as they are now; the rules in force are then older ones.
        self.problems: tuple[RuleProblem, ...] = ()
        #: Since when each rule has been known, in microseconds since 1970.
        self.since: Mapping[str, int] = {}
        self._folder = folder
        #: Reads and checks the files; raises RuleErrors.
        self._load = load
        self._end_unruled = end_unruled
        self._metrics = metrics
        #: The files as they were read last; None: they are to be read again.
        self._read: Files | None = None
        self._reload_now = asyncio.Event()

    async def open(self, pool: Pool) -> None:
        """Take over the rules in force, then what the files say."""
        stored = await pool.fetchval(SQL["get_rule_set"])
        if stored is not None:
            self.since = {row["name"]: row["us"] for row in await pool.fetch(SQL["list_rules_since"])}
            try:
                self._use(decode_rule_set(stored))
            except msgspec.ValidationError as error:
                log.warning("stored_rules_unreadable", error=str(error))
        await self.reload(pool)

    def reload_soon(self) -> None:
        """Read the files again at once, as on SIGHUP."""
        self._reload_now.set()

    async def watch(self, pool: Pool) -> None:
        """Follow the files for ever, reading them again once they have been still for SETTLE_S."""
        seen, still_since = self._read, monotonic()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY_S):
                    await self._reload_now.wait()
            now_seen = await asyncio.to_thread(self._look)
            if now_seen != seen:
                seen, still_since = now_seen, monotonic()
            is_due = seen != self._read and monotonic() - still_since >= SETTLE_S
            if is_due or self._reload_now.is_set():
                self._reload_now.clear()
                await self.reload(pool)

    async def reload(self, pool: Pool) -> bool:
        """Read the files; return whether their rules are in force now.

        When the database is away they count as not read, so that `watch` tries again.
        """
        files = await asyncio.to_thread(self._look)
        self._read = None
        try:
            rules = await asyncio.to_thread(self._load)
        except RuleErrors as error:
            await self._note(pool, error.problems)
            log.error("rules_refused", problems=[str(problem) for problem in error.problems])
        else:
            await self._accept(pool, rules)
            await self._note(pool, ())
        self._read = files
        return not self.problems

    async def _note(self, pool: Pool, problems: tuple[RuleProblem, ...]) -> None:
        """Keep the problems, here and in the database, where other processes and the live feed read them."""
        self.problems = problems
        self._metrics.rule_problems.set(len(problems))
        await pool.execute(SQL["put_rule_problems"], [str(problem) for problem in problems])

    async def _accept(self, pool: Pool, rules: RuleSet) -> None:
        async with pool.acquire() as connection, connection.transaction():
            # An evaluation under way may go by the rules until now.
            await lock_evaluation(connection)
            await connection.execute(SQL["put_rule_set"], encode_rule_set(rules).decode())
            await connection.execute(SQL["sync_rules"], [rule.name for rule in rules.rules])
            ended = await self._end_unruled(connection, rules)
            self.since = {row["name"]: row["us"] for row in await connection.fetch(SQL["list_rules_since"])}
        self._use(rules)
        log.info("rules_accepted", rules=len(rules.rules), channels=len(rules.channels), episodes_ended=ended)

    def _use(self, rules: RuleSet) -> None:
        self.rules = rules
        self.book = RuleBook(rules)

    def _look(self) -> Files:
        """Describe the files by name, time of change and size; those that editors hide are none."""
        paths = [self._folder] if self._folder.is_file() else sorted(self._folder.glob("[!.]*.y*ml"))
        return tuple(_describe(path) for path in paths)


def _describe(path: Path) -> tuple[str, int, int]:
    try:
        found = path.stat()
    except OSError:
        return path.name, 0, 0
    return path.name, found.st_mtime_ns, found.st_size
