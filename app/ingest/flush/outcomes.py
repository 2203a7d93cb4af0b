"""Outcomes of the uploads of a flush, and the answers that are stored for Idempotency-Keys."""

from collections.abc import Sequence

import msgspec

from app.ingest.flush.batch import NewReadings
from app.ingest.flush.legacy_records import NewRecord
from app.ingest.uploads.receipt import Outcome
from app.ingest.uploads.upload import make_receipt

_encode = msgspec.json.Encoder().encode


class StoredAnswer(msgspec.Struct, frozen=True):
    """A row of the table `idempotency`."""

    label: str
    key: str
    body_sha256: bytes
    #: The receipt as JSON; its `seq` is not known yet.
    receipt: str
    #: Whether the upload brought something new, so that its answer gets the `seq` of the flush.
    has_seq: bool


def make_outcomes(
    new: NewReadings, seq: int | None, records: Sequence[NewRecord], legacy_ids: Sequence[int]
) -> list[Outcome]:
    """Return each upload's outcome, in order; `seq` is that of the flush."""
    ids = {record.upload_number: legacy_id for record, legacy_id in zip(records, legacy_ids, strict=True)}
    return [
        Outcome(
            make_receipt(upload, new.accepted[number], seq if new.accepted[number] else None),
            upload.rejected.by_code,
            ids.get(number),
            new.conflicts[number],
        )
        for number, upload in enumerate(new.batch.uploads)
    ]


def make_answers(new: NewReadings) -> list[StoredAnswer]:
    """Return the answers to uploads with an Idempotency-Key, sorted by label and key."""
    answers = [
        StoredAnswer(
            upload.api_key.label,
            upload.idempotency.key,
            upload.idempotency.body_sha256,
            _encode(make_receipt(upload, new.accepted[number])).decode(),
            new.accepted[number] > 0,
        )
        for number, upload in enumerate(new.batch.uploads)
        if upload.idempotency is not None
    ]
    return sorted(answers, key=lambda answer: (answer.label, answer.key))
