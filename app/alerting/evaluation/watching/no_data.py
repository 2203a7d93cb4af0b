"""Alerts of missing data. They follow the wall clock and are never part of a threshold episode.

A series is silent if its last new reading was received longer ago than `no_data: {after: …}` allows. Time before the
last break of ingest does not count, so that a downtime of the API makes no series silent.
"""

import asyncio
from collections.abc import Collection, Sequence

import asyncpg
import msgspec

from app.alerting.episodes.reasons import NO_DATA_CLEAR, UNWATCHED, reason_out_of_use
from app.alerting.evaluation.ingest_break import read_ingest_since
from app.alerting.evaluation.watching.no_data_check import Key, NoDataCheck, SilentSource, WatchedSeries
from app.alerting.evaluation.watching.sql import SQL
from app.alerting.evaluation.writing.alert_feed import end_alerts, publish
from app.alerting.rules.matching import RuleBook
from app.db.pool import Connection
from app.model import SeriesId

_CHECKED_AT_A_TIME = 2_000


class NoDataOutcome(msgspec.Struct, frozen=True):
    """The outcome of one check of all series."""

    #: Number of rows that were opened or ended: alerts, and marks of series whose rule says `then: clear`.
    changes: int
    #: Rule name -> which of its durations fit badly to the series.
    warnings: dict[str, str]


async def update_no_data_alerts(connection: Connection, book: RuleBook) -> NoDataOutcome:
    """Check all series; open and end alerts of missing data in the caller's transaction, which holds the lock."""
    series = [WatchedSeries(**row) for row in await connection.fetch(SQL["list_watched"])]
    intervals_s = {row["name"]: row["median_s"] for row in await connection.fetch(SQL["list_upload_intervals"])}
    back_us = {row["gateway"]: row["us"] for row in await connection.fetch(SQL["list_gateways_back"])}
    known = {
        (row["rule"], row["series_id"], row["gateway"]): row for row in await connection.fetch(SQL["list_open_no_data"])
    }
    ingest_since_us = await read_ingest_since(connection)
    now_us = await connection.fetchval(SQL["get_now"])
    check = NoDataCheck(book, intervals_s, ingest_since_us, now_us, known, back_us)
    for number, each in enumerate(series, start=1):
        check.add(each)
        if number % _CHECKED_AT_A_TIME == 0:
            await asyncio.sleep(0)  # so that the lease is kept meanwhile
    await _write_changed(connection, check)
    silent = check.silent()
    begun = [source for source in silent if source.key not in known]
    for source in begun:
        await _open(connection, source)
    ended = known.keys() - {source.key for source in silent}
    await end_alerts(connection, {known[key]["id"]: _reason(known[key], key in check.watched) for key in ended})
    await _count_changes(connection, [source.key for source in begun if source.reason == NO_DATA_CLEAR], ended)
    return NoDataOutcome(len(begun) + len(ended), check.warnings)


def _reason(row: asyncpg.Record, is_watched: bool) -> str | None:
    """Return the reason for which an alert of missing data ends; None: there are data again."""
    return None if is_watched else reason_out_of_use(bool(row["is_retired"]), bool(row["is_deleted"])) or UNWATCHED


async def end_no_data_alerts(connection: Connection, series_ids: Sequence[SeriesId]) -> int:
    """End alerts of missing data of these series and their gateways if new data came; return how many.

    Must run in the transaction that evaluates the new readings, so that one message tells both.
    """
    rows = await connection.fetch(SQL["list_no_data_with_new_readings"], series_ids)
    await end_alerts(connection, {row["id"]: None for row in rows})
    await _count_changes(connection, [], [(row["rule"], row["series_id"], None) for row in rows])
    return len(rows)


async def _count_changes(connection: Connection, cleared: Sequence[Key], ended: Collection[Key]) -> None:
    """Increase the revision of open episodes whose series is now cleared for missing data, or no longer is."""
    keys = [key for key in (*cleared, *ended) if key[1] is not None]
    if keys:
        await connection.execute(
            SQL["count_change_of_open"], [rule for rule, _, _ in keys], [series_id for _, series_id, _ in keys]
        )


async def _open(connection: Connection, source: SilentSource) -> None:
    episode_id = await connection.fetchval(
        SQL["insert_no_data"],
        source.rule,
        source.series_id,
        source.gateway,
        source.since_us,
        source.level,
        source.reason,
        source.unit,
    )
    if episode_id is None or source.reason == NO_DATA_CLEAR:
        return
    await publish(connection, [("firing", episode_id)])


async def _write_changed(connection: Connection, check: NoDataCheck) -> None:
    """Store the changed times by which the views judge series and gateways, and the changed limits of each series."""
    if check.changed:
        ids = list(check.changed)
        after_us, limits, units = zip(*check.changed.values(), strict=True)
        encoded = [msgspec.json.encode(each).decode() for each in limits]
        await connection.execute(SQL["update_series_watch"], ids, after_us, encoded, units)
    gateways = check.gateways()
    await connection.execute(SQL["update_gateway_watch"], list(gateways), list(gateways.values()))
