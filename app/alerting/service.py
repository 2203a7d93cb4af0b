"""Alerting as a whole: what the scheduler calls, on the one process that holds the lease."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from time import monotonic, perf_counter

import msgspec
import structlog

from app.alerting.evaluation.evaluator import Evaluation, evaluate
from app.alerting.evaluation.no_data import end_silences, watch_silence
from app.alerting.evaluation.progress import EvaluationProgress
from app.alerting.evaluation.rule_changes import end_unruled
from app.alerting.language.channel_secrets import MissingSecretError, resolve_fields
from app.alerting.language.files import load_checked
from app.alerting.rules.keeper import RuleKeeper
from app.alerting.rules.model import ChannelDefinition, RuleSet
from app.alerting.telling.links import Addresses
from app.alerting.telling.planner import compose, plan
from app.clock import SECOND_US, now_us
from app.db.locks import lock_evaluation
from app.db.pool import Connection, Pool
from app.metrics import Metrics
from app.notify.channels import Channel, ChannelConfigError, parse_config
from app.notify.outbox import Composed
from app.notify.transport import ChannelConfig, Endpoints
from app.problems import is_database_away
from app.settings import Settings

#: How often what is told is compared with what is true when no episode changed: holds end by the clock.
PLAN_EVERY_S = 5.0
#: So long without an evaluation, and ingest counts as broken.
BREAK_US = 30 * SECOND_US
log = structlog.get_logger()


class LastEvaluation(msgspec.Struct, frozen=True):
    """The newest evaluation of this process."""

    at: datetime
    seconds: float
    pairs: int
    replayed: int


def make_rule_keeper(settings: Settings, metrics: Metrics) -> RuleKeeper:
    """Make the keeper of the rules in RULES_DIR."""
    folder = settings.rules_dir
    return RuleKeeper(folder, lambda: load_checked(folder, settings), end_unruled, metrics)


class Alerting:
    """Rules, evaluation, planning and the watch over silence."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.keeper = make_rule_keeper(settings, metrics)
        self.last_evaluation: LastEvaluation | None = None
        self.endpoints = Endpoints(settings.slack_webhook_prefix, settings.telegram_api_base)
        #: Called when the outbox got something to send.
        self.on_due: Callable[[], None] = lambda: None
        self._settings = settings
        self._addresses = Addresses(settings.public_url, settings.grafana_url)
        self._metrics = metrics
        self._planned_at = float("-inf")
        self._progress = EvaluationProgress()
        self._term = 0
        #: Since when ingest has run without a break, in microseconds since 1970.
        self.ingest_since_us = now_us()
        self._warnings: Mapping[str, str] = {}
        self._ticked_us = now_us()
        self._channels: tuple[RuleSet, dict[str, tuple[Channel, ChannelConfig]]] | None = None

    async def tick(self, pool: Pool, term: int) -> None:
        """Evaluate all that is new, then plan; each round is one transaction.

        `term` counts the times that this process became the leader: between two, another may have evaluated.
        """
        if term != self._term:
            self._progress.forget()
            self._term = term
        self._notice_break()
        try:
            while await self._round(pool):
                pass
        except BaseException as error:
            self._progress.forget()
            if is_database_away(error):
                self.ingest_since_us = now_us()  # nothing could be stored: nobody was silent
            raise

    async def watch_silence(self, pool: Pool) -> None:
        """Look for series that fell silent or came back, and tell of it in the same transaction."""
        due = False
        self._notice_break()
        async with pool.acquire() as connection, connection.transaction():
            await lock_evaluation(connection)
            found = await watch_silence(connection, self.keeper.book, self.ingest_since_us)
            if found.changes:
                due = await self._plan(connection)
        self._warnings = found.warnings
        if due:
            self.on_due()

    def _notice_break(self) -> None:
        """Count silence anew when nothing could be stored for a while: the database was away, or this machine asleep.

        It is noticed by ticks that did not come, or failed; a process that has just become the leader cannot know.
        """
        if now_us() - self._ticked_us > BREAK_US:
            self.ingest_since_us = self._ticked_us = now_us()

    async def compose(self, connection: Connection, channel: str, group_key: str, at_once: bool) -> Composed | None:
        """Write what is true for a group now, for the dispatcher."""
        return await compose(connection, self.keeper.rules, self._addresses, channel, group_key, at_once)

    def channels(self) -> Mapping[str, tuple[Channel, ChannelConfig]]:
        """Give the channels of the rules in force with their secrets; one that lacks any is left out, and logged."""
        rules = self.keeper.rules
        if self._channels is None or self._channels[0] is not rules:
            usable = {}
            for channel in rules.channels:
                if (opened := self._open_channel(channel)) is not None:
                    usable[channel.name] = opened
            self._channels = (rules, usable)
        return self._channels[1]

    def warnings_of(self, rule: str) -> list[str]:
        """Say what keeps a rule's watch over silence from working as meant, as far as this process has looked."""
        return [self._warnings[rule]] if rule in self._warnings else []

    def fallbacks(self, channel: str) -> Sequence[str]:
        """Name the channels that may tell of a broken one: those told of the same first, then all."""
        rules = self.keeper.rules
        together = [name for rule in rules.rules if channel in rule.terms.notify for name in rule.terms.notify]
        everyone = [each.name for each in rules.channels]
        return [name for name in dict.fromkeys((*together, *everyone)) if name != channel]

    async def _round(self, pool: Pool) -> bool:
        """Take one helping of dirty rows; return whether there may be more."""
        started, due = perf_counter(), False
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("SET LOCAL idle_in_transaction_session_timeout = '60s'")
            evaluation = await evaluate(connection, self.keeper.book, self.keeper.since, self._progress)
            back = await end_silences(connection, evaluation.series_ids) if evaluation.dirty_rows else 0
            if evaluation.changes or back or monotonic() - self._planned_at > PLAN_EVERY_S:
                due = await self._plan(connection)
        self._ticked_us = now_us()
        if due:
            self.on_due()
        if evaluation.dirty_rows:
            self._note(evaluation, perf_counter() - started)
        return evaluation.dirty_rows > 0

    async def _plan(self, connection: Connection) -> bool:
        """Fill the outbox; return whether it has something to send once this is committed."""
        self._planned_at = monotonic()
        return await plan(connection, self.keeper.rules) > 0

    def _note(self, evaluation: Evaluation, seconds: float) -> None:
        self.last_evaluation = LastEvaluation(
            datetime.now(UTC), round(seconds, 6), evaluation.pairs, evaluation.replayed
        )
        self._metrics.evaluation_seconds.observe(seconds)
        log.info(
            "rules_evaluated",
            pairs=evaluation.pairs,
            replayed=evaluation.replayed,
            changes=len(evaluation.changes),
            seconds=round(seconds, 4),
        )
        for change in evaluation.changes:
            log.info(
                f"alert_{change.transition}",
                id=change.episode_id,
                rule=change.rule,
                series=change.series_id,
                severity=change.level,
            )

    def _open_channel(self, channel: ChannelDefinition) -> tuple[Channel, ChannelConfig] | None:
        try:
            fields = resolve_fields(channel.fields, self._settings.environment)
            return parse_config(channel.type, fields, self.endpoints)
        except (MissingSecretError, ChannelConfigError) as error:
            log.error("channel_unusable", channel=channel.name, error=str(error))
            return None
