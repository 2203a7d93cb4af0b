"""HTTP routes of alerts, silences and rules."""

from datetime import datetime, timedelta
from typing import Annotated, Any

import asyncpg
import msgspec
import structlog
from litestar import Request, delete, get, post
from litestar.di import NamedDependency
from litestar.openapi.spec import Example
from litestar.params import BodyKwarg, FromPath, QueryParameter
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED, HTTP_204_NO_CONTENT

from app.alerting.alert_items import AlertItem, AlertPage, AlertQuery, find_alert, list_page
from app.alerting.evaluation.alert_feed import publish
from app.alerting.rules.in_force import AlertingStatus, LastEvaluation, RulesInForce, read_status
from app.alerting.rules.model import Rule, Terms, condition_text
from app.alerting.sql import SQL
from app.auth.audit import actor
from app.auth.guard import require
from app.clock import now
from app.db.lease import signal_leader, try_to_signal_leader
from app.db.pool import Pool
from app.durations import format_duration
from app.errors import ConflictError, InvalidRequestError, NotFoundError
from app.globs import compile_glob
from app.model import LEVEL_NAMES
from app.names import TAGS_LIMIT
from app.paging import LARGEST_ID, cut_page, parse_id_cursor
from app.parameters import PageCursor, PageLimit, check_text
from app.problems import problem_responses

_PROBLEMS = problem_responses()
RuleParameter = Annotated[str | None, QueryParameter(description="Only this rule")]
SensorParameter = Annotated[str | None, QueryParameter(description="Only this sensor")]
#: Matchers whose value is a text. The value of the matcher `tags` is an object of texts.
_MATCHERS = ("rule", "sensor", "metric", "gateway", "level")
_COMMENT_LENGTH = 2_000
_LONGEST_SILENCE = timedelta(days=366)
_EXAMPLE = Example(
    summary="No messages about one site until its new sensors are installed",
    value={
        "matchers": {"rule": "cold-chain-*", "tags": {"site": "harbour"}},
        "from": "2026-01-31T08:00:00Z",
        "to": "2026-01-31T18:00:00Z",
        "author": "Ana",
        "comment": "New sensors are being put in",
    },
)
log = structlog.get_logger()


class AckRequest(msgspec.Struct, frozen=True):
    """The name of the person who takes care of the alert."""

    by: str


class RuleItem(msgspec.Struct, frozen=True):
    """A rule in force with its current state."""

    name: str
    sensors: dict[str, Any]
    value: str
    levels: dict[str, str]
    notify: list[str]
    series: int
    firing: dict[str, int]
    evaluated_to: datetime | None
    #: Problems that keep the rule from working as intended.
    warnings: list[str]


class RulesState(msgspec.Struct, frozen=True):
    """The rules in force; `problems` are those of the current rule files."""

    items: list[RuleItem]
    next: None
    problems: list[str]
    last_evaluation: LastEvaluation | None


class SilenceRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The alerts to silence, and for how long.

    Matchers are `rule`, `sensor`, `metric`, `gateway`, `level` and `tags`. Texts may contain the wildcards * and ?.
    """

    matchers: dict[str, Any]
    to: datetime
    author: str
    from_: datetime | None = msgspec.field(name="from", default=None)
    comment: str = ""


class SilenceItem(msgspec.Struct, frozen=True):
    """A silence from the time `from` to the time `to`."""

    id: int
    matchers: dict[str, Any]
    from_: datetime = msgspec.field(name="from")
    to: datetime
    author: str
    comment: str
    created_at: datetime


class SilencePage(msgspec.Struct, frozen=True):
    """A page of silences that are in force, to come, or over for less than a week."""

    items: list[SilenceItem]
    next: str | None


@get(
    "/api/v1/alerts", guards=[require("read", "live")], responses=_PROBLEMS, tags=["Alerts"], summary="List open alerts"
)
async def list_alerts(
    read_pool: NamedDependency[Pool],
    rules_in_force: NamedDependency[RulesInForce],
    rule: RuleParameter = None,
    sensor: SensorParameter = None,
    limit: PageLimit = 1_000,
    cursor: PageCursor = None,
) -> AlertPage:
    """List the open alerts, the newest first."""
    rules = await rules_in_force.read(read_pool)
    return await list_page(read_pool, rules, AlertQuery(True, rule, sensor, limit, cursor))


@get(
    "/api/v1/alerts/history",
    guards=[require("read", "live")],
    responses=_PROBLEMS,
    tags=["Alerts"],
    summary="List past and open alerts",
)
async def list_history(
    read_pool: NamedDependency[Pool],
    rules_in_force: NamedDependency[RulesInForce],
    rule: RuleParameter = None,
    sensor: SensorParameter = None,
    limit: PageLimit = 100,
    cursor: PageCursor = None,
) -> AlertPage:
    """List all alerts by the time at which they fired, the newest first. Retracted ones have the state `retracted`."""
    rules = await rules_in_force.read(read_pool)
    return await list_page(read_pool, rules, AlertQuery(False, rule, sensor, limit, cursor))


@get(
    "/api/v1/alerts/{alert_id:int}",
    guards=[require("read", "live")],
    responses=problem_responses({404: "There is no such alert"}),
    tags=["Alerts"],
    summary="Show one alert",
)
async def show_alert(
    read_pool: NamedDependency[Pool], rules_in_force: NamedDependency[RulesInForce], alert_id: FromPath[int]
) -> AlertItem:
    """Show an alert, open or past, with whom it was told and the newest 200 messages about it."""
    rules = await rules_in_force.read(read_pool)
    alert = await find_alert(read_pool, rules, alert_id) if 0 < alert_id <= LARGEST_ID else None
    if alert is None:
        raise NotFoundError(_no_alert(alert_id))
    return alert


@post(
    "/api/v1/alerts/{alert_id:int}/ack",
    guards=[require("admin")],
    status_code=HTTP_200_OK,
    responses=problem_responses({404: "There is no such alert", 409: "The alert is over"}),
    tags=["Alerts"],
    summary="Acknowledge an alert",
)
async def acknowledge(
    request: Request[Any, Any, Any],
    pool: NamedDependency[Pool],
    alert_id: FromPath[int],
    data: Annotated[AckRequest, BodyKwarg(examples=[Example(value={"by": "Ana"})])],
) -> dict[str, Any]:
    """Acknowledge an alert. No reminders are sent until it rises above the highest level that was told."""
    _check_not_blank("by, who takes care of the alert,", data.by)
    if not 0 < alert_id <= LARGEST_ID:
        raise NotFoundError(_no_alert(alert_id))
    async with pool.acquire() as connection, connection.transaction():
        is_new = await connection.fetchval(SQL["ack_episode"], alert_id, data.by)
        if is_new:
            await publish(connection, [("acked", alert_id)])
            await signal_leader(connection)
    if is_new is None:
        if await pool.fetchrow(SQL["find_episode"], alert_id) is None:
            raise NotFoundError(_no_alert(alert_id))
        raise ConflictError(f"Alert {alert_id} is over; only an open alert can be acknowledged")
    if is_new:
        log.info("alert_acked", id=alert_id, by=data.by, **actor(request))
    return {"id": alert_id, "acked_by": data.by}


@get(
    "/api/v1/silences", guards=[require("read", "live")], responses=_PROBLEMS, tags=["Alerts"], summary="List silences"
)
async def list_silences(
    read_pool: NamedDependency[Pool], limit: PageLimit = 1_000, cursor: PageCursor = None
) -> SilencePage:
    """List silences in order of creation."""
    rows = await read_pool.fetch(SQL["list_all_silences"], parse_id_cursor(cursor, 0), limit + 1)
    page, next_cursor = cut_page(rows, limit, lambda row: str(row["id"]))
    return SilencePage([_silence(row) for row in page], next_cursor)


@post(
    "/api/v1/silences",
    guards=[require("admin")],
    status_code=HTTP_201_CREATED,
    responses=_PROBLEMS,
    tags=["Alerts"],
    summary="Silence alerts",
)
async def create_silence(
    request: Request[Any, Any, Any],
    pool: NamedDependency[Pool],
    data: Annotated[SilenceRequest, BodyKwarg(examples=[_EXAMPLE])],
) -> SilenceItem:
    """Hold back messages of matching alerts for some time. The end of an alert that was told before is still told."""
    _check_matchers(data.matchers)
    _check_range(data.from_, data.to)
    _check_not_blank("author", data.author)
    check_text("comment", data.comment, _COMMENT_LENGTH)
    matchers = await _with_present_name(pool, data.matchers)
    row = await pool.fetchrow(SQL["insert_silence"], matchers, data.from_, data.to, data.author, data.comment)
    assert row is not None  # noqa: S101 -- INSERT … RETURNING
    log.info("silence_created", id=row["id"], matchers=matchers, to=row["to"], author=data.author, **actor(request))
    await try_to_signal_leader(pool)
    return _silence(row)


@delete(
    "/api/v1/silences/{silence_id:int}",
    guards=[require("admin")],
    status_code=HTTP_204_NO_CONTENT,
    responses=problem_responses({404: "There is no such silence in force"}),
    tags=["Alerts"],
    summary="End a silence",
)
async def end_silence(request: Request[Any, Any, Any], pool: NamedDependency[Pool], silence_id: FromPath[int]) -> None:
    """End a silence now; it stays listed for a week."""
    if not 0 < silence_id <= LARGEST_ID or await pool.fetchval(SQL["end_silence"], silence_id) is None:
        raise NotFoundError(f"There is no silence {silence_id} in force; /api/v1/silences lists them")
    log.info("silence_ended", id=silence_id, **actor(request))
    await try_to_signal_leader(pool)


@get("/api/v1/rules", guards=[require("read", "live")], responses=_PROBLEMS, tags=["Alerts"], summary="List rules")
async def list_rules(read_pool: NamedDependency[Pool], rules_in_force: NamedDependency[RulesInForce]) -> RulesState:
    """List the rules in force with their state, and the problems of the rule files."""
    firing: dict[str, dict[str, int]] = {}
    for row in await read_pool.fetch(SQL["count_open_by_rule"]):
        firing.setdefault(row["rule"], {})[row["level"]] = row["n"]
    states = {row["rule"]: row for row in await read_pool.fetch(SQL["count_series_by_rule"])}
    status = await read_status(read_pool)
    rules = await rules_in_force.read(read_pool)
    items = [_rule(rule, states.get(rule.name), firing.get(rule.name, {}), status) for rule in rules.rules]
    return RulesState(items, None, status.problems, status.last_evaluation)


def _no_alert(alert_id: int) -> str:
    return f"There is no alert {alert_id}; /api/v1/alerts lists the open ones, /api/v1/alerts/history all"


def _rule(rule: Rule, state: asyncpg.Record | None, firing: dict[str, int], status: AlertingStatus) -> RuleItem:
    terms = rule.terms
    unusable = [name for name in terms.notify if name not in status.channels]
    return RuleItem(
        rule.name,
        {name: value for name, value in msgspec.to_builtins(rule.sensors).items() if value},
        _value(terms),
        {level.name: condition_text(level.condition) for level in terms.levels},
        list(terms.notify),
        0 if state is None else state["n"],
        firing,
        None if state is None else state["evaluated_to"],
        _warnings(rule.name, unusable, status),
    )


def _warnings(rule: str, unusable: list[str], status: AlertingStatus) -> list[str]:
    warnings = [f"channel {name} cannot be used; the worker's log says why" for name in unusable]
    return [*warnings, *status.rule_warnings.get(rule, ())]


def _value(terms: Terms) -> str:
    """Return the `value:` of a rule as it is written in a rule file."""
    window_us = terms.value.window_us
    return f"{terms.value.kind} {format_duration(window_us)}" if window_us else terms.value.kind


async def _with_present_name(pool: Pool, matchers: dict[str, Any]) -> dict[str, Any]:
    """Return matchers in which an old name of a sensor is replaced by its present one."""
    present = await pool.fetchval(SQL["get_present_name"], matchers["sensor"]) if "sensor" in matchers else None
    return matchers if present is None else {**matchers, "sensor": present}


def _silence(row: asyncpg.Record) -> SilenceItem:
    return SilenceItem(
        row["id"], row["matchers"], row["from"], row["to"], row["author"], row["comment"], row["created_at"]
    )


def _check_not_blank(name: str, text: str) -> None:
    """Raise InvalidRequestError for a text that `check_text` refuses or that is blank."""
    check_text(name, text)
    if not text.strip():
        raise InvalidRequestError(f"{name} is empty")


def _check_range(given_start: datetime | None, end: datetime) -> None:
    """Check the start (now if it is None) and the end of a silence.

    Raise InvalidRequestError for a time without a zone, and for a silence that is over, empty or longer than a year.
    """
    asked_at = now()
    start = given_start or asked_at
    for name, moment in (("from", start), ("to", end)):
        if moment.tzinfo is None:
            raise InvalidRequestError(f"{name} is {moment.isoformat()}, which has no zone; append Z for UTC")
    if end <= start:
        raise InvalidRequestError(f"to is {end.isoformat()}; it must be later than from, {start.isoformat()}")
    if end <= asked_at:
        raise InvalidRequestError(f"to is {end.isoformat()}, which is in the past; it must be in the future")
    if end - start > _LONGEST_SILENCE:
        raise InvalidRequestError("a silence lasts a year at most; use `mute` in a rule to silence it permanently")


def _check_matchers(matchers: dict[str, Any]) -> None:
    """Raise InvalidRequestError for matchers that match everything, are unknown or malformed, or match nothing."""
    if not matchers:
        raise InvalidRequestError(
            f"matchers is empty, which would silence everything; give some of {', '.join(_MATCHERS)}, tags"
        )
    for name, wanted in matchers.items():
        if name == "tags":
            _check_tags(wanted)
        elif name in _MATCHERS and isinstance(wanted, str):
            _check_not_blank(f"matcher {name}", wanted)
        else:
            raise InvalidRequestError(
                f"matcher {name!r:.60} is {wanted!r:.60}; give {', '.join(_MATCHERS)} as texts, tags as an object"
            )
    level = matchers.get("level", "*")
    if not any(compile_glob(level)(name) for name in LEVEL_NAMES):
        raise InvalidRequestError(
            f"matcher level is {level!r}, which matches no level; levels are {', '.join(LEVEL_NAMES)}"
        )


def _check_tags(tags: object) -> None:
    if not isinstance(tags, dict) or not tags or not all(isinstance(text, str) for text in tags.values()):
        raise InvalidRequestError(f"matcher tags is {tags!r:.60}; give an object of texts, at least one")
    if len(tags) > TAGS_LIMIT:
        raise InvalidRequestError(f"matcher tags has {len(tags)} tags; give at most {TAGS_LIMIT}")
    for tag, text in tags.items():
        _check_not_blank("matcher tags: a tag's name", tag)
        check_text(f"matcher tags: {tag}", text)


handlers = [list_alerts, list_history, show_alert, acknowledge, list_silences, create_silence, end_silence, list_rules]
