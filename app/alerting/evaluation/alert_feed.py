"""Changes of alerts on the live feed, and ends of alerts for reasons other than readings."""

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from app.alerting.evaluation.sql import SQL
from app.db.pool import Connection
from app.rule_texts import fill_in_message

Transition = Literal["firing", "changed", "resolved", "retracted"]


async def publish(connection: Connection, changes: Sequence[tuple[Transition, int]]) -> None:
    """Append changes of alerts, by id, to the live feed in this order, in the transaction that makes them.

    A frame carries the alert as alert_view shows it, with the rule's text filled in. Its times are those of readings.
    """
    if not changes:
        return
    rows = await connection.fetch(SQL["list_changed_alerts"], [alert_id for _, alert_id in changes])
    alerts = {row["id"]: fill_in_message(dict(row)) for row in rows}
    payloads = []
    for transition, alert_id in changes:
        if alert := alerts.get(alert_id):
            payloads.append(msgspec.json.encode({"transition": transition, **alert}))
    await connection.execute(SQL["insert_alert_feed"], payloads)


async def end_alerts(connection: Connection, reasons: Mapping[int, str | None]) -> None:
    """End open alerts in the caller's transaction; `reasons` maps ids to reasons. None keeps the stored reason."""
    if not reasons:
        return
    rows = await connection.fetch(SQL["end_alerts"], list(reasons), list(reasons.values()))
    await publish(connection, [("resolved", row["id"]) for row in rows])
