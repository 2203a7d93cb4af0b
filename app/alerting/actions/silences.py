"""HTTP routes of silences."""

from datetime import datetime
from typing import Annotated, Any

import asyncpg
import msgspec
import structlog
from litestar import Request, delete, get, post
from litestar.di import NamedDependency
from litestar.openapi.spec import Example
from litestar.params import BodyKwarg, FromPath
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED, HTTP_204_NO_CONTENT

from app.alerting.actions.silence_checks import check_matchers, check_range, parse_for, parse_span
from app.alerting.actions.sql import SQL
from app.alerting.actions.who import Actor, Alert, find_alert_labels, list_group, log_actions, matchers_of, who
from app.alerting.rules.in_force import RulesInForce
from app.auth.audit import actor
from app.auth.guard import require
from app.clock import now
from app.db.lease import try_to_signal_leader
from app.db.pool import Connection, Pool
from app.errors import InvalidRequestError, NotFoundError
from app.names import tidy_name
from app.paging import LARGEST_ID, cut_page, parse_id_cursor
from app.parameters import PageCursor, PageLimit, check_text
from app.problems import problem_responses

_PROBLEMS = problem_responses()
#: Matchers whose value is a name as uploads bring it, or a pattern of such names.
_NAMES = ("sensor", "metric", "gateway")
_COMMENT_LENGTH = 2_000
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


class SilenceRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The alerts to silence, and for how long: until `to`, or `for` a duration such as "2h" from the start.

    Matchers are `rule`, `sensor`, `metric`, `gateway`, `level` and `tags`. Texts may contain the wildcards * and ?. In
    their place, `alert` takes the matchers from an alert, and with `group` from all alerts that share messages with it.
    """

    matchers: dict[str, Any] = {}
    alert: int | None = None
    group: bool = False
    to: datetime | None = None
    for_: str | None = msgspec.field(name="for", default=None)
    #: Who silences; by default the label of the API key.
    author: str | None = None
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


class ExtendRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much longer a silence lasts: until `to`, or `for` a duration such as "2h" after its present end."""

    to: datetime | None = None
    for_: str | None = msgspec.field(name="for", default=None)
    #: Who extends it; by default the label of the API key.
    by: str | None = None


class SilencePage(msgspec.Struct, frozen=True):
    """A page of silences that are in force, to come, or over for less than a week."""

    items: list[SilenceItem]
    next: str | None


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
    rules_in_force: NamedDependency[RulesInForce],
    data: Annotated[SilenceRequest, BodyKwarg(examples=[_EXAMPLE])],
) -> SilenceItem:
    """Hold back messages of matching alerts for some time. The end of an alert that was told before is still told."""
    by = who(request, data.author, "author")
    start, end = parse_span(data.from_, data.to, data.for_)
    check_text("comment", data.comment, _COMMENT_LENGTH)
    matchers, alerts = await _matchers(pool, rules_in_force, data)
    async with pool.acquire() as connection, connection.transaction():
        row = await connection.fetchrow(SQL["insert_silence"], matchers, start, end, by.by, data.comment)
        assert row is not None  # noqa: S101 -- INSERT … RETURNING
        if alerts:
            known = [(each.id, each.level) for each in alerts]
            await log_actions(connection, known, "silence", by, data.comment, row)
        else:
            await _log(connection, row, "silence", by, data.comment)
    log.info("silence_created", id=row["id"], matchers=matchers, to=row["to"], author=by.by, **actor(request))
    await try_to_signal_leader(pool)
    return _silence(row)


@post(
    "/api/v1/silences/{silence_id:int}/extend",
    guards=[require("admin")],
    status_code=HTTP_200_OK,
    responses=problem_responses({404: "There is no such silence in force"}),
    tags=["Alerts"],
    summary="Extend a silence",
)
async def extend_silence(
    request: Request[Any, Any, Any],
    pool: NamedDependency[Pool],
    silence_id: FromPath[int],
    data: Annotated[ExtendRequest, BodyKwarg(examples=[Example(value={"for": "2h"})])],
) -> SilenceItem:
    """Let a silence last longer."""
    by = who(request, data.by)
    added = parse_for(data.to, data.for_)
    found = await pool.fetchval(SQL["find_silence"], silence_id) if 0 < silence_id <= LARGEST_ID else None
    if found is None:
        raise NotFoundError(f"There is no silence {silence_id} in force; /api/v1/silences lists them")
    end: datetime = data.to if data.to is not None else found + added
    check_range(now(), end)
    async with pool.acquire() as connection, connection.transaction():
        row = await connection.fetchrow(SQL["extend_silence"], silence_id, data.to, added)
        if row is not None:
            await _log(connection, row, "extend", by, "")
    if row is None:
        raise InvalidRequestError(f"to is {end.isoformat()}; the silence lasts until {found.isoformat()} already")
    log.info("silence_extended", id=silence_id, to=row["to"], by=by.by, **actor(request))
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
    by = who(request, None)
    async with pool.acquire() as connection, connection.transaction():
        row = await connection.fetchrow(SQL["end_silence"], silence_id) if 0 < silence_id <= LARGEST_ID else None
        if row is not None:
            await _log(connection, row, "unsilence", by, "")
    if row is None:
        raise NotFoundError(f"There is no silence {silence_id} in force; /api/v1/silences lists them")
    log.info("silence_ended", id=silence_id, **actor(request))
    await try_to_signal_leader(pool)


def _tidy(matchers: dict[str, Any]) -> dict[str, Any]:
    """Return matchers whose names and patterns of names are as names are stored."""
    return {name: tidy_name(text) if name in _NAMES else text for name, text in matchers.items()}


async def _with_present_name(pool: Pool, matchers: dict[str, Any]) -> dict[str, Any]:
    """Return matchers in which an old name of a sensor is replaced by its present one."""
    present = await pool.fetchval(SQL["get_present_name"], matchers["sensor"]) if "sensor" in matchers else None
    return matchers if present is None else {**matchers, "sensor": present}


def _silence(row: asyncpg.Record) -> SilenceItem:
    return SilenceItem(
        row["id"], row["matchers"], row["from"], row["to"], row["author"], row["comment"], row["created_at"]
    )


async def _matchers(
    pool: Pool, rules_in_force: RulesInForce, data: SilenceRequest
) -> tuple[dict[str, Any], list[Alert]]:
    """Return the matchers of a new silence, and the alerts from which they come, if any. Raise InvalidRequestError."""
    if data.alert is None:
        if data.group:
            raise InvalidRequestError('group is true without an alert; give the id of one of its alerts as "alert"')
        check_matchers(data.matchers)
        return await _with_present_name(pool, _tidy(data.matchers)), []
    if data.matchers:
        raise InvalidRequestError("matchers and alert are both given; give one of them")
    alert = await find_alert_labels(pool, data.alert)
    if not data.group:
        return matchers_of(alert, None), [alert]
    group, labels = await list_group(pool, rules_in_force, alert)
    return matchers_of(alert, labels), group or [alert]


async def _log(connection: Connection, silence: asyncpg.Record, action: str, by: Actor, note: str) -> None:
    await connection.execute(SQL["insert_silence_action"], silence["id"], action, by.by, by.key, note, silence["to"])


handlers = [list_silences, create_silence, extend_silence, end_silence]
