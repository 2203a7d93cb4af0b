"""Times and durations as people read them: local, with the name of the zone."""

from datetime import datetime
from functools import cache, lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from app.clock import DAY_US, HOUR_US, MINUTE_US, SECOND_US

_LOCALTIME = Path("/etc/localtime")


@cache
def zone_names() -> frozenset[str]:
    """Return the names of all time zones; finding them reads several hundred files, so it is done once."""
    return frozenset(available_timezones())


def server_zone(tz: str | None, localtime: Path = _LOCALTIME) -> str:
    """Return the IANA name of the server's time zone: that of TZ, else that of /etc/localtime, else UTC."""
    if tz and tz.lstrip(":") in zone_names():
        return tz.lstrip(":")
    name = str(localtime.resolve()).rpartition("zoneinfo/")[2]
    return name if name in zone_names() else "UTC"


def format_time(moment: datetime, zone: str, at: datetime | None) -> str:
    """Write a time as `02:10 CEST`, with its date unless it is of the same day as `at`."""
    local = moment.astimezone(_zone(zone))
    same_day = at is not None and at.astimezone(_zone(zone)).date() == local.date()
    return f"{local:%H:%M}{_abbreviation(local)}" if same_day else f"{local:%Y-%m-%d %H:%M}{_abbreviation(local)}"


def format_times(since: datetime, until: datetime, zone: str, at: datetime | None) -> str:
    """Write a span as `from 02:10 to 02:40 CEST`; the zone stands twice where the clocks were changed between."""
    start, end = format_time(since, zone, at), format_time(until, zone, at)
    name = _abbreviation(until.astimezone(_zone(zone)))
    if not start.endswith(name):
        return f"{start} to {end}"
    if since.astimezone(_zone(zone)).date() == until.astimezone(_zone(zone)).date():
        end = format_time(until, zone, until)
    return f"{start.removesuffix(name)} to {end}"


def format_span(us: int) -> str:
    """Write a duration in up to two units: `64 s`, `30 min`, `1 h 05 min`, `2 d 3 h`."""
    if us < 2 * MINUTE_US:
        return f"{max(us, 0) // SECOND_US} s"
    if us < 2 * HOUR_US:
        return f"{us // MINUTE_US} min"
    if us < 2 * DAY_US:
        return f"{us // HOUR_US} h {us % HOUR_US // MINUTE_US:02} min"
    return f"{us // DAY_US} d {us % DAY_US // HOUR_US} h"


def _abbreviation(local: datetime) -> str:
    """Return a space and the name of the zone at that time; zones without a name, such as -03, are offsets of UTC."""
    name = local.strftime("%Z")
    return f" UTC{name}" if name[:1] in "+-" else f" {name}"


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        return ZoneInfo("UTC")
