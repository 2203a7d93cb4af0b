"""The last uploads of each gateway of which something was refused, with the beginning of their bodies, for people.

They are kept in memory and written with the statistics. Secrets are removed from bodies when they are written.
"""

import re
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from app.db.pool import Pool
from app.ingest.sql import SQL
from app.ingest.uploads.receipt import Outcome, Rejection, RejectionCode
from app.ingest.uploads.upload import Sent, Upload
from app.log import redact

#: Refused uploads that are kept of each gateway.
KEPT: Final = 20
#: Refusals of one upload that are kept, and characters of its body.
_LISTED: Final = 3
BODY_SHOWN: Final = 1_000
#: Bytes of a body that are kept in memory: more than are shown, so that no secret is cut in two and shown in part.
BODY_KEPT: Final = 2_000
_LONGEST_SECRET: Final = 400
#: A shorter key would be found in other words.
_SHORTEST_KEY: Final = 4
#: Fields of JSON that are named like secrets; the value may be cut off.
_SECRET_FIELDS: Final = re.compile(
    r'(?i)("[^"]*(?:password|passwd|secret|token|credential|authorization|api[-_]?key)[^"]*"\s*:\s*")(?:[^"\\]|\\.)*'
)


class RefusedUpload(msgspec.Struct, frozen=True):
    """An upload of which something was refused, or all of it, with an error."""

    gateway: str
    api_key: str
    #: Microseconds since 1970.
    at_us: int
    sent: Sent
    rejected: int = 0
    by_code: Mapping[RejectionCode, int] = {}
    #: The first refusals.
    listed: Sequence[Rejection] = ()
    error: str | None = None

    @classmethod
    def of(cls, upload: Upload, outcome: Outcome) -> "RefusedUpload":
        """Return an upload that was answered with rejections."""
        label, receipt = upload.api_key.label, outcome.receipt
        return cls(
            upload.gateway or label,
            label,
            upload.received_us,
            upload.sent or Sent("", b""),
            receipt.rejected_count,
            outcome.rejected_by_code,
            receipt.rejected[:_LISTED],
        )


class Refusals:
    """The refused uploads since the last write, at most KEPT of each gateway."""

    def __init__(self) -> None:
        self._of_gateway: dict[str, deque[RefusedUpload]] = {}

    def add(self, refused: RefusedUpload) -> None:
        """Note a refused upload."""
        self._of_gateway.setdefault(refused.gateway, deque(maxlen=KEPT)).append(refused)

    async def write(self, pool: Pool) -> None:
        """Write the refused uploads, and forget older ones of their gateways; if that fails, these are lost."""
        waiting, self._of_gateway = self._of_gateway, {}
        if waiting:
            rows = [_as_row(refused) for gateway in sorted(waiting) for refused in waiting[gateway]]
            async with pool.acquire() as connection, connection.transaction():
                await connection.execute(SQL["insert_refusals"], *map(list, zip(*rows, strict=True)))
                await connection.execute(SQL["prune_refusals"], sorted(waiting), KEPT)


def show_body(sent: Sent) -> str:
    """Return the beginning of a body as text, without keys and what looks like other secrets."""
    text = sent.beginning.decode("utf-8", "backslashreplace").replace("\0", "\\x00")
    if sent.key and len(sent.key) >= _SHORTEST_KEY:
        text = text.replace(sent.key, "[redacted]")
    text = _SECRET_FIELDS.sub(r"\1[redacted]", redact(text))
    if len(sent.beginning) >= BODY_KEPT:
        text = text[:-_LONGEST_SECRET]
    return text[:BODY_SHOWN]


def _as_row(refused: RefusedUpload) -> tuple[object, ...]:
    listed = msgspec.to_builtins(refused.listed)
    return (
        refused.gateway,
        refused.api_key,
        refused.at_us,
        refused.sent.path,
        refused.error and redact(refused.error)[:BODY_SHOWN],
        refused.rejected,
        dict(refused.by_code),
        msgspec.json.encode([{**each, "message": redact(each["message"])} for each in listed]).decode(),
        show_body(refused.sent),
    )
