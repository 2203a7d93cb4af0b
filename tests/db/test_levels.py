from datetime import UTC, date, datetime, timedelta

import pytest

from app.db.aggregates.levels import LEVELS, first_safe_day, floor_time

NOW = datetime(2026, 6, 10, 13, 37, 12, tzinfo=UTC)


def test_buckets_are_counted_from_1970_in_utc() -> None:
    assert floor_time(NOW, timedelta(hours=1)) == datetime(2026, 6, 10, 13, tzinfo=UTC)
    # 1970-01-01 was a Thursday.
    assert floor_time(NOW, timedelta(days=7)) == datetime(2026, 6, 4, tzinfo=UTC)
    assert floor_time(datetime(2026, 6, 10, tzinfo=UTC), timedelta(days=1)) == datetime(2026, 6, 10, tzinfo=UTC)


def test_refresh_leaves_the_newest_buckets_of_each_level_to_queries() -> None:
    assert [(level.relation, level.refreshable_until(NOW)) for level in LEVELS] == [
        ("reading_1m", datetime(2026, 6, 10, 13, 35, tzinfo=UTC)),
        ("reading_1h", datetime(2026, 6, 10, 11, tzinfo=UTC)),
        ("reading_1d", datetime(2026, 6, 8, tzinfo=UTC)),
    ]


@pytest.mark.parametrize(
    ("kept", "day"),
    [
        (timedelta(days=2), date(2026, 6, 9)),
        (timedelta(days=2, hours=14), date(2026, 6, 8)),
        (None, date.min),
    ],
)
def test_first_safe_day_is_the_one_after_the_edge_of_retention(kept: timedelta | None, day: date) -> None:
    assert first_safe_day(NOW, kept) == day
