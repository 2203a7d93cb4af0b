"""HTTP routes of silences."""

from datetime import datetime, timedelta
from typing import Annotated, Any

import asyncpg
import msgspec
import structlog
from litestar import Request, delete, get, post
from litestar.di import NamedDependency
from litestar.openapi.spec import Example
from litestar.params import BodyKwarg, FromPath
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED, HTTP_204_NO_CONTENT

from app.alerting.actions.sql import SQL
from app.alerting.actions.who import Actor, Alert, find_alert_labels, list_group, log_actions, matchers_of, who
from app.alerting.rules.in_force import RulesInForce
from app.auth.audit import actor
from app.auth.guard import require
from app.clock import now
from app.db.lease import try_to_signal_leader
from app.db.pool import Connection, Pool
from app.durations import parse_duration
from app.errors import InvalidRequestError, NotFoundError
from app.globs import compile_glob
from app.model import LEVEL_NAMES
from app.names import TAGS_LIMIT, tidy_name
from app.paging import LARGEST_ID, cut_page, parse_id_cursor
from app.parameters import PageCursor, PageLimit, check_text
from app.problems import problem_responses

_PROBLEMS = problem_responses()
#: Matchers whose value is a text. The value of the matcher `tags` is an object of texts.
_MATCHERS = ("rule", "sensor", "metric", "gateway", "level")
#: Those whose value is a name as uploads bring it, or a pattern of such names.
_NAMES = ("sensor", "metric", "gateway")
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
    start, end = _span(data.from_, data.to, data.for_)
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
    added = _duration(data.to, data.for_)
    found = await pool.fetchval(SQL["find_silence"], silence_id) if 0 < silence_id <= LARGEST_ID else None
    if found is None:
        raise NotFoundError(f"There is no silence {silence_id} in force; /api/v1/silences lists them")
    end: datetime = data.to if data.to is not None else found + added
    _check_range(now(), end)
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


def _check_not_blank(name: str, text: str) -> None:
    """Raise InvalidRequestError for a text that `check_text` refuses or that is blank."""
    check_text(name, text)
    if not text.strip():
        raise InvalidRequestError(f"{name} is empty")


async def _matchers(
    pool: Pool, rules_in_force: RulesInForce, data: SilenceRequest
) -> tuple[dict[str, Any], list[Alert]]:
    """Return the matchers of a new silence, and the alerts from which they come, if any. Raise InvalidRequestError."""
    if data.alert is None:
        if data.group:
            raise InvalidRequestError('group is true without an alert; give the id of one of its alerts as "alert"')
        _check_matchers(data.matchers)
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


def _duration(end: datetime | None, text: str | None) -> timedelta | None:
    """Return the duration that `for` gives, or None where `to` gives the end. Raise InvalidRequestError."""
    if (end is None) == (text is None):
        raise InvalidRequestError('give either to, the end, or for, a duration such as "2h"')
    if text is None:
        return None
    try:
        duration = timedelta(microseconds=parse_duration(text))
    except ValueError as error:
        raise InvalidRequestError(f"for: {error}") from None
    if not duration:
        raise InvalidRequestError(f'for is {text!r}; give a duration that is longer than 0, such as "2h"')
    return duration


def _span(start: datetime | None, end: datetime | None, text: str | None) -> tuple[datetime | None, datetime]:
    """Return the start and the end of a silence. Raise InvalidRequestError."""
    duration = _duration(end, text)
    if duration is not None:
        _check_zone("from", start or now())
        end = (start or now()) + duration
    assert end is not None  # noqa: S101 -- _duration has checked it
    _check_range(start, end)
    return start, end


def _check_range(given_start: datetime | None, end: datetime) -> None:
    """Check the start (now if it is None) and the end of a silence.

    Raise InvalidRequestError for a time without a zone, and for a silence that is over, empty or longer than a year.
    """
    asked_at = now()
    start = given_start or asked_at
    for name, moment in (("from", start), ("to", end)):
        _check_zone(name, moment)
    if end <= start:
        raise InvalidRequestError(f"to is {end.isoformat()}; it must be later than from, {start.isoformat()}")
    if end <= asked_at:
        raise InvalidRequestError(f"to is {end.isoformat()}, which is in the past; it must be in the future")
    if end - start > _LONGEST_SILENCE:
        raise InvalidRequestError("a silence lasts a year at most; use `mute` in a rule to silence it permanently")


def _check_zone(name: str, moment: datetime) -> None:
    if moment.tzinfo is None:
        raise InvalidRequestError(f"{name} is {moment.isoformat()}, which has no zone; append Z for UTC")


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


handlers = [list_silences, create_silence, extend_silence, end_silence]
