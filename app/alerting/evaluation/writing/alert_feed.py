"""Changes of alerts on the live feed, and ends of alerts for reasons other than readings."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

import msgspec

from app.alerting.episodes.reasons import RETRACTED
from app.alerting.evaluation.writing.sql import SQL
from app.db.pool import Connection
from app.rule_texts import fill_in_message

Transition = Literal["firing", "changed", "acked", "resolved", "retracted"]


async def load_alerts(connection: Connection, ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Return alerts by id as alert_view shows them, with the rule's text filled in. Their times are of readings."""
    if not ids:
        return {}
    rows = await connection.fetch(SQL["list_alerts_by_id"], ids)
    return {row["id"]: fill_in_message(dict(row)) for row in rows}


async def publish(
    connection: Connection,
    changes: Sequence[tuple[Transition, int]],
    deleted: Mapping[int, dict[str, Any]] = MappingProxyType({}),
) -> None:
    """Append changes of alerts, by id, to the live feed in this order, in the transaction that makes them.

    `deleted` are the alerts whose rows the transaction deletes. They come first, as retracted.
    """
    frames = [{"transition": "retracted", **alert, "reason": RETRACTED} for alert in deleted.values()]
    alerts = await load_alerts(connection, [alert_id for _, alert_id in changes])
    frames += [{"transition": transition, **alerts[alert_id]} for transition, alert_id in changes if alert_id in alerts]
    if frames:
        await connection.execute(SQL["insert_alert_feed"], [msgspec.json.encode(frame) for frame in frames])


async def end_alerts(connection: Connection, reasons: Mapping[int, str | None]) -> None:
    """End open alerts in the caller's transaction; `reasons` maps ids to reasons. None keeps the stored reason."""
    if not reasons:
        return
    rows = await connection.fetch(SQL["end_alerts"], list(reasons), list(reasons.values()))
    await publish(connection, [("resolved", row["id"]) for row in rows])
