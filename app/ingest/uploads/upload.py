"""One parsed upload, on its way into the database."""

import msgspec

from app.auth.keys import ApiKey
from app.clock import rfc3339
from app.ingest.uploads.readings import Readings
from app.ingest.uploads.receipt import Receipt, Rejected

#: About how many bytes of memory a value takes, and a reading with tags or units beside its values (measured).
VALUE_BYTES, DESCRIBED_BYTES = 40, 800


def make_receipt(upload: "Upload", accepted: int, seq: int | None = None) -> Receipt:
    """Return the answer to an upload; `accepted` of its values were new."""
    rejected = upload.rejected
    return Receipt(
        seq,
        accepted,
        upload.value_count - accepted,
        rejected.listed,
        rejected.count,
        rejected.warnings(),
        rfc3339(upload.received_us),
    )


class Upload(msgspec.Struct, frozen=True):
    """One parsed request, on its way into the database."""

    readings: Readings
    rejected: Rejected
    #: Microseconds since 1970.
    received_us: int
    api_key: ApiKey
    gateway: str | None = None
    client_ip: str = ""
    idempotency: "Idempotency | None" = None
    #: Whether the answer needs the id of a record of the replaced sensor server.
    wants_legacy_id: bool = False
    #: Whether a reading has no time of its own, so that sending it again makes another reading.
    is_untimed: bool = False
    #: Whether an operator imports a file; see the statement `upsert_state_of_import`.
    is_import: bool = False
    #: Of the readings that were refused for their time, the newest time.
    newest_refused_us: int | None = None
    #: What the gateway's refusals show of the request.
    sent: "Sent | None" = None

    @property
    def value_count(self) -> int:
        """Number of values to store, one for each metric of each reading."""
        return len(self.readings.values)

    @property
    def byte_count(self) -> int:
        """About how many bytes it takes while it waits."""
        return self.value_count * VALUE_BYTES + len(self.readings.described) * DESCRIBED_BYTES


class Sent(msgspec.Struct, frozen=True):
    """What is kept of a request for the case that something of it is refused."""

    #: The address as a pattern, so that it holds no key.
    path: str
    #: The beginning of the body, decompressed if it could be.
    beginning: bytes
    #: The key that the request carried in a header. It is not shown.
    key: str | None = None


class Idempotency(msgspec.Struct, frozen=True):
    """The Idempotency-Key of a request, and the hash of its body, by which a retry is recognized."""

    key: str
    body_sha256: bytes
