"""HTTP routes that acknowledge alerts and close them by hand."""

from typing import Annotated, Any

import msgspec
import structlog
from litestar import Request, post
from litestar.di import NamedDependency
from litestar.openapi.spec import Example
from litestar.params import BodyKwarg, FromPath
from litestar.status_codes import HTTP_200_OK

from app.alerting.actions.sql import SQL
from app.alerting.actions.who import Actor, find_alert_labels, list_group, log_actions, no_alert, who
from app.alerting.evaluation.writing.alert_feed import publish
from app.alerting.rules.in_force import RulesInForce
from app.auth.audit import actor
from app.auth.guard import require
from app.db.lease import signal_leader
from app.db.pool import Connection, Pool
from app.errors import ConflictError
from app.paging import LARGEST_ID
from app.parameters import check_text
from app.problems import problem_responses

_RESPONSES = problem_responses({404: "There is no such alert", 409: "The alert is over"})
_NOTE_LENGTH = 2_000
AlertId = Annotated[int, msgspec.Meta(ge=1, le=LARGEST_ID)]
log = structlog.get_logger()


class AckRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who takes care of the alert: a name, by default the label of the API key."""

    by: str | None = None
    note: str = ""
    #: Whether to acknowledge all open alerts that share messages with this one.
    group: bool = False
    #: Ids of further alerts to acknowledge; those that are over are left out. At most 1,000.
    others: Annotated[list[AlertId], msgspec.Meta(max_length=1_000)] = []


class CloseRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who closes the alert, by default the label of the API key, and why."""

    by: str | None = None
    note: str = ""


class Acknowledged(msgspec.Struct, frozen=True):
    """Who takes care of an alert, and which alerts were acknowledged."""

    id: int
    acked_by: str
    #: With `group` or `others`: all alerts that this request acknowledged, this one included.
    acked: list[int] | msgspec.UnsetType = msgspec.UNSET


class Closed(msgspec.Struct, frozen=True):
    """Who closed an alert, and why."""

    id: int
    closed_by: str
    note: str


@post(
    "/api/v1/alerts/{alert_id:int}/ack",
    guards=[require("admin")],
    status_code=HTTP_200_OK,
    responses=_RESPONSES,
    tags=["Alerts"],
    summary="Acknowledge an alert",
)
async def acknowledge(
    request: Request[Any, Any, Any],
    pool: NamedDependency[Pool],
    rules_in_force: NamedDependency[RulesInForce],
    alert_id: FromPath[int],
    data: Annotated[AckRequest | None, BodyKwarg(examples=[Example(value={"by": "Ana"})])] = None,
) -> Acknowledged:
    """Acknowledge an alert. No reminders are sent until it rises above the highest level that was told."""
    data = data or AckRequest()
    by = who(request, data.by, "by, who takes care of the alert,")
    check_text("note", data.note, _NOTE_LENGTH)
    if not 0 < alert_id <= LARGEST_ID:
        raise no_alert(alert_id)
    ids = {alert_id, *data.others}
    if data.group:
        group, _ = await list_group(pool, rules_in_force, await find_alert_labels(pool, alert_id))
        ids |= {each.id for each in group}
    async with pool.acquire() as connection, connection.transaction():
        found = {each: await connection.fetchrow(SQL["ack_episode"], each, by.by) for each in sorted(ids)}
        new = [(each, row["level"]) for each, row in found.items() if row is not None and row["is_new"]]
        if new:
            await log_actions(connection, new, "ack", by, data.note)
            await publish(connection, [("acked", each) for each, _ in new])
            await signal_leader(connection)
    if found[alert_id] is None:
        raise await _why_not(pool, alert_id, "acknowledged")
    for each, _ in new:
        log.info("alert_acked", id=each, by=by.by, **actor(request))
    acked = [each for each, row in found.items() if row is not None]
    return Acknowledged(alert_id, by.by, acked if data.group or data.others else msgspec.UNSET)


@post(
    "/api/v1/alerts/{alert_id:int}/close",
    guards=[require("admin")],
    status_code=HTTP_200_OK,
    responses=_RESPONSES,
    tags=["Alerts"],
    summary="Close an alert",
)
async def close_alert(
    request: Request[Any, Any, Any],
    pool: NamedDependency[Pool],
    alert_id: FromPath[int],
    data: Annotated[
        CloseRequest | None, BodyKwarg(examples=[Example(value={"by": "Ana", "note": "sensor replaced"})])
    ] = None,
) -> Closed:
    """Close an alert: people are told that it ended, and by whom.

    It stays closed until it ends by its readings; if its level rises before, it is open again.
    """
    data = data or CloseRequest()
    by = who(request, data.by)
    check_text("note", data.note, _NOTE_LENGTH)
    if not 0 < alert_id <= LARGEST_ID:
        raise no_alert(alert_id)
    async with pool.acquire() as connection, connection.transaction():
        closed = await _close(connection, alert_id, by, data.note)
    if not closed:
        raise await _why_not(pool, alert_id, "closed")
    log.info("alert_closed", id=alert_id, by=by.by, **actor(request))
    return Closed(alert_id, by.by, data.note)


async def _close(connection: Connection, alert_id: int, by: Actor, note: str) -> bool:
    level = await connection.fetchval(SQL["close_episode"], alert_id, by.by, note)
    if level is None:
        return False
    await log_actions(connection, [(alert_id, level)], "close", by, note)
    await publish(connection, [("resolved", alert_id)])
    await signal_leader(connection)
    return True


async def _why_not(pool: Pool, alert_id: int, done: str) -> Exception:
    """Return the error for an alert that is not open, or that does not exist."""
    if await pool.fetchrow(SQL["find_episode"], alert_id) is None:
        return no_alert(alert_id)
    return ConflictError(f"Alert {alert_id} is over; only an open alert can be {done}")


handlers = [acknowledge, close_alert]
