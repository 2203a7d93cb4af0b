"""The alerting service: evaluation, checks for missing data and planning of messages.

The scheduler calls it in the worker that holds the lease.
"""

from collections.abc import Callable, Mapping, Sequence
from time import monotonic, perf_counter

import structlog

from app.alerting.evaluation.evaluator import Evaluation, evaluate
from app.alerting.evaluation.progress import EvaluationProgress
from app.alerting.evaluation.rule_changes import end_alerts_without_rule
from app.alerting.evaluation.watching.gateway_clock import update_clock_alerts
from app.alerting.evaluation.watching.no_data import end_no_data_alerts, update_no_data_alerts
from app.alerting.evaluation.writing.episode_values import update_values
from app.alerting.language.files import load_checked
from app.alerting.rules.channel_secrets import ForbiddenReferenceError, MissingSecretError, resolve_fields
from app.alerting.rules.in_force import (
    LastEvaluation,
    note_evaluated,
    store_last_evaluation,
    store_rule_warnings,
    store_status,
)
from app.alerting.rules.keeper import RuleKeeper, RulesUnreadableError
from app.alerting.rules.model import ChannelDefinition, RuleSet
from app.alerting.telling.links import Addresses
from app.alerting.telling.planner import compose, plan
from app.clock import now
from app.db.lease import check_term
from app.db.pool import Connection, Pool
from app.db.rights.locks import lock_evaluation
from app.local_times import server_zone
from app.metrics import Metrics
from app.notify.channels import Channel, ChannelConfigError, parse_config
from app.notify.outbox import Composed
from app.notify.transport import ChannelConfig, Endpoints
from app.settings import Settings

#: Messages are planned at least this often, also when no episode changed, because silences and waits end by the clock.
PLAN_EVERY_S = 5.0
#: Longest time between two notes in the database that rules are evaluated, also without new readings.
NOTE_EVERY_S = 5.0
log = structlog.get_logger()


def make_rule_keeper(settings: Settings, metrics: Metrics) -> RuleKeeper:
    """Return a keeper of the rules in RULES_DIR, and of the channels in CHANNELS_DIR if it is set."""
    folders = [folder for folder in (settings.rules_dir, settings.channels_dir) if folder is not None]
    return RuleKeeper(folders, lambda: load_checked(settings.rules_dir, settings), end_alerts_without_rule, metrics)


class Alerting:
    """Rules, evaluation, checks for missing data and planning of messages in one process."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.keeper = make_rule_keeper(settings, metrics)
        self.endpoints = Endpoints(settings.slack_webhook_prefix, settings.telegram_api_base)
        #: Called after the commit of a message to the outbox.
        self.on_due: Callable[[], None] = lambda: None
        self._settings = settings
        self._addresses = Addresses(settings.public_url, settings.grafana_url, server_zone(settings.tz))
        self._metrics = metrics
        self._planned_at = self._noted_at = float("-inf")
        #: Called after each round of an evaluation, of which a large backlog takes many.
        self.on_round: Callable[[], None] = lambda: None
        self._progress = EvaluationProgress()
        self._term = 0
        self._channels: tuple[RuleSet, dict[str, tuple[Channel, ChannelConfig]]] | None = None

    async def tick(self, pool: Pool, term: int) -> None:
        """Evaluate all new readings and plan messages. Each round of dirty rows is one transaction.

        `term` is that of the lease. Between two terms of this process, another may have evaluated. Raise LeaseLostError
        if another process has taken the lease since.
        """
        if term != self._term:
            self._progress.forget()
            self._term, self._noted_at = term, float("-inf")
        try:
            while await self._round(pool):
                self.on_round()
        except BaseException:
            self._progress.forget()
            raise

    async def watch_silence(self, pool: Pool, term: int) -> None:
        """Open and end alerts of missing data and of clocks, and plan messages about them in the same transaction.

        `term` is that of the lease. Raise LeaseLostError if another process has taken it since.
        """
        due = False
        async with pool.acquire() as connection, connection.transaction():
            await self._begin(connection, term)
            outcome = await update_no_data_alerts(connection, self.keeper.book)
            if outcome.changes + await update_clock_alerts(connection):
                due = await self._plan(connection)
            await store_rule_warnings(connection, outcome.warnings)
        if due:
            self.on_due()

    def plan_soon(self) -> None:
        """Plan messages in the next tick, because somebody acknowledged or silenced an alert."""
        self._planned_at = float("-inf")

    async def report(self, pool: Pool, warnings: Sequence[str]) -> None:
        """Store the status of this process for the API: the channels that can be used, and these warnings."""
        types = {name: channel.TYPE for name, (channel, _) in self.channels().items()}
        await store_status(pool, warnings, types)

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

    def fallbacks(self, channel: str) -> Sequence[str]:
        """Return the channels that may be told that a channel is broken: those of the same rules first, then all."""
        rules = self.keeper.rules
        notified = [rule.terms.all_channels for rule in rules.rules]
        of_same_rules = [name for names in notified if channel in names for name in names]
        all_names = [each.name for each in rules.channels]
        return [name for name in dict.fromkeys((*of_same_rules, *all_names)) if name != channel]

    async def _round(self, pool: Pool) -> bool:
        """Evaluate one batch of dirty rows and plan messages; return whether there may be more to do."""
        started, due = perf_counter(), False
        async with pool.acquire() as connection, connection.transaction():
            await self._begin(connection, self._term)
            evaluation = await evaluate(connection, self.keeper.book, self.keeper.since, self._progress)
            if evaluation.dirty_rows or evaluation.changes:
                await update_values(connection, evaluation.news, self.keeper.book.value_of)
            ended = await end_no_data_alerts(connection, evaluation.series_ids) if evaluation.dirty_rows else 0
            if evaluation.changes or ended or monotonic() - self._planned_at > PLAN_EVERY_S:
                due = await self._plan(connection)
            if monotonic() - self._noted_at > NOTE_EVERY_S:
                await note_evaluated(connection)
                self._noted_at = monotonic()
            if evaluation.dirty_rows or evaluation.replayed:
                seconds = round(perf_counter() - started, 6)
                last = LastEvaluation(now(), seconds, evaluation.pairs, evaluation.replayed)
                await store_last_evaluation(connection, last)
        if due:
            self.on_due()
        if evaluation.dirty_rows or evaluation.replayed:
            self._record(evaluation, perf_counter() - started)
        return evaluation.dirty_rows > 0 or evaluation.rules_begin

    async def _begin(self, connection: Connection, term: int) -> None:
        """Keep other evaluations out until the transaction ends, and use the rules in force.

        Raise LeaseLostError if another process has taken the lease since this term began, and RulesUnreadableError.
        """
        await connection.execute("SET LOCAL idle_in_transaction_session_timeout = '60s'")
        await lock_evaluation(connection)
        await check_term(connection, term)
        await self.keeper.follow(connection)
        if not self.keeper.is_readable:
            raise RulesUnreadableError("The rules in force were stored by another version of Tidegauge")

    async def _plan(self, connection: Connection) -> bool:
        """Fill the outbox; return whether a group has a message to send after the commit."""
        self._planned_at = monotonic()
        return await plan(connection, self.keeper.rules) > 0

    def _record(self, evaluation: Evaluation, seconds: float) -> None:
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
            fields = resolve_fields(channel.fields, self._settings.channel_variables)
            return parse_config(channel.type, fields, self.endpoints)
        except (MissingSecretError, ForbiddenReferenceError, ChannelConfigError) as error:
            log.error("channel_unusable", channel=channel.name, error=str(error))
            return None
