"""The author of an action (a name and the label of the API key), and its target: one alert or its whole group."""

from collections.abc import Sequence
from typing import Any

import asyncpg
import msgspec
from litestar import Request

from app.alerting.actions.sql import SQL
from app.alerting.rules.in_force import RulesInForce
from app.auth.audit import actor
from app.db.pool import Connection, Pool
from app.errors import InvalidRequestError, NotFoundError
from app.model import Tags
from app.paging import LARGEST_ID
from app.parameters import check_text

_OWN_LABELS = ("sensor", "metric", "gateway")


class Actor(msgspec.Struct, frozen=True):
    """Who acts: the name that was given, else the label of the key; and that label."""

    by: str
    key: str


class Alert(msgspec.Struct, frozen=True):
    """An alert with the labels by which alerts are grouped and silenced."""

    id: int
    rule: str
    sensor: str | None
    metric: str | None
    gateway: str | None
    tags: Tags
    level: str
    state: str = "firing"

    def label(self, name: str) -> str:
        """Return a label by name; empty if the alert has no such label."""
        own = {"sensor": self.sensor, "metric": self.metric, "gateway": self.gateway}
        return (own[name] if name in own else self.tags.get(name)) or ""


def who(request: Request[Any, Any, Any], by: str | None, name: str = "by") -> Actor:
    """Return who sends a request. Raise InvalidRequestError for a name that is blank."""
    key = actor(request)["key"]
    if by is None:
        return Actor(key, key)
    check_text(name, by)
    if not by.strip():
        raise InvalidRequestError(f"{name} is empty; leave it out to use the label of the API key, {key!r}")
    return Actor(by, key)


def no_alert(alert_id: int) -> NotFoundError:
    """Return the error for an id that no alert has."""
    return NotFoundError(
        f"There is no alert {alert_id}; /api/v1/alerts lists the open ones, /api/v1/alerts/history all"
    )


async def find_alert_labels(connection: Connection | Pool, alert_id: int) -> Alert:
    """Return an alert, open or past. Raise NotFoundError."""
    row = await connection.fetchrow(SQL["find_alert_labels"], alert_id) if 0 < alert_id <= LARGEST_ID else None
    if row is None:
        raise no_alert(alert_id)
    return _alert(row)


async def list_group(pool: Pool, rules_in_force: RulesInForce, alert: Alert) -> tuple[list[Alert], Sequence[str]]:
    """Return the open alerts that share messages with an alert, itself included, and the labels they have in common."""
    rules = await rules_in_force.read(pool)
    rule = next((each for each in rules.rules if each.name == alert.rule), None)
    # A built-in rule groups gateways by what the rules do that it stands for: at least by the tags that all share.
    labels = rule.group_by if rule is not None else tuple(alert.tags)
    found = [_alert(row) for row in await pool.fetch(SQL["list_open_of_rule"], alert.rule)]
    return [each for each in found if all(each.label(name) == alert.label(name) for name in labels)], labels


def matchers_of(alert: Alert, labels: Sequence[str] | None) -> dict[str, Any]:
    """Return the matchers that silence an alert, or its group, whose alerts have these labels in common."""
    if labels is None:
        own = {name: text for name in _OWN_LABELS if (text := alert.label(name))}
        if alert.sensor is not None:
            own.pop("gateway", None)
        return {"rule": alert.rule, **own}
    own = {name: alert.label(name) for name in labels if name in _OWN_LABELS and alert.label(name)}
    tags = {name: alert.label(name) for name in labels if name not in _OWN_LABELS and alert.label(name)}
    return {"rule": alert.rule, **own, **({"tags": tags} if tags else {})}


async def log_actions(
    connection: Connection,
    alerts: Sequence[tuple[int, str]],
    action: str,
    actor_: Actor,
    note: str = "",
    silence: asyncpg.Record | None = None,
) -> None:
    """Keep who did what about alerts, given as (id, level), in the transaction that does it."""
    await connection.execute(
        SQL["insert_actions"],
        [alert_id for alert_id, _ in alerts],
        None if silence is None else silence["id"],
        action,
        actor_.by,
        actor_.key,
        note,
        [level for _, level in alerts],
        None if silence is None else silence["to"],
    )


def _alert(row: asyncpg.Record) -> Alert:
    return msgspec.convert(dict(row), Alert)
