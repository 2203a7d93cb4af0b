"""Changes of alerts on the live feed, and ends of alerts for reasons other than readings."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal

import msgspec

from app.alerting.evaluation.sql import SQL
from app.db.pool import Connection

Transition = Literal["firing", "changed", "resolved", "retracted"]


class AlertFrame(msgspec.Struct, frozen=True, kw_only=True):
    """One change of an alert, as clients of the live feed receive it. Its times are times of readings."""

    transition: Transition
    id: int
    rule: str
    sensor: str | None = None
    metric: str | None = None
    gateway: str | None = None
    level: str | None = None
    started_at: datetime | None = None
    fired_at: datetime | None = None
    resolved_at: datetime | None = None
    #: A value of alert_episode.reason; None if readings caused the change.
    reason: str | None = None


async def publish(connection: Connection, frames: Sequence[AlertFrame]) -> None:
    """Append changes to the live feed in this order, in the transaction that makes them."""
    if frames:
        await connection.execute(SQL["insert_alert_feed"], [msgspec.json.encode(frame) for frame in frames])


async def end_alerts(connection: Connection, reasons: Mapping[int, str | None]) -> None:
    """End open alerts in the caller's transaction; `reasons` maps ids to reasons. None keeps the stored reason."""
    if not reasons:
        return
    rows = await connection.fetch(SQL["end_alerts"], list(reasons), list(reasons.values()))
    await publish(connection, [AlertFrame(transition="resolved", **row) for row in rows])
