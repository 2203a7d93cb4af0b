"""What a flush tells about each of its uploads: the outcome, and the answer that is stored for an Idempotency-Key."""

from collections.abc import Sequence

import msgspec

from app.ingest.flush.batch import NewReadings
from app.ingest.flush.legacy_records import NewRecord
from app.ingest.upload import Outcome, Receipt

_encode = msgspec.json.Encoder().encode


class Answer(msgspec.Struct, frozen=True):
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
            _receipt(new, number, seq if new.accepted[number] else None),
            upload.rejected.by_code,
            ids.get(number),
            new.conflicts[number],
        )
        for number, upload in enumerate(new.batch.uploads)
    ]


def make_answers(new: NewReadings) -> list[Answer]:
    """Return the answers to uploads with an Idempotency-Key, sorted by label and key."""
    answers = [
        Answer(
            upload.api_key.label,
            upload.idempotency.key,
            upload.idempotency.body_sha256,
            _encode(_receipt(new, number, None)).decode(),
            new.accepted[number] > 0,
        )
        for number, upload in enumerate(new.batch.uploads)
        if upload.idempotency is not None
    ]
    return sorted(answers, key=lambda answer: (answer.label, answer.key))


def _receipt(new: NewReadings, number: int, seq: int | None) -> Receipt:
    upload, accepted = new.batch.uploads[number], new.accepted[number]
    duplicates = upload.value_count - accepted
    return Receipt(seq, accepted, duplicates, upload.rejected.listed, upload.rejected.count)
