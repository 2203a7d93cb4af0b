"""Intake of uploads of every format: reads a request's body, parses and stores it, and returns the receipt."""

import asyncio
from collections.abc import Mapping
from hashlib import sha256

import msgspec

from app.auth.guard import first_headers, key_from_headers
from app.auth.keys import ApiKey
from app.clock import DistinctClock, rfc3339
from app.db.pool import DATABASE_ERRORS, Pool, cut_after
from app.errors import (
    AppError,
    DatabaseUnavailableError,
    InvalidRequestError,
    OverloadedError,
    PayloadTooLargeError,
    UnprocessableError,
)
from app.http.proxies import client_address
from app.http.requests import AnyRequest
from app.ingest.bodies.compression import BODY_LIMIT, decompress, decompress_up_to
from app.ingest.bodies.receive import receive_body, too_large
from app.ingest.bodies.room import BodyRoom, HeldRoom
from app.ingest.dry_run import try_upload
from app.ingest.flush.idempotency import AnsweredElsewhereError, Answers, check_key
from app.ingest.formats import Parse, Parsed, ParseGood, ReceiptTimes
from app.ingest.gateways.binding import bind
from app.ingest.gateways.refusals import BODY_KEPT
from app.ingest.gateways.statistics import GatewayLog
from app.ingest.gateways.unknown_fields import UnknownFields
from app.ingest.sql import SQL
from app.ingest.uploads.log import UploadLog
from app.ingest.uploads.receipt import Outcome, Receipt
from app.ingest.uploads.upload import Idempotency, Sent, Upload
from app.ingest.writer import NOT_STORED, Writer
from app.metrics import Metrics
from app.problems import is_database_away
from app.settings import Settings
from app.tasks import run_off_loop

#: Interval between two beats. After a break of 30 s, silence counts from its end, see the view ingest_view.
BEAT_EVERY_S = 5.0
#: A beat that takes longer hangs, and fails.
BEAT_TIMEOUT_S = 3.0
#: A body of up to this size, decompressed, is parsed on the event loop, and one of up to QUICK_BYTES if it has no
#: mistakes; any other body is parsed in a thread. No body blocks the event loop for more than 100 ms.
INLINE_BYTES = 2**14
QUICK_BYTES = 2**20


class Ingest:
    """Takes uploads of all formats: owns the writer, the statistics of gateways and the stored answers.

    It has everything that the routes of formats need, because Litestar resolves one dependency much faster than two.
    """

    #: Set before the first request.
    pool: Pool

    def __init__(self, metrics: Metrics, settings: Settings, clock: DistinctClock | None = None) -> None:
        self.settings = settings
        self.writer = Writer(metrics)
        self.gateways = GatewayLog()
        self.clock = clock or DistinctClock()
        self._answers = Answers()
        self._body_room = BodyRoom()
        self._long_work = asyncio.Lock()
        self._metrics = metrics
        self._log = UploadLog()
        self._unknown_fields = UnknownFields(metrics)

    async def beat(self) -> None:
        """Store that uploads can be taken now. After 30 s without a beat, no sensor counts as silent.

        It takes the locks of a flush and commits, so that it fails whenever a flush would, even without uploads.
        """
        async with self.pool.acquire(timeout=BEAT_TIMEOUT_S) as connection:
            with cut_after(connection, BEAT_TIMEOUT_S):
                async with connection.transaction():
                    await connection.execute(SQL["lock_as_flushes"])
                    await connection.execute(SQL["beat"])

    async def take(
        self, request: AnyRequest, parse: Parse, parse_good: ParseGood | None = None, *, dry_run: bool = False
    ) -> Receipt:
        """Read a request's body, parse it and store its readings; return the receipt after the commit.

        `parse_good` is tried first, on the event loop, with a body of up to QUICK_BYTES. If it returns None, and for a
        larger body, `parse` runs in a thread. With `dry_run`, nothing is stored.
        """
        headers = first_headers(request.scope)
        api_key: ApiKey = request.scope["state"]["api_key"]
        with HeldRoom(self._body_room) as room:
            sent = await receive_body(request, headers, BODY_LIMIT, room)
            received_us = self.clock()
            body = _SentBody(
                sent,
                headers.get("content-encoding", ""),
                headers.get("content-type", "").partition(";")[0].strip().lower(),
                headers.get("idempotency-key"),
                sent[:BODY_KEPT],
            )
            del sent  # it may be large, and the upload waits for a flush
            try:
                parsed, idempotency, times = await self._parse(body, received_us, parse, parse_good)
                if parsed.gateway is not None and api_key.binding is None:
                    await self.gateways.admit(self.pool, api_key.label, parsed.gateway)
            except (InvalidRequestError, PayloadTooLargeError, UnprocessableError) as error:
                self.note_refused(request, received_us, body.beginning, error)
                raise
            shown = keep_sent(request, headers, body.beginning)
            del body
        upload = Upload(
            parsed.readings,
            parsed.rejected,
            received_us,
            api_key,
            parsed.gateway,
            client_ip=client_ip(request),
            idempotency=idempotency,
            is_untimed=times.are_used,
            newest_refused_us=times.newest_refused_us,
            sent=shown,
        )
        if dry_run:
            receipt = await try_upload(self.pool, await _bind(upload))
        elif idempotency is None and parsed.event is not None:
            receipt = await self._store_event(upload, parsed.event)
        else:
            receipt = await self._store_once(upload)
        self._unknown_fields.note(upload)
        return receipt

    def note_refused(self, request: AnyRequest, received_us: int, beginning: bytes, error: AppError) -> None:
        """Count an upload of which nothing could be used; `beginning` is that of its body."""
        shown = keep_sent(request, first_headers(request.scope), beginning)
        self.gateways.note_refused(request.scope["state"]["api_key"], received_us, shown, error)

    async def read_small_body(self, request: AnyRequest, headers: Mapping[str, str], limit: int) -> bytes:
        """Read a request's body and decompress it, up to `limit` bytes before and after.

        Raise InvalidRequestError, PayloadTooLargeError, or OverloadedError when too much is being received.
        """
        with HeldRoom(self._body_room) as room:
            sent = await receive_body(request, headers, limit, room)
            body = decompress_up_to(limit, sent, headers.get("content-encoding", ""))
        if body is None:
            raise too_large(limit)
        return body

    async def _parse(
        self, sent: "_SentBody", received_us: int, parse: Parse, parse_good: ParseGood | None
    ) -> tuple[Parsed, Idempotency | None, ReceiptTimes]:
        """Parse a body, in a thread if it takes long; the last result is the times of its readings."""
        if sent.key is not None:
            check_key(sent.key)
        body = decompress_up_to(QUICK_BYTES, sent.body, sent.encoding)
        if body is not None:
            sent.beginning = body[:BODY_KEPT]
            times = ReceiptTimes(received_us)
            parsed = None
            if len(body) <= INLINE_BYTES:
                parsed = parse(body, sent.media_type, times)
            elif parse_good is not None:
                parsed = parse_good(body, sent.media_type, times)
            if parsed is not None:
                self.clock.skip_to(times.last_us)
                return parsed, sent.idempotency(body), times
        # One body at a time, because parsing takes many times the memory of the body as sent.
        async with self._long_work:
            times = ReceiptTimes(received_us, self.clock.reserve)
            return *await asyncio.to_thread(sent.decode, parse, times), times

    async def _store_once(self, upload: Upload) -> Receipt:
        """Store an upload and return its receipt; under a known Idempotency-Key, return the first receipt again."""
        asked = upload.idempotency
        if asked is None:
            return (await self.store(upload)).receipt
        label = upload.api_key.label
        async with self._answers.one_at_a_time(label, asked.key):
            try:
                return await self._find_answer(label, asked) or (await self.store(upload)).receipt
            except AnsweredElsewhereError:
                answer = await self._answers.find(self.pool, label, asked)
            if answer is None:
                raise OverloadedError("The answer to this Idempotency-Key was just forgotten. Send the data again.")
            return answer

    async def _store_event(self, upload: Upload, event: str) -> Receipt:
        """Store the readings of an event. If the sender sends the event again, all its values count as duplicates."""
        number = sha256(event.encode("utf-8", "surrogatepass")).digest()
        asked = Idempotency(f"event {number.hex()}", number)
        label = upload.api_key.label
        known = await self._find_answer(label, asked)
        if known is None:
            return await self._store_once(msgspec.structs.replace(upload, idempotency=asked))
        return msgspec.structs.replace(
            known,
            seq=None,
            accepted=0,
            duplicates=known.accepted + known.duplicates,
            server_time=rfc3339(upload.received_us),
        )

    async def _find_answer(self, label: str, asked: Idempotency) -> Receipt | None:
        """Return the answer to an Idempotency-Key, before anything of its upload is stored."""
        try:
            return await self._answers.find(self.pool, label, asked)
        except DATABASE_ERRORS as error:
            raise (DatabaseUnavailableError(NOT_STORED) if is_database_away(error) else error) from error

    async def store(self, upload: Upload) -> Outcome:
        """Store an upload without an Idempotency-Key, or with one that is new; return the outcome after the commit."""
        upload = await _bind(upload)
        outcome = await self.writer.store(upload)
        receipt = outcome.receipt
        self.gateways.note(upload, outcome)
        for code, count in outcome.rejected_by_code.items():
            self._metrics.readings_rejected.labels(code).inc(count)
        self._log.note(upload, receipt)
        return outcome


class _SentBody(msgspec.Struct):
    """A body as it was sent, and what its headers say of it."""

    body: bytes
    encoding: str
    media_type: str
    #: The Idempotency-Key.
    key: str | None
    #: The beginning of the body, decompressed once that is done.
    beginning: bytes

    def decode(self, parse: Parse, times: ReceiptTimes) -> tuple[Parsed, Idempotency | None]:
        """Decompress and parse it; this may take seconds."""
        body = decompress(self.body, self.encoding)
        self.beginning = body[:BODY_KEPT]
        return parse(body, self.media_type, times), self.idempotency(body)

    def idempotency(self, body: bytes) -> Idempotency | None:
        """Return the Idempotency-Key with the hash of the decompressed body."""
        return None if self.key is None else Idempotency(self.key, sha256(body).digest())


async def _bind(upload: Upload) -> Upload:
    """Return an upload, which becomes one of the key's gateway if the key is bound."""
    binding = upload.api_key.binding
    return upload if binding is None else await run_off_loop(upload.value_count, bind, upload, binding)


def keep_sent(request: AnyRequest, headers: Mapping[str, str], beginning: bytes) -> Sent:
    """Return what is kept of a request for the case that something of it is refused."""
    return Sent(request.scope.get("path_template") or "", beginning, key_from_headers(headers))


def client_ip(request: AnyRequest) -> str:
    """Return the address that the request came from, empty when the server does not know it."""
    return client_address(request.scope)
