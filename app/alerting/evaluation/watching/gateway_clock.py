"""Alerts about clocks of gateways: the skew of the last uploads, also of those of which everything was refused.

Skew is the time of receipt minus the newest time of an upload. A negative skew proves that the clock is ahead, and a
skew that is longer than any accepted reading is late proves that the clock is behind. A smaller positive skew may also
come from a gateway that uploads late readings. Then several uploads are compared: the skew of a gateway that catches up
becomes smaller, and the skew of a wrong clock does not.
"""

from collections.abc import Sequence
from typing import Final

from app.alerting.episodes.reasons import UNWATCHED
from app.alerting.evaluation.watching.sql import SQL
from app.alerting.evaluation.writing.alert_feed import end_alerts, publish
from app.alerting.rules.model import GATEWAY_CLOCK
from app.clock import DAY_US, SECOND_US
from app.db.pool import Connection
from app.durations import format_skew

#: A clock is wrong when so many uploads in a row have a skew beyond this, and right again below the second.
WRONG_IN_A_ROW: Final = 3
WRONG_S: Final = 60.0
RIGHT_S: Final = 30.0
#: No reading that is accepted is as late as this.
_NEVER_LATE_S: Final = 399 * DAY_US / SECOND_US
#: Uploads must span this long to distinguish a clock that is behind from readings that are late. The skew of a clock
#: that is behind changes by at most a quarter of that span; that of a gateway that catches up at 1.25 times the usual
#: speed or more changes by more.
_SPAN_S: Final = 10.0
_STEADY: Final = 0.25
_LEVEL: Final = "warning"


def is_wrong(skews_s: Sequence[float], times_us: Sequence[int]) -> bool:
    """Return whether the last uploads, oldest first, show a wrong clock; `times_us` are those of their receipt."""
    last = skews_s[-WRONG_IN_A_ROW:]
    if len(last) < WRONG_IN_A_ROW:
        return False
    if all(skew_s < -WRONG_S for skew_s in last) or all(skew_s > _NEVER_LATE_S for skew_s in last):
        return True
    count = _count_behind(skews_s)
    lags_s, span_s = skews_s[-count:], (times_us[-1] - times_us[-count]) / SECOND_US
    return count >= WRONG_IN_A_ROW and span_s >= _SPAN_S and max(lags_s) - min(lags_s) <= _STEADY * span_s


def is_right(skews_s: Sequence[float]) -> bool:
    """Return whether the last upload shows a clock that is right."""
    return bool(skews_s) and abs(skews_s[-1]) < RIGHT_S


def explain(skew_s: float) -> str:
    """Return what is wrong with a clock, and what to do."""
    what = "readings are refused or have wrong times"
    return f"clock {format_skew(skew_s)}: {what}; let the gateway set its clock by NTP, and check its time zone"


async def update_clock_alerts(connection: Connection) -> int:
    """Open and end alerts about clocks in the caller's transaction, which holds the lock; return how many.

    The clock of a gateway that has sent nothing for 7 days is no longer watched.
    """
    open_ids = {row["gateway"]: row["id"] for row in await connection.fetch(SQL["list_open_clock_alerts"])}
    gateways = {row["name"]: row for row in await connection.fetch(SQL["list_skews"])}
    begun = 0
    for name, row in gateways.items():
        if name not in open_ids and is_wrong(row["skews_s"], row["times_us"]):
            since_us = row["times_us"][-WRONG_IN_A_ROW]
            reason = explain(row["skews_s"][-1])
            episode_id = await connection.fetchval(
                SQL["insert_clock_alert"], GATEWAY_CLOCK, name, since_us, _LEVEL, reason
            )
            await publish(connection, [("firing", episode_id)])
            begun += 1
    ended = {
        episode_id: None if name in gateways else UNWATCHED
        for name, episode_id in open_ids.items()
        if name not in gateways or is_right(gateways[name]["skews_s"])
    }
    await end_alerts(connection, ended)
    return begun + len(ended)


def _count_behind(skews_s: Sequence[float]) -> int:
    """Return how many uploads in a row, up to the last, were behind."""
    count = 0
    for skew_s in reversed(skews_s):
        if skew_s <= WRONG_S:
            break
        count += 1
    return count
