"""Alerts as the API lists them: with their values, the channels that were told, and the messages about them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, cast

import asyncpg
import msgspec

from app.alerting.conditions import farthest
from app.alerting.episodes.reasons import RETRACTED
from app.alerting.listing.sql import SQL
from app.alerting.rules.matching import terms_for
from app.alerting.rules.model import Rule, RuleSet, Terms
from app.alerting.rules.mutes import MuteWindow, muted_until
from app.clock import from_us, now, to_us
from app.db.pool import Connection, Pool
from app.model import Tags
from app.paging import cut_page, parse_time_cursor, time_cursor
from app.parameters import check_text

_END_OF_TIME = datetime(9999, 1, 1, tzinfo=UTC)
#: Messages of each channel about one alert: in a list the newest alone.
_MESSAGES_IN_LISTS = 1
_MESSAGES_OF_ONE_ALERT = 200


class StepItem(msgspec.Struct, frozen=True):
    """A level of an alert and the time at which the alert reached it."""

    level: str
    at: datetime


class ToldChannel(msgspec.Struct, frozen=True):
    """The last message about an alert to a channel, with its time."""

    channel: str
    told: Literal["firing", "resolved"]
    level: str
    at: datetime


class MessageItem(msgspec.Struct, frozen=True):
    """A message about an alert, and whether it was sent; the outbox has its text and its attempts under `id`."""

    id: int
    channel: str
    #: What it tells of the alert, such as `firing`, `resolved` or `reminder`.
    kind: str
    level: str
    #: `dead`: given up; `failed`: was dead and has been sent again; `sending`: also between attempts.
    state: Literal["sending", "sent", "dead", "failed"]
    error: str | None
    finished_at: datetime | None


class ActionItem(msgspec.Struct, frozen=True):
    """What a person did about an alert."""

    action: Literal["ack", "close", "silence", "extend", "unsilence"]
    at: datetime
    #: The name that was given, else the label of the API key.
    by: str
    #: The label of the API key.
    key: str
    note: str
    #: The level that was acknowledged or closed.
    level: str | None
    #: The end of the silence.
    until: datetime | None


class AlertItem(msgspec.Struct, frozen=True):
    """One alert: a threshold episode of a rule and a series, missing data, or the wrong clock of a gateway.

    The times of an episode are times of readings.
    """

    id: int
    rule: str
    kind: Literal["threshold", "no_data", "clock"]
    sensor: str | None
    metric: str | None
    gateway: str | None
    tags: Tags
    unit: str | None
    level: str
    state: Literal["firing", "resolved", "retracted"]
    started_at: datetime
    fired_at: datetime
    resolved_at: datetime | None
    #: Why the alert ended or was retracted; null if its readings ended it. Of a clock: what is wrong.
    reason: str | None
    merged_into: int | None
    #: What the rule compares: the newest within the alert.
    value: float | None
    #: What the rule compared when the alert fired; null for missing data.
    fired_value: float | None
    #: What the rule compared farthest past the threshold; null for missing data and without an open side.
    peak: float | None
    #: The condition of the level: a keyword such as `above`, and its number or [low, high].
    condition: str | None
    threshold: Any
    steps: list[StepItem]
    first_known_at: datetime
    acked_by: str | None
    acked_at: datetime | None
    acked_level: str | None
    #: Who closed it by hand, when and why; a rise of its level opens it again.
    closed_at: datetime | None
    closed_by: str | None
    closed_note: str | None
    #: Of an open alert whose rule has a mute window now: the end of that window.
    muted_until: datetime | None
    #: What people did about it, in order.
    actions: list[ActionItem]
    #: What each channel was told of it last; empty while nobody was told.
    told: list[ToldChannel]
    #: The messages about it, the newest first; in lists the newest of each channel alone.
    messages: list[MessageItem]


class AlertPage(msgspec.Struct, frozen=True):
    """A page of alerts, the newest first."""

    items: list[AlertItem]
    next: str | None


class AlertQuery(msgspec.Struct, frozen=True):
    """Which alerts to list."""

    only_open: bool
    rule: str | None
    sensor: str | None
    limit: int
    cursor: str | None


async def list_page(pool: Pool, rules: RuleSet, query: AlertQuery) -> AlertPage:
    """Return a page of alerts as of one moment. Raises InvalidRequestError."""
    for name, text in (("rule", query.rule), ("sensor", query.sensor)):
        check_text(name, text or "")
    before, before_id = parse_time_cursor(query.cursor, (_END_OF_TIME, 0))
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        rows = await connection.fetch(
            SQL["list_alert_ids"], query.only_open, before, before_id, query.limit + 1, query.rule, query.sensor
        )
        page, next_cursor = cut_page(rows, query.limit, lambda row: time_cursor(to_us(row["fired_at"]), row["id"]))
        return AlertPage(await _load(connection, rules, [row["id"] for row in page], _MESSAGES_IN_LISTS), next_cursor)


async def find_alert(pool: Pool, rules: RuleSet, alert_id: int) -> AlertItem | None:
    """Return an alert, open or past, with all messages about it, or None."""
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        alerts = await _load(connection, rules, [alert_id], _MESSAGES_OF_ONE_ALERT)
    return alerts[0] if alerts else None


async def _load(connection: Connection, rules: RuleSet, ids: Sequence[int], messages_each: int) -> list[AlertItem]:
    """Return alerts by id, the newest first, with some messages of each channel."""
    by_name = {rule.name: rule for rule in rules.rules}
    told = _by_alert(await connection.fetch(SQL["list_told"], ids))
    actions = _by_alert(await connection.fetch(SQL["list_actions"], ids))
    messages = _by_alert(await connection.fetch(SQL["list_messages"], ids, messages_each))
    rows = await connection.fetch(SQL["list_alerts"], ids)
    return [
        _alert(
            row,
            by_name.get(row["rule"]),
            [msgspec.convert(each, ActionItem) for each in actions.get(row["id"], ())],
            [msgspec.convert(each, ToldChannel) for each in told.get(row["id"], ())],
            [msgspec.convert(each, MessageItem) for each in messages.get(row["id"], ())],
        )
        for row in rows
    ]


def _by_alert(rows: Sequence[asyncpg.Record]) -> Mapping[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        facts = dict(row)
        found.setdefault(facts.pop("episode_id"), []).append(facts)
    return found


def _alert(
    row: asyncpg.Record,
    rule: Rule | None,
    actions: list[ActionItem],
    told: list[ToldChannel],
    messages: list[MessageItem],
) -> AlertItem:
    computed = ("state", "peak", "steps", "muted_until", "actions", "told", "messages")
    fields = {name: row[name] for name in AlertItem.__struct_fields__ if name not in computed}
    retracted = row["reason"] == RETRACTED
    is_open = row["resolved_at"] is None and not row["is_closed"] and not retracted
    terms = _terms(row, rule)
    return AlertItem(
        **fields,
        state="retracted" if retracted else "firing" if is_open else "resolved",
        peak=_peak(row, terms),
        steps=[StepItem(level, from_us(us)) for level, us in row["steps"]],
        muted_until=end_of_mute(terms.mute) if is_open and terms is not None else None,
        actions=actions,
        told=told,
        messages=messages,
    )


def end_of_mute(windows: Sequence[MuteWindow]) -> datetime | None:
    """Return when the mute that holds now ends, or None if none does."""
    until_us = muted_until(windows, to_us(now())) if windows else None
    return None if until_us is None else from_us(until_us)


def _terms(row: asyncpg.Record, rule: Rule | None) -> Terms | None:
    """Return the terms of a rule for the alert's series or gateway, or None if the rule does not select it."""
    if rule is None or rule.offline is not None:
        return None if rule is None else rule.terms
    if row["sensor"] is None:
        return None
    return terms_for(rule, row["sensor"], row["metric"], row["tags"], row["gateway"])


def _peak(row: asyncpg.Record, terms: Terms | None) -> float | None:
    """Return what the rule compared farthest past the threshold, as stored or, for an old alert, from its readings."""
    if row["peak"] is not None or row["lowest"] is None or terms is None or not terms.levels:
        return cast("float | None", row["peak"])
    if row["value_kind"] != "last" or row["kind"] != "threshold":
        return None
    return farthest(terms.levels[0].condition, float(row["lowest"]), float(row["highest"]))
