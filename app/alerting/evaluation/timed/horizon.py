"""Horizons: the times up to which values are held.

A held value counts only when a reading that would end it would usually have arrived, so a horizon is as far behind now
as the gateway is usually late.
"""

from collections.abc import Mapping
from statistics import median

import msgspec

from app.alerting.evaluation.ingest_break import read_ingest_since
from app.alerting.evaluation.timed.sql import SQL
from app.clock import SECOND_US
from app.db.pool import Connection

SHORTEST_SETTLE_US = 2 * SECOND_US
#: The uploads of gateways are read again after this time.
_READ_EVERY_US = 5 * SECOND_US


class Uploads(msgspec.Struct, frozen=True):
    """The last uploads of a gateway; times are microseconds since 1970."""

    last_us: int
    #: Seconds from the oldest new reading of an upload to its receipt, of at most 20 uploads.
    latenesses_s: tuple[float, ...] = ()

    def settle_us(self, live_us: int) -> int:
        """Return the usual lateness. Uploads that were later than `live_us` are those of a gateway that was away."""
        usual = [lateness for lateness in self.latenesses_s if lateness * SECOND_US <= live_us]
        settle_us = round(median(usual) * SECOND_US) if usual else 0
        return min(max(settle_us, SHORTEST_SETTLE_US), live_us)


def horizon_of(uploads: Uploads | None, live_us: int, now_us: int, since_us: int) -> int:
    """Return the horizon of a gateway. `since_us` is since when uploads could be taken without a break.

    After a break it stands until the gateway has uploaded, at most for `live_us`.
    """
    if uploads is None:
        return now_us - SHORTEST_SETTLE_US
    settle_us = uploads.settle_us(live_us)
    if uploads.last_us < since_us and now_us - since_us < live_us:
        return min(uploads.last_us, now_us) - settle_us
    return now_us - settle_us


class Horizons:
    """The horizons of all gateways. They never go back."""

    def __init__(self) -> None:
        self._uploads: Mapping[str, Uploads] = {}
        self._since_us = self._now_us = self._read_us = 0
        #: (gateway, `live_us`) → the greatest horizon so far.
        self._kept: dict[tuple[str, int], int] = {}

    async def read(self, connection: Connection, now_us: int) -> None:
        """Read the last uploads of all gateways, unless they were read less than 5 seconds ago."""
        self._now_us = now_us
        if now_us - self._read_us < _READ_EVERY_US:
            return
        self._read_us = now_us
        rows = await connection.fetch(SQL["list_upload_latenesses"])
        self._uploads = {row["name"]: Uploads(row["last_us"], tuple(row["latenesses_s"])) for row in rows}
        self._since_us = await read_ingest_since(connection)

    def horizon_us(self, gateway: str, live_us: int | None) -> int:
        """Return how far values of a gateway's sensors are held for a rule with this `late_data: {live: …}`.

        None: return a time that no horizon exceeds.
        """
        if live_us is None:
            return self._now_us - SHORTEST_SETTLE_US
        horizon = horizon_of(self._uploads.get(gateway), live_us, self._now_us, self._since_us)
        self._kept[gateway, live_us] = max(horizon, self._kept.get((gateway, live_us), horizon))
        return self._kept[gateway, live_us]
