"""Alerts, silences and rules over HTTP."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import asyncpg
import msgspec
from litestar import get, post
from litestar.di import NamedDependency
from litestar.openapi.spec import Example
from litestar.params import BodyKwarg, FromPath
from litestar.status_codes import HTTP_200_OK

from app.alerting.conditions.above import Above
from app.alerting.conditions.below import Below
from app.alerting.conditions.outside import Outside
from app.alerting.episodes.reasons import RETRACTED
from app.alerting.parameters import (
    PROBLEMS,
    RuleName,
    SensorName,
    check_name,
)
from app.alerting.rules.matching import terms_for
from app.alerting.rules.model import Rule, Terms, condition_text
from app.alerting.service import Alerting, LastEvaluation
from app.alerting.silence_routes import handlers as silence_handlers
from app.alerting.sql import SQL
from app.auth.guard import require
from app.clock import from_us, to_us
from app.db.pool import Pool
from app.durations import format_duration
from app.errors import ConflictError, NotFoundError
from app.model import Tags
from app.parameters import LARGEST_ID, Cursor, Limit, check_text, parse_time_cursor
from app.problems import problem_response

_END_OF_TIME = datetime(9999, 1, 1, tzinfo=UTC)


class StepItem(msgspec.Struct, frozen=True):
    """The level that an alert had from `at` on."""

    level: str
    at: datetime


class AlertItem(msgspec.Struct, frozen=True):
    """One alert: an episode of a rule and a series, or missing data. Its times are those of the readings."""

    id: int
    rule: str
    kind: Literal["threshold", "no_data"]
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
    #: Why it ended or was withdrawn, where its readings do not say so themselves.
    reason: str | None
    merged_into: int | None
    #: The newest value within it.
    value: float | None
    #: The value within it that was farthest past the threshold; null for rates and differences.
    peak: float | None
    #: A number, or [low, high].
    threshold: Any
    steps: list[StepItem]
    first_known_at: datetime
    acked_by: str | None
    acked_at: datetime | None
    acked_level: str | None


class AlertPage(msgspec.Struct, frozen=True):
    """Alerts, the newest first."""

    items: list[AlertItem]
    next: str | None


class AckRequest(msgspec.Struct, frozen=True):
    """Who takes care of it."""

    by: str


class RuleItem(msgspec.Struct, frozen=True):
    """A rule in force, and how it fares."""

    name: str
    sensors: dict[str, Any]
    value: str
    levels: dict[str, str]
    notify: list[str]
    series: int
    firing: dict[str, int]
    evaluated_to: datetime | None
    #: What keeps the rule from working as meant.
    warnings: list[str]


class RulesState(msgspec.Struct, frozen=True):
    """The rules in force; `problems` is what is wrong with the files as they are now."""

    items: list[RuleItem]
    next: None
    problems: list[str]
    last_evaluation: LastEvaluation | None


@get("/api/v1/alerts", guards=[require("read")], responses=PROBLEMS, tags=["Alerts"], summary="List open alerts")
async def list_alerts(
    read_pool: NamedDependency[Pool],
    alerting: NamedDependency[Alerting],
    rule: RuleName = None,
    sensor: SensorName = None,
    limit: Limit = 1_000,
    cursor: Cursor = None,
) -> AlertPage:
    """List what is firing now, the newest first."""
    return await _page(read_pool, alerting, True, rule, sensor, limit, cursor)


@get(
    "/api/v1/alerts/history",
    guards=[require("read")],
    responses=PROBLEMS,
    tags=["Alerts"],
    summary="List past and open alerts",
)
async def list_history(
    read_pool: NamedDependency[Pool],
    alerting: NamedDependency[Alerting],
    rule: RuleName = None,
    sensor: SensorName = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> AlertPage:
    """List all alerts by when they fired, the newest first; withdrawn ones are marked as such."""
    return await _page(read_pool, alerting, False, rule, sensor, limit, cursor)


@post(
    "/api/v1/alerts/{alert_id:int}/ack",
    guards=[require("admin")],
    status_code=HTTP_200_OK,
    responses={**PROBLEMS, 409: problem_response("The alert is over")},
    tags=["Alerts"],
    summary="Acknowledge an alert",
)
async def acknowledge(
    pool: NamedDependency[Pool],
    alert_id: FromPath[int],
    data: Annotated[AckRequest, BodyKwarg(examples=[Example(value={"by": "Ana"})])],
) -> dict[str, Any]:
    """Take an alert over: no more reminders, up to the level that people were told."""
    check_name("by, who takes care of the alert,", data.by)
    if alert_id > LARGEST_ID:
        raise NotFoundError(f"There is no alert {alert_id}; /api/v1/alerts lists the open ones")
    if await pool.fetchval(SQL["ack_episode"], alert_id, data.by) is None:
        row = await pool.fetchrow(SQL["find_episode"], alert_id)
        if row is None:
            raise NotFoundError(f"There is no alert {alert_id}; /api/v1/alerts lists the open ones")
        raise ConflictError(f"Alert {alert_id} is over; only an open alert can be acknowledged")
    return {"id": alert_id, "acked_by": data.by}


@get("/api/v1/rules", guards=[require("read")], responses=PROBLEMS, tags=["Alerts"], summary="List rules")
async def list_rules(read_pool: NamedDependency[Pool], alerting: NamedDependency[Alerting]) -> RulesState:
    """List the rules in force with their state, and what is wrong with the files."""
    firing: dict[str, dict[str, int]] = {}
    for row in await read_pool.fetch(SQL["count_open_by_rule"]):
        firing.setdefault(row["rule"], {})[row["level"]] = row["n"]
    states = {row["rule"]: row for row in await read_pool.fetch(SQL["count_series_by_rule"])}
    keeper = alerting.keeper
    items = [_rule(rule, states.get(rule.name), firing.get(rule.name, {}), alerting) for rule in keeper.rules.rules]
    return RulesState(items, None, [str(problem) for problem in keeper.problems], alerting.last_evaluation)


async def _page(
    pool: Pool,
    alerting: Alerting,
    only_open: bool,
    rule: str | None,
    sensor: str | None,
    limit: int,
    cursor: str | None,
) -> AlertPage:
    for name, text in (("rule", rule), ("sensor", sensor)):
        check_text(name, text or "")
    before, before_id = parse_time_cursor(cursor, (_END_OF_TIME, 0))
    rows = await pool.fetch(SQL["list_alerts"], only_open, before, before_id, limit + 1, rule, sensor)
    rules = {each.name: each for each in alerting.keeper.rules.rules}
    items = [_alert(row, rules.get(row["rule"])) for row in rows[:limit]]
    more = len(rows) > limit
    return AlertPage(items, f"{to_us(items[-1].fired_at)}.{items[-1].id}" if more else None)


def _alert(row: asyncpg.Record, rule: Rule | None) -> AlertItem:
    fields = {name: row[name] for name in AlertItem.__struct_fields__ if name not in ("state", "peak", "steps")}
    retracted = row["reason"] == RETRACTED
    return AlertItem(
        **fields,
        state="retracted" if retracted else "firing" if row["resolved_at"] is None else "resolved",
        peak=_peak(row, rule),
        steps=[StepItem(level, from_us(us)) for level, us in row["steps"]],
    )


def _peak(row: asyncpg.Record, rule: Rule | None) -> float | None:
    """Choose of the lowest and the highest value within an episode the one that is farther past the threshold."""
    if row["lowest"] is None or rule is None:
        return None
    terms = terms_for(rule, row["sensor"], row["metric"], row["tags"], row["gateway"])
    if terms is None or terms.value.kind in ("rate", "delta"):
        return None
    lowest, highest = float(row["lowest"]), float(row["highest"])
    match terms.levels[0].condition:
        case Above():
            return highest
        case Below():
            return lowest
        case Outside(low, high):
            return max(lowest, highest, key=lambda value: max(low - value, value - high))
    return None


def _rule(rule: Rule, state: asyncpg.Record | None, firing: dict[str, int], alerting: Alerting) -> RuleItem:
    terms = rule.terms
    unusable = [name for name in terms.notify if name not in alerting.channels()]
    return RuleItem(
        rule.name,
        {name: value for name, value in msgspec.to_builtins(rule.sensors).items() if value},
        _value(terms),
        {level.name: condition_text(level.condition) for level in terms.levels},
        list(terms.notify),
        0 if state is None else state["n"],
        firing,
        None if state is None else state["evaluated_to"],
        [*(f"channel {name} cannot be used; the log says why" for name in unusable), *alerting.warnings_of(rule.name)],
    )


def _value(terms: Terms) -> str:
    """Write what the rule looks at as its file does."""
    window_us = terms.value.window_us
    return f"{terms.value.kind} {format_duration(window_us)}" if window_us else terms.value.kind


handlers = [list_alerts, list_history, acknowledge, *silence_handlers, list_rules]
