"""The writer: coalesces uploads of concurrent requests into few flushes and answers them after the commit."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from time import monotonic, perf_counter

import asyncpg
import msgspec
import structlog

from app.db.pool import APP_ROLE, DATABASE_ERRORS, Connection, connect, cut_after
from app.errors import DatabaseUnavailableError, InvalidRequestError, OverloadedError
from app.ingest.flush.batch import Batch
from app.ingest.flush.commit import CommitUnknownError
from app.ingest.flush.idempotency import AnsweredElsewhereError
from app.ingest.flush.small import NotUniformError, is_small, write_small_flush
from app.ingest.flush.transaction import COPY_FROM, write_flush
from app.ingest.series.registry import SensorsChangedError, SeriesRegistry
from app.ingest.sql import SQL
from app.ingest.uploads.lanes import SMALL_UPLOAD_VALUES, Lane, WaitingUpload
from app.ingest.uploads.receipt import Outcome
from app.ingest.uploads.upload import Upload
from app.metrics import Metrics
from app.problems import is_database_away
from app.tasks import run_off_loop

#: Limit of values that wait in large uploads; further ones are refused with 503 and Retry-After.
QUEUE_VALUES = 400_000
#: Limit of the bytes that waiting uploads take, likewise: a reading with tags or units is kept as an object.
QUEUE_BYTES = 128 * 2**20
#: The limits of small uploads are these divided by so much. They are apart, so that large uploads that wait do not get
#: small ones refused.
SMALL_PART = 4
#: Number of retries after a duplicate key in a COPY, a deadlock with another flush and the like.
RETRIES = 3
#: How long an upload may take. Until half of it, an upload waits for a flusher. A flush that takes longer than what
#: its oldest upload has left hangs, on a lock or on a dead network connection; its connection is closed.
UPLOAD_WITHIN_S = 27.0
_LOOK_EVERY_S = 0.5

#: Errors that neither our code nor the uploads cause, while the database is reachable: a retry may succeed.
_PASSING_ERRORS = (
    asyncpg.UniqueViolationError,
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InvalidCachedStatementError,
    asyncpg.InternalClientError,
)
#: Errors after which a batch is written again at once, mostly in another way.
_RETRIED_ERRORS = (
    asyncpg.UniqueViolationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.ConfigurationLimitExceededError,
    NotUniformError,
)
NOT_STORED = "Nothing was stored. Keep the data and send them again."
_MAYBE_STORED = "The upload may have been stored."
log = structlog.get_logger()


class FlushFailure(msgspec.Struct, frozen=True):
    """The failure of a flush, at a time of the monotonic clock."""

    at: float
    error: str


class Writer:
    """Stores uploads and returns outcomes; an upload is acknowledged only after PostgreSQL has committed it."""

    def __init__(self, metrics: Metrics, within_s: float | None = None) -> None:
        self.registry = SeriesRegistry()
        self.within_s = UPLOAD_WITHIN_S if within_s is None else within_s
        self._metrics = metrics
        self._small, self._large = self._lanes = Lane(gathers=True), Lane(gathers=False)
        self._dsn: str | None = None
        self._look: asyncio.TimerHandle | None = None
        #: The failure of the last flush, if it failed.
        self.failure: FlushFailure | None = None

    @property
    def oldest_flush_s(self) -> float:
        """Return for how long the oldest flush has been under way; 0 if there is none."""
        since = [began for lane in self._lanes for began in lane.flushing_since]
        return monotonic() - min(since) if since else 0.0

    @property
    def waiting_uploads(self) -> int:
        """Return the number of uploads that wait for a flush."""
        return sum(map(len, self._lanes))

    async def store(self, upload: Upload) -> Outcome:
        """Store an upload and return its outcome after the commit.

        Raise OverloadedError if the queue is full, and DatabaseUnavailableError after `within_s` at the latest; its
        message says whether the upload may have been stored.
        """
        lane = self._lane_of(upload)
        part = SMALL_PART if lane is self._small else 1
        if len(lane) and (
            lane.waiting_values + upload.value_count > QUEUE_VALUES // part
            or lane.waiting_bytes + upload.byte_count > QUEUE_BYTES // part
        ):
            raise OverloadedError(
                f"{lane.waiting_values} values wait to be stored already. Keep the data and send them again."
            )
        loop = asyncio.get_running_loop()
        waiting = WaitingUpload(upload, loop.create_future(), loop.time())
        lane.add(waiting)
        if self._look is None:
            self._look = loop.call_later(_LOOK_EVERY_S, self._give_up)
        self._note_waiting()
        return await waiting.outcome

    def _lane_of(self, upload: Upload) -> Lane:
        """Return where an upload waits. The blocks of an imported file follow one another in one lane, in order."""
        is_small = upload.value_count < SMALL_UPLOAD_VALUES and not upload.is_import
        return self._small if is_small else self._large

    def _note_waiting(self) -> None:
        self._metrics.queue_values.set(sum(lane.waiting_values for lane in self._lanes))

    def flushers(self, dsn: str, count: int) -> dict[str, Callable[[], Awaitable[None]]]:
        """Return the tasks that flush, by name: so many for small uploads, and as many for large ones."""
        self._dsn = dsn
        return {
            f"flusher_{name}_{number}": partial(self._flush_forever, lane)
            for name, lane in (("small", self._small), ("large", self._large))
            for number in range(1, count + 1)
        }

    async def _flush_forever(self, lane: Lane) -> None:
        """Flush the uploads of a lane until cancelled, on a connection that is opened for the first one."""
        assert self._dsn is not None  # noqa: S101 -- set by flushers
        connection: Connection | None = None
        try:
            while True:
                taken = await lane.take()
                self._note_waiting()
                if not taken:
                    continue
                deadline = taken[0].since + self.within_s
                try:
                    # Closing the connection is not enough: asyncpg does not notice it in the middle of a COPY whose
                    # data the network does not take.
                    with lane.flushing(taken):
                        async with asyncio.timeout_at(deadline + 1):
                            if connection is None or connection.is_closed():
                                connection = await connect(
                                    self._dsn,
                                    role=APP_ROLE,
                                    application_name="tidegauge ingest",
                                    statement_timeout=f"{self.within_s:.0f}s",
                                )
                            with cut_after(connection, deadline - monotonic()):
                                await self._flush(connection, taken)
                    self.failure = None
                except (OverloadedError, CommitUnknownError, *DATABASE_ERRORS) as error:
                    self.failure = FlushFailure(monotonic(), repr(error))
                    log.warning("flush_failed", uploads=len(taken), error=repr(error))
                    if connection is not None and _is_useless(error):
                        connection.terminate()
                    for waiting in taken:
                        _fail(waiting, _as_answer(error, waiting.upload))
                finally:
                    # Uploads without an answer are left here only by a bug of ours or a cancellation.
                    _fail_unanswered(taken)
        finally:
            if connection is not None:
                connection.terminate()

    def _give_up(self) -> None:
        """Answer the uploads that have waited for half of their time; look again while others wait."""
        loop = asyncio.get_running_loop()
        for lane in self._lanes:
            for waiting in lane.pop_older(than=loop.time() - self.within_s / 2):
                _fail(waiting, DatabaseUnavailableError(NOT_STORED))
        self._note_waiting()
        self._look = loop.call_later(_LOOK_EVERY_S, self._give_up) if self.waiting_uploads else None

    async def _flush(self, connection: Connection, taken: Sequence[WaitingUpload]) -> None:
        started = perf_counter()
        try:
            outcomes = await self._write(connection, [waiting.upload for waiting in taken])
        except asyncpg.DataError as error:
            await self._flush_one_by_one(connection, taken, error)
        except AnsweredElsewhereError as error:
            await self._flush(connection, _fail_answered_elsewhere(taken, error))
        else:
            self._metrics.flush_seconds.observe(perf_counter() - started)
            self._answer(taken, outcomes)

    async def _write(self, connection: Connection, uploads: Sequence[Upload]) -> list[Outcome]:
        """Write uploads in one transaction and return their outcomes.

        When sensors are changed meanwhile, try again; the last time, nobody may change them until it is done.
        """
        for _ in range(RETRIES):
            registry = self.registry
            try:
                return await self._try_to_write(connection, uploads)
            except SensorsChangedError:
                self._metrics.flush_retries.labels("sensors_changed").inc()
                await registry.store_seen(connection)
                if self.registry is registry:  # another flusher may have replaced it
                    self.registry = SeriesRegistry()
        async with self._held_sensors():
            self.registry = SeriesRegistry()
            return await self._try_to_write(connection, uploads)

    async def _try_to_write(self, connection: Connection, uploads: Sequence[Upload]) -> list[Outcome]:
        registry = self.registry
        batch = await _merge(connection, uploads, registry)
        return await self._write_batch(connection, batch, registry)

    @asynccontextmanager
    async def _held_sensors(self) -> AsyncIterator[None]:
        """Let changes of sensors wait until the block ends."""
        assert self._dsn is not None  # noqa: S101 -- set by flushers
        session = await connect(self._dsn, role=APP_ROLE, application_name="tidegauge ingest")
        try:
            async with session.transaction():
                await session.execute(SQL["hold_sensors"])
                yield
        finally:
            session.terminate()

    async def _write_batch(self, connection: Connection, batch: Batch, registry: SeriesRegistry) -> list[Outcome]:
        """Write a small batch by one call of a function, a large one by COPY; if that cannot store it, by INSERT.

        COPY stores nothing if it meets a reading that is stored already. A gateway that sends its buffer again sends
        many such batches, so after one they are written by INSERT, until all readings of a batch are new.
        """
        self._metrics.flush_values.observe(batch.size)
        small, any_decompression = is_small(batch, registry), False
        is_large = batch.size >= COPY_FROM
        lane = self._lane_of(batch.uploads[0])
        by_copy = is_large and lane.brings_new
        for retries_left in range(RETRIES, -1, -1):
            try:
                if small:
                    return await write_small_flush(connection, batch, registry, any_decompression=any_decompression)
                outcomes = await write_flush(
                    connection, batch, registry, by_copy=by_copy, any_decompression=any_decompression
                )
                if is_large:
                    lane.brings_new = sum(outcome.receipt.accepted for outcome in outcomes) == batch.size
                return outcomes
            except _RETRIED_ERRORS as error:
                self._metrics.flush_retries.labels(error.sqlstate).inc()
                if not retries_left:
                    raise
                if isinstance(error, asyncpg.ConfigurationLimitExceededError):
                    any_decompression = True
                else:
                    small, by_copy = small and isinstance(error, asyncpg.DeadlockDetectedError), False
        raise AssertionError("the last attempt returns or raises")

    async def _flush_one_by_one(self, connection: Connection, taken: Sequence[WaitingUpload], cause: Exception) -> None:
        """Write each upload in a flush of its own, so that bad data fails only the upload that holds it."""
        log.warning("flush_split", uploads=len(taken), error=repr(cause))
        for waiting in taken:
            try:
                (outcome,) = await self._write(connection, [waiting.upload])
            except asyncpg.DataError as error:
                _fail(waiting, InvalidRequestError(f"The database cannot store this upload: {error}"))
            except AnsweredElsewhereError as error:
                _fail(waiting, error)
            except (OverloadedError, CommitUnknownError, *DATABASE_ERRORS) as error:
                _fail(waiting, _as_answer(error, waiting.upload))
            else:
                self._answer([waiting], [outcome])

    def _answer(self, taken: Sequence[WaitingUpload], outcomes: Sequence[Outcome]) -> None:
        self._metrics.readings_accepted.inc(sum(outcome.receipt.accepted for outcome in outcomes))
        self._metrics.readings_duplicate.inc(sum(outcome.receipt.duplicates for outcome in outcomes))
        self._metrics.readings_conflicting.inc(sum(outcome.conflicts for outcome in outcomes))
        for waiting, outcome in zip(taken, outcomes, strict=True):
            if not waiting.outcome.done():
                waiting.outcome.set_result(outcome)


async def _merge(connection: Connection, uploads: Sequence[Upload], registry: SeriesRegistry) -> Batch:
    """Return the uploads as one batch; register their new series first. Raise SensorsChangedError."""
    value_count = sum(upload.value_count for upload in uploads)
    if any(upload.api_key.binding for upload in uploads):
        uploads = await registry.refuse_foreign(connection, uploads)
    try:
        # Tried before any look for new series, which would take half as long as the batch itself.
        batch = await run_off_loop(value_count, Batch, uploads, registry.series_of)
    except KeyError:
        uploads = await registry.register(connection, uploads)
        try:
            batch = await run_off_loop(value_count, Batch, uploads, registry.series_of)
        except KeyError as error:  # its sensor was just deleted
            raise SensorsChangedError from error
    await registry.describe(connection, batch.uploads)
    return batch


def _is_useless(error: Exception) -> bool:
    """Return whether a flush must not use the connection again on which this has happened."""
    return isinstance(error, CommitUnknownError | TimeoutError | asyncpg.ReadOnlySQLTransactionError)


def _as_answer(error: Exception, upload: Upload) -> Exception:
    """Turn a passing database error into 503 with a text about the state of the upload; pass others through."""
    if isinstance(error, CommitUnknownError):
        return DatabaseUnavailableError(_may_be_stored(upload))
    if isinstance(error, _PASSING_ERRORS) and not isinstance(error, asyncpg.DiskFullError):
        return OverloadedError("The database was too busy to store the upload. Keep the data and send them again.")
    return DatabaseUnavailableError(NOT_STORED) if is_database_away(error) else error


def _may_be_stored(upload: Upload) -> str:
    """Return the text for an upload of which nobody knows whether it was stored."""
    if not upload.is_untimed or upload.idempotency is not None:
        return f"{_MAYBE_STORED} Keep the data and send them again: what is stored already is not stored twice."
    if upload.wants_legacy_id:
        return f"{_MAYBE_STORED} It has no time of its own: sent again, it may be stored twice."
    return (
        f"{_MAYBE_STORED} Some readings have no time of their own: sent again, they may be stored twice. With an "
        "Idempotency-Key it is safe to send them again."
    )


def _fail_answered_elsewhere(taken: Sequence[WaitingUpload], error: AnsweredElsewhereError) -> list[WaitingUpload]:
    """Fail the uploads whose answers another process has stored, and return the others."""
    others = []
    for waiting in taken:
        asked = waiting.upload.idempotency
        if asked is not None and (waiting.upload.api_key.label, asked.key) in error.keys:
            _fail(waiting, error)
        else:
            others.append(waiting)
    return others


def _fail(waiting: WaitingUpload, error: BaseException) -> None:
    if not waiting.outcome.done():
        waiting.outcome.set_exception(error)


def _fail_unanswered(taken: Sequence[WaitingUpload]) -> None:
    """Answer the uploads that have no answer yet, so that no client waits for ever."""
    for waiting in taken:
        _fail(waiting, DatabaseUnavailableError(_may_be_stored(waiting.upload)))
