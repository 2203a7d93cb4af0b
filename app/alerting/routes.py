"""Alerts, silences and rules over HTTP."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import asyncpg
import msgspec
from litestar import delete, get, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED, HTTP_204_NO_CONTENT

from app.alerting.episodes import Above, Below, Outside
from app.alerting.evaluator import SQL
from app.alerting.rules import Rule, condition_text
from app.alerting.service import Alerting, LastEvaluation
from app.auth.guard import require
from app.clock import from_us
from app.db.pool import Pool
from app.errors import ConflictError, InvalidRequestError, NotFoundError
from app.model import Tags
from app.problems import Problem

_PROBLEMS = {
    400: ResponseSpec(Problem, description="A parameter or the body has a value that cannot be used"),
    401: ResponseSpec(Problem, description="Missing or unknown API key"),
    403: ResponseSpec(Problem, description="The key lacks the scope"),
    404: ResponseSpec(Problem, description="No such alert or silence"),
}
Limit = Annotated[int, QueryParameter(ge=1, le=1_000, description="Items a page")]
Cursor = Annotated[str | None, QueryParameter(description="The `next` of the page before")]
RuleName = Annotated[str | None, QueryParameter(description="Only this rule")]
SensorName = Annotated[str | None, QueryParameter(description="Only this sensor")]
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


class SilenceRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to be quiet about, and for how long.

    Matchers are `rule`, `sensor`, `metric`, `gateway`, `level` and `tags`; texts may hold * and ?.
    """

    matchers: dict[str, Any]
    to: datetime
    author: str
    from_: datetime | None = msgspec.field(name="from", default=None)
    comment: str = ""


class SilenceItem(msgspec.Struct, frozen=True):
    """A silence; `from` is when it begins, `to` when it ends."""

    id: int
    matchers: dict[str, Any]
    from_: datetime = msgspec.field(name="from")
    to: datetime
    author: str
    comment: str
    created_at: datetime


class SilencePage(msgspec.Struct, frozen=True):
    """Silences in force, to come, or over for less than a week."""

    items: list[SilenceItem]
    next: str | None


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


@get("/api/v1/alerts", guards=[require("read")], responses=_PROBLEMS, tags=["Alerts"], summary="List open alerts")
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
    responses=_PROBLEMS,
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
    responses=_PROBLEMS,
    tags=["Alerts"],
    summary="Acknowledge an alert",
)
async def acknowledge(
    pool: NamedDependency[Pool], alert_id: FromPath[int], data: JSONBody[AckRequest]
) -> dict[str, Any]:
    """Take an alert over: no more reminders, up to the level that people were told."""
    if not data.by.strip():
        raise InvalidRequestError("by is empty; say who takes care of the alert")
    if await pool.fetchval(SQL["ack_episode"], alert_id, data.by) is None:
        row = await pool.fetchrow(SQL["find_episode"], alert_id)
        if row is None:
            raise NotFoundError(f"There is no alert {alert_id}; /api/v1/alerts lists the open ones")
        raise ConflictError(f"Alert {alert_id} is over; only an open alert can be acknowledged")
    return {"id": alert_id, "acked_by": data.by}


@get("/api/v1/silences", guards=[require("read")], responses=_PROBLEMS, tags=["Alerts"], summary="List silences")
async def list_silences(read_pool: NamedDependency[Pool], limit: Limit = 1_000, cursor: Cursor = None) -> SilencePage:
    """List silences in order of creation."""
    after = _parse_id(cursor) if cursor else 0
    rows = await read_pool.fetch(SQL["list_all_silences"], after, limit + 1)
    items = [_silence(row) for row in rows[:limit]]
    return SilencePage(items, str(items[-1].id) if len(rows) > limit else None)


@post(
    "/api/v1/silences",
    guards=[require("admin")],
    status_code=HTTP_201_CREATED,
    responses=_PROBLEMS,
    tags=["Alerts"],
    summary="Silence alerts",
)
async def create_silence(pool: NamedDependency[Pool], data: JSONBody[SilenceRequest]) -> SilenceItem:
    """Hold back messages of matching alerts for a while; the end of what was told before is told all the same."""
    matchers = _check_matchers(data.matchers)
    start = data.from_ or datetime.now(UTC)
    for name, moment in (("from", start), ("to", data.to)):
        if moment.tzinfo is None:
            raise InvalidRequestError(f"{name} is {moment.isoformat()}, which has no zone; append Z for UTC")
    if data.to <= start:
        raise InvalidRequestError(f"to is {data.to.isoformat()}; it must be later than from, {start.isoformat()}")
    if data.to - start > timedelta(days=366):
        raise InvalidRequestError("a silence lasts a year at most; for ever is what `mute` in a rule is for")
    row = await pool.fetchrow(SQL["insert_silence"], matchers, start, data.to, data.author, data.comment)
    assert row is not None  # noqa: S101 -- INSERT … RETURNING
    return _silence(row)


@delete(
    "/api/v1/silences/{silence_id:int}",
    guards=[require("admin")],
    status_code=HTTP_204_NO_CONTENT,
    responses=_PROBLEMS,
    tags=["Alerts"],
    summary="End a silence",
)
async def end_silence(pool: NamedDependency[Pool], silence_id: FromPath[int]) -> None:
    """End a silence now; it stays listed for a week."""
    if await pool.fetchval(SQL["end_silence"], silence_id) is None:
        raise NotFoundError(f"There is no silence {silence_id} in force; /api/v1/silences lists them")


@get("/api/v1/rules", guards=[require("read")], responses=_PROBLEMS, tags=["Alerts"], summary="List rules")
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
    before, before_id = _parse_cursor(cursor)
    rows = await pool.fetch(SQL["list_alerts"], only_open, before, before_id, limit + 1, rule, sensor)
    rules = {each.name: each for each in alerting.keeper.rules.rules}
    items = [_alert(row, rules.get(row["rule"])) for row in rows[:limit]]
    more = len(rows) > limit
    return AlertPage(items, f"{items[-1].fired_at.isoformat()}|{items[-1].id}" if more else None)


def _alert(row: asyncpg.Record, rule: Rule | None) -> AlertItem:
    fields = {name: row[name] for name in AlertItem.__struct_fields__ if name not in ("state", "peak", "steps")}
    retracted = row["reason"] == "retracted"
    return AlertItem(
        **fields,
        state="retracted" if retracted else "firing" if row["resolved_at"] is None else "resolved",
        peak=_peak(row, rule),
        steps=[StepItem(level, from_us(us)) for level, us in row["steps"]],
    )


def _peak(row: asyncpg.Record, rule: Rule | None) -> float | None:
    """Choose of the lowest and the highest value within an episode the one that is farther past the threshold."""
    if row["lowest"] is None or rule is None or rule.terms.value.kind in ("rate", "delta"):
        return None
    lowest, highest = float(row["lowest"]), float(row["highest"])
    match rule.terms.levels[0].condition:
        case Above():
            return highest
        case Below():
            return lowest
        case Outside(low, high):
            return max(lowest, highest, key=lambda value: max(low - value, value - high))
    return None


def _silence(row: asyncpg.Record) -> SilenceItem:
    return SilenceItem(
        row["id"], row["matchers"], row["from"], row["to"], row["author"], row["comment"], row["created_at"]
    )


def _rule(rule: Rule, state: asyncpg.Record | None, firing: dict[str, int], alerting: Alerting) -> RuleItem:
    terms = rule.terms
    unusable = [name for name in terms.notify if name not in alerting.channels()]
    return RuleItem(
        rule.name,
        {name: value for name, value in msgspec.to_builtins(rule.sensors).items() if value},
        terms.value.kind,
        {level.name: condition_text(level.condition) for level in terms.levels},
        list(terms.notify),
        0 if state is None else state["n"],
        firing,
        None if state is None else state["evaluated_to"],
        [f"channel {name} cannot be used; the log says why" for name in unusable],
    )


def _check_matchers(matchers: dict[str, Any]) -> dict[str, Any]:
    """Refuse matchers that would match by mistake: none at all, or a name that does not exist."""
    known = ("rule", "sensor", "metric", "gateway", "level", "tags")
    if not matchers:
        raise InvalidRequestError(f"matchers is empty, which would silence everything; give some of {', '.join(known)}")
    for name, wanted in matchers.items():
        fits = isinstance(wanted, dict) if name == "tags" else isinstance(wanted, str)
        if name not in known or not fits:
            raise InvalidRequestError(
                f"matcher {name!r} is {wanted!r:.60}; give {', '.join(known[:-1])} as texts, tags as an object of texts"
            )
        if isinstance(wanted, dict) and not all(isinstance(text, str) for text in wanted.values()):
            raise InvalidRequestError(f"matcher tags is {wanted!r:.60}; give an object of texts")
    return matchers


def _parse_cursor(cursor: str | None) -> tuple[datetime, int]:
    if cursor is None:
        return _END_OF_TIME, 0
    moment, _, alert_id = cursor.partition("|")
    try:
        return msgspec.convert(moment.replace(" ", "+"), datetime), int(alert_id)
    except (msgspec.ValidationError, ValueError):
        raise InvalidRequestError(f"cursor is {cursor!r:.60}; send the `next` of the page before, unchanged") from None


def _parse_id(cursor: str) -> int:
    if not cursor.isdecimal():
        raise InvalidRequestError(f"cursor is {cursor!r:.60}; send the `next` of the page before, unchanged")
    return int(cursor)


handlers = [
    list_alerts,
    list_history,
    acknowledge,
    list_silences,
    create_silence,
    end_silence,
    list_rules,
]
