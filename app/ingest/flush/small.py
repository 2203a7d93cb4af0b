"""The small flush: one call of the function `store_small_flush_3`, which commits by itself.

The function stores a batch if all of it is new or all of it is stored already. The general transaction does all others.
"""

from collections.abc import Sequence

import asyncpg
import msgspec
import numpy as np

from app.db.pool import Connection
from app.errors import OverloadedError
from app.ingest.flush.batch import Batch, NewReadings, as_columns
from app.ingest.flush.commit import commit_answered
from app.ingest.flush.feed_payload import group_readings, split_payload
from app.ingest.flush.legacy_records import columns_of, find_records
from app.ingest.flush.outcomes import make_answers, make_outcomes
from app.ingest.flush.transaction import COPY_FROM, days_of, summaries_of
from app.ingest.series.registry import SensorsChangedError, SeriesRegistry
from app.ingest.sql import SQL
from app.ingest.uploads.receipt import Outcome

_MIXED, _ANSWERED_ELSEWHERE, _SENSORS_CHANGED = "TG001", "TG002", "TG003"


class NotUniformError(OverloadedError):
    """The batch is partly new, or one of its answers is stored; only the general transaction can store it."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__("Other processes were storing the same readings. Keep the data and send them again.")
        self.sqlstate = sqlstate


def is_small(batch: Batch, registry: SeriesRegistry) -> bool:
    """Return whether the function can store the batch, if it is uniform."""
    return (
        0 < batch.size < COPY_FROM
        and not any(upload.is_import for upload in batch.uploads)
        and not batch.has_pending
        and registry.retired.keys().isdisjoint(batch.samples.ids.tolist())
    )


async def write_small_flush(
    connection: Connection, batch: Batch, registry: SeriesRegistry, *, any_decompression: bool = False
) -> list[Outcome]:
    """Store a small batch and return each upload's outcome, in order, after the commit.

    Raise NotUniformError, asyncpg.DeadlockDetectedError, SensorsChangedError, and errors of the database; then nothing
    is stored. Raise CommitUnknownError if the answer is lost.
    """
    new = NewReadings(batch, batch.samples)
    grouped = group_readings(new, registry.names)
    records = find_records(new, grouped, registry)
    try:
        with commit_answered():
            # Not fetchrow: because of its row limit, the call would not be finished when it commits.
            (row,) = await connection.fetch(
                SQL["store_small_flush"],
                registry.version,
                any_decompression,
                *batch.samples.columns(),
                *days_of(new),
                *new.newest.columns(),
                *summaries_of(new),
                split_payload(new, grouped, [found.record for found in records]),
                *columns_of(records),
                *_answers(new),
            )
    except asyncpg.PostgresError as error:
        if error.sqlstate == _SENSORS_CHANGED:
            raise SensorsChangedError from error
        if error.sqlstate in (_MIXED, _ANSWERED_ELSEWHERE):
            raise NotUniformError(error.sqlstate) from error
        raise
    if row["seq"] is None:
        return make_outcomes(_nothing_of(new, row["conflicts"]), None, [], [])
    return make_outcomes(new, row["seq"], records, row["legacy_ids"] or [])


def _nothing_of(new: NewReadings, conflicts: Sequence[int] = ()) -> NewReadings:
    """Return that nothing was new; `conflicts` are the numbers, from 1, of samples that another value is stored for."""
    places = new.samples.places[np.array(conflicts, np.int64) - 1]
    return NewReadings(new.batch, new.samples.take(slice(0)), places)


def _answers(new: NewReadings) -> list[list[object]]:
    """Return the answers as columns: label, key, hash, receipt and whether it has a seq if all is new, else receipt."""
    if_new = make_answers(new)
    if_stored = make_answers(_nothing_of(new)) if if_new else []
    rows = [(*msgspec.structs.astuple(one), other.receipt) for one, other in zip(if_new, if_stored, strict=True)]
    return as_columns(rows, 6)
