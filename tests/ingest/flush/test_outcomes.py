"""What the uploads of one flush are answered, and what is stored for their Idempotency-Keys."""

import msgspec

from app.ingest.flush.batch import Batch, NewReadings
from app.ingest.flush.legacy_records import NewRecord
from app.ingest.flush.outcomes import StoredAnswer, make_answers, make_outcomes
from app.ingest.uploads.upload import Idempotency, Upload
from app.model import LegacyRecord
from tests.ingest.uploads import MINUTE, T0, key, reading, receipt_of, series_ids, upload

IDS = series_ids(("pi1", "t"), ("pi2", "t"))


def new_of(*uploads: Upload) -> NewReadings:
    """Return the new readings of uploads to an empty database."""
    batch = Batch(uploads, IDS)
    return NewReadings(batch, batch.samples)


def test_an_outcome_counts_the_values_of_its_upload_that_are_new() -> None:
    new = new_of(
        upload(reading("pi1", t=1)), upload(reading("pi1", t=2), reading("pi2", t=3), reading("pi2", T0 + MINUTE, t=4))
    )
    first, second = make_outcomes(new, 9, [], [])
    assert first.receipt == receipt_of(9, 1, 0)
    assert second.receipt == receipt_of(9, 2, 1)
    assert (first.conflicts, second.conflicts) == (0, 1)


def test_an_upload_without_a_new_value_has_no_seq() -> None:
    new = new_of(upload(reading("pi1", t=1)), upload(reading("pi1", t=1)))
    assert make_outcomes(new, 9, [], [])[1].receipt == receipt_of(None, 0, 1)


def test_the_id_of_a_record_goes_to_the_upload_that_brought_it() -> None:
    new = new_of(upload(reading("pi1", t=1)), upload(reading("pi2", t=1)))
    records = [NewRecord(LegacyRecord(0, "pi2", T0, 1.0, 2.0, 3.0, ""), 1)]
    assert [outcome.legacy_id for outcome in make_outcomes(new, 9, records, [77])] == [None, 77]


def test_answers_are_stored_for_uploads_with_a_key_in_one_order_and_without_seq() -> None:
    new = new_of(
        upload(reading("pi1", t=1), api_key=key("b"), idempotency=Idempotency("1", b"x")),
        upload(reading("pi2", t=1)),
        upload(reading("pi1", t=1), api_key=key("a"), idempotency=Idempotency("2", b"y")),
    )
    assert make_answers(new) == [
        StoredAnswer("a", "2", b"y", msgspec.json.encode(receipt_of(None, 0, 1)).decode(), False),
        StoredAnswer("b", "1", b"x", msgspec.json.encode(receipt_of(None, 1, 0)).decode(), True),
    ]
