"""Where readings come in: our own endpoint, and that of the replaced sensor server."""

from hashlib import sha256
from typing import Any
from zoneinfo import ZoneInfo

import structlog
from litestar import Request, Response, post
from litestar.di import NamedDependency
from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED

from app.auth.guard import require
from app.clock import DistinctClock
from app.db.pool import Pool
from app.errors import OverloadedError, PayloadTooLargeError, UnauthorizedError, UnprocessableError
from app.ingest.body import BODY_LIMIT, decompress
from app.ingest.formats import legacy, native
from app.ingest.gateways import GatewayLog
from app.ingest.idempotency import AnsweredElsewhereError, Answers, check_key
from app.ingest.openapi import ReadingsOperation, TemperatureOperation
from app.ingest.upload import Idempotency, Receipt, Rejected, Upload
from app.ingest.writer import Writer
from app.metrics import Metrics
from app.model import LegacyRecord, Reading
from app.problems import problem_responses, respond
from app.settings import Settings

log = structlog.get_logger()
AnyRequest = Request[Any, Any, Any]


class Ingest:
    """What the routes of this domain share: the way of an upload from bytes to receipt."""

    def __init__(self, metrics: Metrics, clock: DistinctClock | None = None) -> None:
        self.writer = Writer(metrics)
        self.gateways = GatewayLog()
        self.clock = clock or DistinctClock()
        self._answers = Answers()
        self._metrics = metrics

    async def take(self, upload: Upload, pool: Pool) -> Receipt:
        """Store an upload and answer it, once only where it brings an Idempotency-Key."""
        asked = upload.idempotency
        if asked is None:
            return await self._store(upload)
        label = upload.api_key.label
        async with self._answers.one_at_a_time(label, asked.key):
            try:
                return await self._answers.find(pool, label, asked) or await self._store(upload)
            except AnsweredElsewhereError:
                answer = await self._answers.find(pool, label, asked)
            if answer is None:
                raise OverloadedError("The answer to this Idempotency-Key was just forgotten. Send the data again.")
            return answer

    async def _store(self, upload: Upload) -> Receipt:
        receipt = await self.writer.store(upload)
        self.gateways.note(upload, receipt)
        for code, count in upload.rejected.by_code.items():
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
        return receipt


_PROBLEMS = problem_responses(
    {
        400: "The body cannot be decoded",
        413: "More bytes, decompressed bytes or readings than one request may bring",
        422: "The Idempotency-Key was used for another body",
        503: "Overload, or the database is away: nothing stored, see Retry-After",
    }
)


@post(
    "/api/v1/readings",
    guards=[require("ingest")],
    status_code=HTTP_200_OK,
    request_max_body_size=BODY_LIMIT,
    operation_class=ReadingsOperation,
    responses=_PROBLEMS,
    tags=["Readings"],
    summary="Store a batch of readings",
)
async def post_readings(request: AnyRequest, ingest: NamedDependency[Ingest], pool: NamedDependency[Pool]) -> Receipt:
    """Store readings; sending the same ones again is safe and counted as duplicates.

    Bad values are refused one by one with a code and a remedy, and the rest is stored: the answer is 200 even then,
    so that a sender does not retry for ever what can never succeed.
    """
    body = await _read_body(request)
    received_us = ingest.clock()
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    readings, rejected, gateway = native.parse(body, media_type, ingest.clock, received_us)
    key = request.headers.get("idempotency-key")
    upload = Upload(
        readings,
        rejected,
        received_us,
        request.state.api_key,
        gateway,
        client_ip=_client_ip(request),
        idempotency=Idempotency(check_key(key), sha256(body).digest()) if key is not None else None,
    )
    return await ingest.take(upload, pool)


def _legacy_problem(request: AnyRequest, error: Exception) -> Response[Any]:
    """Answer errors in the replaced server's shape, where it has one."""
    if isinstance(error, UnauthorizedError):
        return Response({"detail": "Invalid or missing API Key."}, status_code=401)
    answer = respond(request, error)
    return Response({"detail": answer.content.detail}, status_code=answer.status_code, headers=answer.headers)


@post(
    "/api/temperature_reading",
    guards=[require("ingest")],
    status_code=HTTP_201_CREATED,
    request_max_body_size=BODY_LIMIT,
    exception_handlers={Exception: _legacy_problem},
    operation_class=TemperatureOperation,
    tags=["Replaced services"],
    summary="Store one reading, as the replaced sensor server did",
)
async def post_temperature_reading(
    request: AnyRequest,
    ingest: NamedDependency[Ingest],
    pool: NamedDependency[Pool],
    settings: NamedDependency[Settings],
) -> Response[Any]:
    """Store temperature, humidity and pressure of one sensor at the time of receipt; further numbers as metrics."""
    body = await _read_body(request)
    received_us = ingest.clock()
    problems, sensor, values = legacy.parse(body)
    if problems:
        return Response({"detail": problems}, status_code=422)
    upload = _legacy_upload(request, sensor, values, received_us)
    await ingest.take(upload, pool)
    if upload.rejected.listed:
        raise UnprocessableError(upload.rejected.listed[0].message)
    if upload.legacy_id is None:
        raise OverloadedError("Another process stored a reading of this sensor in the same microsecond; send again")
    record = LegacyRecord.make(upload.legacy_id, sensor, received_us, values, upload.client_ip)
    return Response(record.as_sent(ZoneInfo(settings.legacy_timezone)), status_code=HTTP_201_CREATED)


def _legacy_upload(request: AnyRequest, sensor: str, values: dict[str, float], received_us: int) -> Upload:
    return Upload(
        [Reading(sensor, received_us, values)],
        Rejected(),
        received_us,
        request.state.api_key,
        client_ip=_client_ip(request),
        wants_legacy_id=True,
    )


async def _read_body(request: AnyRequest) -> bytes:
    try:
        body = await request.body()
    except RequestEntityTooLarge:
        limit = f"{BODY_LIMIT // 2**20} MiB"
        raise PayloadTooLargeError(f"The body is larger than {limit} as sent; send smaller batches") from None
    return decompress(body, request.headers.get("content-encoding", ""))


def _client_ip(request: AnyRequest) -> str:
    return request.client.host if request.client else ""


handlers = [post_readings, post_temperature_reading]
