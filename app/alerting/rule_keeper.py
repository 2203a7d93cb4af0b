"""The rules in force: read from their files, checked, kept in the database, and replaced when the files change.

A bad set of files, also an empty or missing folder, leaves the rules running that were accepted last, through a
restart too: an unmounted volume must not resolve every alert.
"""

import asyncio
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic

import msgspec
import structlog

from app.alerting.alert_feed import RULE_REMOVED, UNSELECTED, end_alerts
from app.alerting.evaluator import SQL
from app.alerting.language.loading import load_checked
from app.alerting.language.problems import RuleErrors, RuleProblem
from app.alerting.matching import RuleBook
from app.alerting.rules import RuleSet, decode_rule_set, encode_rule_set
from app.db.pool import Connection, Pool
from app.metrics import Metrics
from app.settings import Settings

#: Editors write a file in several steps: wait so long after the last change.
SETTLE_S = 2.0
_LOOK_EVERY_S = 0.5
#: Name, time of change in nanoseconds since 1970, and size of each.
Files = tuple[tuple[str, int, int], ...]
log = structlog.get_logger()


class RuleKeeper:
    """Holds the rules of this process."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.rules = RuleSet()
        self.book = RuleBook(self.rules)
        #: What is wrong with the files as they are now; the rules in force are then older ones.
        self.problems: tuple[RuleProblem, ...] = ()
        #: Since when each rule has been known, in microseconds since 1970.
        self.since: Mapping[str, int] = {}
        self._settings = settings
        self._metrics = metrics
        self._folder = settings.rules_dir
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
            rules = await asyncio.to_thread(load_checked, self._folder, self._settings)
        except RuleErrors as error:
            self._note(error.problems)
            log.error("rules_refused", problems=[str(problem) for problem in error.problems])
        else:
            await self._accept(pool, rules)
            self._note(())
        self._read = files
        return not self.problems

    def _note(self, problems: tuple[RuleProblem, ...]) -> None:
        self.problems = problems
        self._metrics.rule_problems.set(len(problems))

    async def _accept(self, pool: Pool, rules: RuleSet) -> None:
        names = [rule.name for rule in rules.rules]
        async with pool.acquire() as connection, connection.transaction():
            # An evaluation under way may go by the rules until now.
            await connection.execute(SQL["lock_evaluation"])
            encoded = encode_rule_set(rules)
            await connection.execute(SQL["put_rule_set"], encoded.decode())
            await connection.execute(SQL["sync_rules"], names)
            ended = await _list_ended(connection, names, RuleBook(rules))
            await end_alerts(connection, ended)
            await connection.execute(SQL["delete_unruled_states"], names)
            self.since = {row["name"]: row["us"] for row in await connection.fetch(SQL["list_rules_since"])}
        self._use(rules)
        log.info("rules_accepted", rules=len(rules.rules), channels=len(rules.channels), episodes_ended=len(ended))

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


async def _list_ended(connection: Connection, names: Collection[str], book: RuleBook) -> dict[int, str | None]:
    """Find the open alerts whose rule is gone, or is about their series no more, and say which."""
    ended: dict[int, str | None] = {}
    for row in await connection.fetch(SQL["list_open_alerts"]):
        if row["rule"] not in names:
            ended[row["id"]] = RULE_REMOVED
            continue
        matches = book.matches(row["sensor"], row["metric"], row["tags"], row["gateway"])
        if all(match.rule.name != row["rule"] for match in matches):
            ended[row["id"]] = UNSELECTED
    return ended
