"""The alerting service: evaluation, checks for missing data and planning of messages.

The scheduler calls it in the process that holds the lease.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from time import monotonic, perf_counter

import msgspec
import structlog

from app.alerting.evaluation.evaluator import Evaluation, evaluate
from app.alerting.evaluation.no_data import end_no_data_alerts, update_no_data_alerts
from app.alerting.evaluation.progress import EvaluationProgress
from app.alerting.evaluation.rule_changes import end_alerts_without_rule
from app.alerting.language.channel_secrets import MissingSecretError, resolve_fields
from app.alerting.language.files import load_checked
from app.alerting.rules.keeper import RuleKeeper
from app.alerting.rules.model import ChannelDefinition, RuleSet
from app.alerting.telling.links import Addresses
from app.alerting.telling.planner import compose, plan
from app.clock import SECOND_US, now_us
from app.db.pool import Connection, Pool
from app.metrics import Metrics
from app.notify.channels import Channel, ChannelConfigError, parse_config
from app.notify.outbox import Composed
from app.notify.transport import ChannelConfig, Endpoints
from app.problems import is_database_away
from app.settings import Settings

#: Messages are planned at least this often, also when no episode changed, because silences and waits end by the clock.
PLAN_EVERY_S = 5.0
#: After this time without an evaluation, ingest counts as interrupted.
BREAK_US = 30 * SECOND_US
log = structlog.get_logger()


class LastEvaluation(msgspec.Struct, frozen=True):
    """The newest evaluation of this process."""

    at: datetime
    seconds: float
    pairs: int
    replayed: int


def make_rule_keeper(settings: Settings, metrics: Metrics) -> RuleKeeper:
    """Return a keeper of the rules in RULES_DIR."""
    folder = settings.rules_dir
    return RuleKeeper(folder, lambda: load_checked(folder, settings), end_alerts_without_rule, metrics)


class Alerting:
    """Rules, evaluation, checks for missing data and planning of messages in one process."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.keeper = make_rule_keeper(settings, metrics)
        self.last_evaluation: LastEvaluation | None = None
        self.endpoints = Endpoints(settings.slack_webhook_prefix, settings.telegram_api_base)
        #: Called after the commit of a message to the outbox.
        self.on_due: Callable[[], None] = lambda: None
        self._settings = settings
        self._addresses = Addresses(settings.public_url, settings.grafana_url)
        self._metrics = metrics
        self._planned_at = float("-inf")
        self._progress = EvaluationProgress()
        self._term = 0
        #: Time since which ingest has run without a break, in microseconds since 1970.
        self.ingest_since_us = now_us()
        self._warnings: Mapping[str, str] = {}
        self._ticked_us = now_us()
        self._channels: tuple[RuleSet, dict[str, tuple[Channel, ChannelConfig]]] | None = None

    async def tick(self, pool: Pool, term: int) -> None:
        """Evaluate all new readings and plan messages. Each round of dirty rows is one transaction.

        `term` counts how often this process became the leader. Between two terms, another process may have evaluated.
        """
        if term != self._term:
            self._progress.forget()
            self._term = term
        self._detect_break()
        try:
            while await self._round(pool):
                pass
        except BaseException as error:
            self._progress.forget()
            if is_database_away(error):
                self.ingest_since_us = now_us()  # no reading could be stored meanwhile
            raise

    async def watch_silence(self, pool: Pool) -> None:
        """Open and end alerts of missing data, and plan messages about them in the same transaction."""
        due = False
        self._detect_break()
        async with pool.acquire() as connection, connection.transaction():
            outcome = await update_no_data_alerts(connection, self.keeper.book, self.ingest_since_us)
            if outcome.changes:
                due = await self._plan(connection)
        self._warnings = outcome.warnings
        if due:
            self.on_due()

    def _detect_break(self) -> None:
        """Set `ingest_since_us` to now if there was no successful tick for BREAK_US.

        Then the database was away or this machine was asleep, so no reading could be stored. A process that has just
        become the leader cannot detect this.
        """
        if now_us() - self._ticked_us > BREAK_US:
            self.ingest_since_us = self._ticked_us = now_us()

    async def compose(self, connection: Connection, channel: str, group_key: str, at_once: bool) -> Composed | None:
        """Return the message about the current state of a group, or None if none is due. The dispatcher calls this."""
        return await compose(connection, self.keeper.rules, self._addresses, channel, group_key, at_once)

    def channels(self) -> Mapping[str, tuple[Channel, ChannelConfig]]:
        """Return the channels of the rules in force, with their secrets. Unusable channels are left out and logged."""
        rules = self.keeper.rules
        if self._channels is None or self._channels[0] is not rules:
            usable = {}
            for channel in rules.channels:
                if (configured := self._configure(channel)) is not None:
                    usable[channel.name] = configured
            self._channels = (rules, usable)
        return self._channels[1]

    def warnings_of(self, rule: str) -> list[str]:
        """Return the warnings about a rule's `no_data`, from the last check in this process."""
        return [self._warnings[rule]] if rule in self._warnings else []

    def fallbacks(self, channel: str) -> Sequence[str]:
        """Return the channels that may be told that a channel is broken: those of the same rules first, then all."""
        rules = self.keeper.rules
        of_same_rules = [name for rule in rules.rules if channel in rule.terms.notify for name in rule.terms.notify]
        all_names = [each.name for each in rules.channels]
        return [name for name in dict.fromkeys((*of_same_rules, *all_names)) if name != channel]

    async def _round(self, pool: Pool) -> bool:
        """Evaluate one batch of dirty rows and plan messages; return whether there may be more rows."""
        started, due = perf_counter(), False
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("SET LOCAL idle_in_transaction_session_timeout = '60s'")
            evaluation = await evaluate(connection, self.keeper.book, self.keeper.since, self._progress)
            ended = await end_no_data_alerts(connection, evaluation.series_ids) if evaluation.dirty_rows else 0
            if evaluation.changes or ended or monotonic() - self._planned_at > PLAN_EVERY_S:
                due = await self._plan(connection)
        self._ticked_us = now_us()
        if due:
            self.on_due()
        if evaluation.dirty_rows:
            self._record(evaluation, perf_counter() - started)
        return evaluation.dirty_rows > 0

    async def _plan(self, connection: Connection) -> bool:
        """Fill the outbox; return whether a group has a message to send after the commit."""
        self._planned_at = monotonic()
        return await plan(connection, self.keeper.rules) > 0

    def _record(self, evaluation: Evaluation, seconds: float) -> None:
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

    def _configure(self, channel: ChannelDefinition) -> tuple[Channel, ChannelConfig] | None:
        try:
            fields = resolve_fields(channel.fields, self._settings.environment)
            return parse_config(channel.type, fields, self.endpoints)
        except (MissingSecretError, ChannelConfigError) as error:
            log.error("channel_unusable", channel=channel.name, error=str(error))
            return None
