"""Buckets of whole days in a zone's local time: they begin at local midnight and last as long as the local days do."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import msgspec

from app.clock import EPOCH
from app.db.aggregates import LEVELS, MINUTE_RETENTION
from app.errors import InvalidRequestError
from app.trends.resolution import Resolution

_DAY = timedelta(days=1)
_MINUTES, _HOURS, _DAYS = (level.bucket for level in LEVELS)
_QUERIES = {_HOURS: "list_local_buckets_1h", _MINUTES: "list_local_buckets_1m"}
#: The longest range in days; of more, the list of edges would be too long.
LOCAL_DAYS_LIMIT = 40_000
#: The largest number of days, over all series, that are computed from minutes: two million rows.
DAYS_OF_MINUTES_LIMIT = 1_500


class LocalDays(msgspec.Struct, frozen=True):
    """The edges of local buckets in ascending order, one more than there are buckets, and the query that reads them."""

    zone: ZoneInfo
    edges: list[datetime]
    query: str
    #: The end of the local day that contains the end of the range; a bucket of a week ends there at the latest.
    end: datetime
    #: Days that are computed from minutes; 0 when hours suffice.
    days_of_minutes: int = 0

    def check(self, series: int) -> None:
        """Raise InvalidRequestError if so many series would read too many minutes."""
        if self.days_of_minutes * series > DAYS_OF_MINUTES_LIMIT:
            raise InvalidRequestError(
                f"tz is {self.zone.key}, whose midnight is not at a full hour UTC: its days are computed from minutes, "
                f"and {series} series over {self.days_of_minutes} days are more than {DAYS_OF_MINUTES_LIMIT:,} days of "
                "minutes. Ask for fewer series or a shorter range, or leave tz out"
            )


def find_local_days(
    zone: ZoneInfo, resolution: Resolution, start: datetime, end: datetime, now: datetime
) -> LocalDays | None:
    """Return the buckets of a resolution of a day, or a week from Monday, that cover [start, end).

    None for a finer resolution, and where they are those of UTC. Hours are read where all edges are whole hours UTC,
    else minutes. Minutes are kept for MINUTE_RETENTION; of an older range hours are read, and each bucket begins with
    the first full hour UTC at or after local midnight. Raises InvalidRequestError for a range of over LOCAL_DAYS_LIMIT
    days.
    """
    width = resolution.width
    if width < _DAY:
        return None
    if (end - start) // _DAY > LOCAL_DAYS_LIMIT:
        raise InvalidRequestError(
            f"from is {start.isoformat()} and to is {end.isoformat()}; with tz, ask for at most {LOCAL_DAYS_LIMIT:,} "
            "days"
        )
    edges = _list_edges(zone, width, start, end)
    if _are_whole(edges, _DAYS):
        return None
    if _are_whole(edges, _HOURS):
        return LocalDays(zone, edges, _QUERIES[_HOURS], _end_of_day(zone, end))
    if edges[0] >= now - MINUTE_RETENTION:
        days = (edges[-1] - edges[0]) // _DAY
        return LocalDays(zone, edges, _QUERIES[_MINUTES], _end_of_day(zone, end), days)
    # From an hour earlier, so that the first edge is not after `start` when it is rounded up.
    edges = [_next_hour(edge) for edge in _list_edges(zone, width, start - _HOURS, end)]
    edges = edges[:-1] if edges[-2] >= end else edges
    return LocalDays(zone, edges, _QUERIES[_HOURS], min(_next_hour(_end_of_day(zone, end)), edges[-1]))


def _list_edges(zone: ZoneInfo, width: timedelta, start: datetime, end: datetime) -> list[datetime]:
    """Return the local midnights from the last one at or before `start` to the first one at or after `end`, as UTC."""
    try:
        day = start.astimezone(zone).date()
        if width > _DAY:
            day -= timedelta(days=day.weekday())
        edges = [_midnight(zone, day)]
        while edges[-1] < end:
            day += width
            edge = _midnight(zone, day)
            if edge > edges[-1]:  # a zone that crosses the date line leaves a day out
                edges.append(edge)
    except OverflowError:
        raise InvalidRequestError(
            f"from is {start.isoformat()} and to is {end.isoformat()}; with tz, stay within the years 2 to 9998"
        ) from None
    return edges


def _end_of_day(zone: ZoneInfo, end: datetime) -> datetime:
    """Return the first local midnight at or after `end`."""
    day = end.astimezone(zone).date()
    return end if _midnight(zone, day) == end else _midnight(zone, day + _DAY)


def _next_hour(moment: datetime) -> datetime:
    """Return the first full hour UTC at or after a moment."""
    return moment + (EPOCH - moment) % _HOURS


def _midnight(zone: ZoneInfo, day: date) -> datetime:
    """Return the first moment of a local day, also where a change of the clocks skips or repeats midnight."""
    return datetime.combine(day, time(), tzinfo=zone).astimezone(UTC)


def _are_whole(edges: Iterable[datetime], bucket: timedelta) -> bool:
    """Return whether all edges are edges of the buckets of a level, too."""
    return not any((edge - EPOCH) % bucket for edge in edges)
