"""The three levels of aggregates, and how long readings and minutes are kept."""

from datetime import UTC, date, datetime, time, timedelta

import msgspec

from app.clock import DAY_US, EPOCH

#: Raw readings and their minutes are kept this long; hours and days for ever.
RAW_RETENTION = timedelta(days=400)
MINUTE_RETENTION = timedelta(days=800)
#: Older readings are refused: within a day of retention's edge their chunk may go at any moment.
OLDEST_ACCEPTED_US = (RAW_RETENTION.days - 1) * DAY_US
#: At most this long for one statement over a day of readings; far longer than any should take.
STATEMENT_TIMEOUT_S = 3_600.0


class AggregateLevel(msgspec.Struct, frozen=True):
    """One aggregate: its relation, its bucket, and the part at its end that stays real-time on Community."""

    relation: str
    bucket: timedelta
    real_time: timedelta

    def refreshable_until(self, now: datetime) -> datetime:
        """Return the last bucket edge that a refresh may reach: a later one would hide fresh readings."""
        return floor_time(now - self.real_time, self.bucket)


LEVELS = (
    AggregateLevel("reading_1m", timedelta(minutes=1), timedelta(minutes=2)),
    AggregateLevel("reading_1h", timedelta(hours=1), timedelta(hours=2)),
    AggregateLevel("reading_1d", timedelta(days=1), timedelta(days=2)),
)


def floor_time(moment: datetime, width: timedelta) -> datetime:
    """Return the start of the bucket that holds `moment`; buckets are counted from 1970-01-01 UTC."""
    return moment - (moment - EPOCH) % width


def start_of(day: date) -> datetime:
    """Return the first moment of a UTC day."""
    return datetime.combine(day, time(), tzinfo=UTC)


def first_safe_day(now: datetime, kept: timedelta | None = RAW_RETENTION) -> date:
    """Return the first UTC day of which a retention of this length, None for ever, has dropped no raw reading."""
    return date.min if kept is None else (now - kept).date() + timedelta(days=1)
