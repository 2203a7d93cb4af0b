"""A client's connection to the API: its address, the sending of one upload, and the answer's meaning."""

import gzip
from datetime import datetime
from typing import Literal

import aiohttp
import msgspec
import zstandard

from app.settings import Settings

Encoding = Literal["identity", "gzip", "zstd"]
TIMEOUT_S = 30.0
#: The longest wait that a server can ask for.
RETRY_AFTER_LIMIT_S = 60.0


class UploadBatch(msgspec.Struct, frozen=True):
    """One upload; a retry sends the same bytes with the same Idempotency-Key."""

    body: bytes
    reading_count: int
    value_count: int
    idempotency_key: str | None = None


class Refusal(msgspec.Struct, frozen=True):
    """One of the values that the server refused for good, at the reading's place in the body."""

    index: int
    code: str
    message: str


class UplinkAnswer(msgspec.Struct, frozen=True):
    """The outcome of a request.

    - `stored`: the server acknowledged the batch; the counts are of values.
    - `refused`: the batch is wrong, and a retry would be refused again.
    - `too_large`: the batch must be sent in parts.
    - `denied`: the key or the address is wrong; the readings must be kept.
    - `later`: the batch must be sent again.
    - `lost`: the answer was lost, and the server may have stored the batch.
    - `unreachable`: the request was not sent, or only in part.
    """

    outcome: Literal["stored", "refused", "too_large", "denied", "later", "lost", "unreachable"]
    #: For display: the status, or why there is none.
    text: str
    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    #: Seconds that the server asks to wait.
    retry_after_s: float | None = None
    #: The first reason that the server gives for a refusal.
    reason: str = ""
    #: The refusals that the server lists.
    refusals: tuple[Refusal, ...] = ()
    #: When the server received the upload, by its clock.
    server_time: datetime | None = None


class Uplink:
    """Sends batches to one server with one key."""

    def __init__(self, http: aiohttp.ClientSession, url: str, key: str, encoding: Encoding) -> None:
        self._http = http
        self._url = f"{url.rstrip('/')}/api/v1/readings"
        self._headers = {"X-API-Key": key, "Content-Type": "application/json"}
        self._encoding = encoding

    async def send(self, batch: UploadBatch, *, lose_answer: bool = False) -> UplinkAnswer:
        """Post a batch; with `lose_answer`, close the connection when the answer arrives, as if it had been lost."""
        headers, body = self._encode(batch)
        try:
            async with self._http.post(
                self._url, data=body, headers=headers, timeout=aiohttp.ClientTimeout(TIMEOUT_S), allow_redirects=False
            ) as response:
                if lose_answer:
                    response.close()
                    return UplinkAnswer("lost", "answer lost")
                return _read(response, await response.read())
        except TimeoutError:
            return UplinkAnswer("later", "no answer")
        except aiohttp.ClientError as error:
            return UplinkAnswer("unreachable", "no connection", reason=str(error))

    def _encode(self, batch: UploadBatch) -> tuple[dict[str, str], bytes]:
        headers, body = dict(self._headers), batch.body
        if self._encoding == "gzip":
            body = gzip.compress(body, compresslevel=5, mtime=0)
        elif self._encoding == "zstd":
            body = zstandard.ZstdCompressor().compress(body)
        if self._encoding != "identity":
            headers["Content-Encoding"] = self._encoding
        if batch.idempotency_key is not None:
            headers["Idempotency-Key"] = batch.idempotency_key
        return headers, body


def server_url(settings: Settings) -> str:
    """Return the address at which a client on this machine reaches the server of these settings."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 -- is replaced here
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


class _Receipt(msgspec.Struct):
    accepted: int
    duplicates: int
    rejected_count: int
    rejected: tuple[Refusal, ...]
    server_time: datetime | None = None


class _ProblemDetails(msgspec.Struct):
    detail: str = ""


def _read(response: aiohttp.ClientResponse, body: bytes) -> UplinkAnswer:
    status = response.status
    if status == 200:
        return _read_receipt(body)
    reason = _read_problem(body)
    if status in (408, 429) or status >= 500:
        return UplinkAnswer("later", str(status), retry_after_s=_retry_after_s(response), reason=reason)
    if status == 413:
        return UplinkAnswer("too_large", str(status), reason=reason)
    if status in (400, 422):
        return UplinkAnswer("refused", str(status), reason=reason)
    return UplinkAnswer("denied", str(status), reason=reason)


def _read_receipt(body: bytes) -> UplinkAnswer:
    try:
        receipt = msgspec.json.decode(body, type=_Receipt)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return UplinkAnswer("denied", "200", reason="this is not the answer of a Tidegauge server")
    reason = receipt.rejected[0].message if receipt.rejected else ""
    return UplinkAnswer(
        "stored",
        "200",
        receipt.accepted,
        receipt.duplicates,
        receipt.rejected_count,
        reason=reason,
        refusals=receipt.rejected,
        server_time=receipt.server_time,
    )


def _read_problem(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_ProblemDetails).detail
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""


def _retry_after_s(response: aiohttp.ClientResponse) -> float | None:
    """Return Retry-After in seconds; a date is ignored, because a gateway's clock may be wrong."""
    text = response.headers.get("Retry-After", "")
    return min(float(text), RETRY_AFTER_LIMIT_S) if text.isascii() and text.isdecimal() else None
