"""The aggregates `reading_1m`, `_1h` and `_1d`: the same names and answers on both editions.

On Community they are continuous aggregates, on Apache-2 views over rolled-up tables that the lease holder keeps.
They are no numbered migration: `ensure_aggregates` compares what stands with what the edition needs and rebuilds where
they differ, so that a database can move from one edition to the other.
"""

from app.db.aggregates.late_days import refresh_day, refresh_late_days
from app.db.aggregates.levels import LEVELS, MINUTE_RETENTION, OLDEST_ACCEPTED_US, RAW_RETENTION, first_safe_day
from app.db.aggregates.policies import OverduePolicies
from app.db.aggregates.rebuild import (
    CompressedReadingsError,
    create_anew,
    ensure_aggregates,
    find_first_day_to_fill,
    find_stored_aggregates,
)
from app.db.aggregates.removal import remove_series
from app.db.aggregates.retention import find_raw_retention
from app.db.aggregates.roll_up import drop_old_chunks, roll_up
from app.db.aggregates.warnings import list_warnings

__all__ = [
    "LEVELS",
    "MINUTE_RETENTION",
    "OLDEST_ACCEPTED_US",
    "RAW_RETENTION",
    "CompressedReadingsError",
    "OverduePolicies",
    "create_anew",
    "drop_old_chunks",
    "ensure_aggregates",
    "find_first_day_to_fill",
    "find_raw_retention",
    "find_stored_aggregates",
    "first_safe_day",
    "list_warnings",
    "refresh_day",
    "refresh_late_days",
    "remove_series",
    "roll_up",
]
