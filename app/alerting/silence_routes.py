"""Silences over HTTP: matching alerts are not told of for a while."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import asyncpg
import msgspec
from litestar import delete, get, post
from litestar.di import NamedDependency
from litestar.openapi.spec import Example
from litestar.params import BodyKwarg, FromPath
from litestar.status_codes import HTTP_201_CREATED, HTTP_204_NO_CONTENT

from app.alerting.parameters import (
    PROBLEMS,
    check_name,
)
from app.alerting.sql import SQL
from app.auth.guard import require
from app.db.pool import Pool
from app.errors import InvalidRequestError, NotFoundError
from app.globs import compile_glob
from app.model import LEVEL_NAMES
from app.parameters import LARGEST_ID, Cursor, Limit, check_text, parse_id_cursor

#: Matchers of one text; `tags` has an object of them.
_TEXTS = ("rule", "sensor", "metric", "gateway", "level")
_COMMENT_LENGTH = 2_000
_LONGEST = timedelta(days=366)
_EXAMPLE = Example(
    summary="Quiet about one site until its new sensors are in",
    value={
        "matchers": {"rule": "cold-chain-*", "tags": {"site": "harbour"}},
        "from": "2026-01-31T08:00:00Z",
        "to": "2026-01-31T18:00:00Z",
        "author": "Ana",
        "comment": "New sensors are being put in",
    },
)


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


@get("/api/v1/silences", guards=[require("read")], responses=PROBLEMS, tags=["Alerts"], summary="List silences")
async def list_silences(read_pool: NamedDependency[Pool], limit: Limit = 1_000, cursor: Cursor = None) -> SilencePage:
    """List silences in order of creation."""
    rows = await read_pool.fetch(SQL["list_all_silences"], parse_id_cursor(cursor, 0), limit + 1)
    items = [_silence(row) for row in rows[:limit]]
    return SilencePage(items, str(items[-1].id) if len(rows) > limit else None)


@post(
    "/api/v1/silences",
    guards=[require("admin")],
    status_code=HTTP_201_CREATED,
    responses=PROBLEMS,
    tags=["Alerts"],
    summary="Silence alerts",
)
async def create_silence(
    pool: NamedDependency[Pool], data: Annotated[SilenceRequest, BodyKwarg(examples=[_EXAMPLE])]
) -> SilenceItem:
    """Hold back messages of matching alerts for a while; the end of what was told before is told all the same."""
    _check_matchers(data.matchers)
    start, end = _check_range(data.from_, data.to, datetime.now(UTC))
    check_name("author", data.author)
    check_text("comment", data.comment, _COMMENT_LENGTH)
    row = await pool.fetchrow(SQL["insert_silence"], data.matchers, start, end, data.author, data.comment)
    assert row is not None  # noqa: S101 -- INSERT … RETURNING
    return _silence(row)


@delete(
    "/api/v1/silences/{silence_id:int}",
    guards=[require("admin")],
    status_code=HTTP_204_NO_CONTENT,
    responses=PROBLEMS,
    tags=["Alerts"],
    summary="End a silence",
)
async def end_silence(pool: NamedDependency[Pool], silence_id: FromPath[int]) -> None:
    """End a silence now; it stays listed for a week."""
    if silence_id > LARGEST_ID or await pool.fetchval(SQL["end_silence"], silence_id) is None:
        raise NotFoundError(f"There is no silence {silence_id} in force; /api/v1/silences lists them")


def _silence(row: asyncpg.Record) -> SilenceItem:
    return SilenceItem(
        row["id"], row["matchers"], row["from"], row["to"], row["author"], row["comment"], row["created_at"]
    )


def _check_range(start: datetime | None, end: datetime, now: datetime) -> tuple[datetime, datetime]:
    """Give from and to; refuse those without a zone, and a silence that is over, has no length, or is for ever."""
    start = start or now
    for name, moment in (("from", start), ("to", end)):
        if moment.tzinfo is None:
            raise InvalidRequestError(f"{name} is {moment.isoformat()}, which has no zone; append Z for UTC")
    if end <= start:
        raise InvalidRequestError(f"to is {end.isoformat()}; it must be later than from, {start.isoformat()}")
    if end <= now:
        raise InvalidRequestError(f"to is {end.isoformat()}, which is past; a silence holds back what is to come")
    if end - start > _LONGEST:
        raise InvalidRequestError("a silence lasts a year at most; for ever is what `mute` in a rule is for")
    return start, end


def _check_matchers(matchers: dict[str, Any]) -> None:
    """Refuse matchers that would match by mistake, or never."""
    if not matchers:
        raise InvalidRequestError(
            f"matchers is empty, which would silence everything; give some of {', '.join(_TEXTS)}, tags"
        )
    for name, wanted in matchers.items():
        if name == "tags":
            _check_tags(wanted)
        elif name in _TEXTS and isinstance(wanted, str):
            check_name(f"matcher {name}", wanted)
        else:
            raise InvalidRequestError(
                f"matcher {name!r:.60} is {wanted!r:.60}; give {', '.join(_TEXTS)} as texts, tags as an object of texts"
            )
    level = matchers.get("level", "*")
    if not any(compile_glob(level)(name) for name in LEVEL_NAMES):
        raise InvalidRequestError(f"matcher level is {level!r}, which none is; levels are {', '.join(LEVEL_NAMES)}")


def _check_tags(tags: object) -> None:
    if not isinstance(tags, dict) or not tags or not all(isinstance(text, str) for text in tags.values()):
        raise InvalidRequestError(f"matcher tags is {tags!r:.60}; give an object of texts, at least one")
    for tag, text in tags.items():
        check_name("matcher tags: a tag's name", tag)
        check_text(f"matcher tags: {tag}", text)


handlers = [list_silences, create_silence, end_silence]
