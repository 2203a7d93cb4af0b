"""Intake of uploads: reads a request's body, has it parsed and stored, and returns the receipt, for every format."""

from hashlib import sha256
from typing import Any

import structlog
from litestar import Request
from litestar.exceptions.http_exceptions import RequestEntityTooLarge

from app.clock import DistinctClock
from app.db.pool import Pool
from app.errors import OverloadedError, PayloadTooLargeError
from app.ingest.body import BODY_LIMIT, decompress
from app.ingest.formats import Parse, ReceiptTimes
from app.ingest.gateways import GatewayLog
from app.ingest.idempotency import AnsweredElsewhereError, Answers, check_key
from app.ingest.sql import SQL
from app.ingest.upload import Idempotency, Outcome, Receipt, Upload
from app.ingest.writer import Writer
from app.metrics import Metrics
from app.settings import Settings

#: Interval between two beats; silence is counted anew after a break of 30 s, see the view ingest_view.
BEAT_EVERY_S = 5.0
log = structlog.get_logger()
AnyRequest = Request[Any, Any, Any]


class Ingest:
    """Takes uploads of all formats: owns the writer, the gateways' statistics and the stored answers.

    It holds all that the routes of formats need, because Litestar resolves a single dependency much faster than two.
    """

    #: Set before the first request.
    pool: Pool

    def __init__(self, metrics: Metrics, settings: Settings, clock: DistinctClock | None = None) -> None:
        self.settings = settings
        self.writer = Writer(metrics)
        self.gateways = GatewayLog()
        self.clock = clock or DistinctClock()
        self._answers = Answers()
        self._metrics = metrics

    async def beat(self) -> None:
        """Note in the database that uploads can be taken now; without it for 30 s, nobody counts as silent."""
        await self.pool.execute(SQL["beat"])

    async def take(self, request: AnyRequest, parse: Parse) -> Receipt:
        """Read a request's body, parse it and store its readings; return the receipt after the commit."""
        body = await read_body(request)
        received_us = self.clock()
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        times = ReceiptTimes(received_us)
        parsed = parse(body, media_type, times)
        self.clock.skip_to(times.last_us)
        key = request.headers.get("idempotency-key")
        upload = Upload(
            parsed.readings,
            parsed.rejected,
            received_us,
            request.state.api_key,
            parsed.gateway,
            client_ip=client_ip(request),
            idempotency=Idempotency(check_key(key), sha256(body).digest()) if key is not None else None,
        )
        return await self._store_once(upload)

    async def _store_once(self, upload: Upload) -> Receipt:
        """Store an upload and return its receipt; under a known Idempotency-Key, return the first receipt again."""
        asked = upload.idempotency
        if asked is None:
            return (await self.store(upload)).receipt
        label = upload.api_key.label
        async with self._answers.one_at_a_time(label, asked.key):
            try:
                return await self._answers.find(self.pool, label, asked) or (await self.store(upload)).receipt
            except AnsweredElsewhereError:
                answer = await self._answers.find(self.pool, label, asked)
            if answer is None:
                raise OverloadedError("The answer to this Idempotency-Key was just forgotten. Send the data again.")
            return answer

    async def store(self, upload: Upload) -> Outcome:
        """Store an upload without an Idempotency-Key, or with one that is new; return the outcome after the commit."""
        outcome = await self.writer.store(upload)
        receipt = outcome.receipt
        self.gateways.note(upload, receipt)
        for code, count in outcome.rejected_by_code.items():
            self._metrics.readings_rejected.labels(code).inc(count)
        log.info(
            "upload_stored",
            key=upload.api_key.label,
            gateway=upload.gateway,
            accepted=receipt.accepted,
            duplicates=receipt.duplicates,
            rejected=receipt.rejected_count,
            seq=receipt.seq,
        )
        return outcome


async def read_body(request: AnyRequest) -> bytes:
    """Read a request's body and decompress it; raise InvalidRequestError or PayloadTooLargeError."""
    try:
        body = await request.body()
    except RequestEntityTooLarge:
        limit = f"{BODY_LIMIT // 2**20} MiB"
        raise PayloadTooLargeError(f"The body is larger than {limit} as sent; send smaller batches") from None
    return decompress(body, request.headers.get("content-encoding", ""))


def client_ip(request: AnyRequest) -> str:
    """Return the address that the request came from, empty when the server does not know it."""
    return request.client.host if request.client else ""
