from app.ingest.uploads.receipt import FIELDS_LISTED, REJECTIONS_LISTED, Rejected
from app.ingest.uploads.upload import make_receipt
from tests.ingest.uploads import reading, upload


def test_all_rejections_are_counted_and_the_first_are_listed() -> None:
    rejected = Rejected()
    for index in range(REJECTIONS_LISTED + 5):
        rejected.add(index, "value_not_a_number", "no")
    rejected.add(999, "time_invalid", "no", count=3)
    assert (rejected.count, len(rejected.listed)) == (108, 100)
    assert rejected.by_code == {"value_not_a_number": 105, "time_invalid": 3}
    assert rejected.listed[-1].index == 99


def test_rejected_tag_is_listed_and_not_counted_because_its_reading_is_stored() -> None:
    rejected = Rejected()
    rejected.add_tag(0, "room", "no")
    assert (rejected.count, rejected.by_code) == (0, {})
    assert [(each.code, each.tag) for each in rejected.listed] == [("tags_invalid", "room")]


def test_copy_can_get_more_rejections_than_the_original() -> None:
    rejected = Rejected()
    rejected.add(0, "time_invalid", "no")
    copied = rejected.copy()
    copied.add(1, "time_invalid", "no")
    assert (rejected.count, rejected.by_code, len(rejected.listed)) == (1, {"time_invalid": 1}, 1)
    assert (copied.count, copied.by_code, len(copied.listed)) == (2, {"time_invalid": 2}, 2)


def test_warnings_count_unknown_fields_up_to_a_number_of_names() -> None:
    rejected = Rejected()
    for number in range(FIELDS_LISTED + 1):
        rejected.add_unknown_field(f"field{number:02}")
    rejected.add_unknown_field("field00")
    assert len(rejected.warnings()) == 20
    assert rejected.warnings()[0] == "field00 is no field of this format and was left out 2 times"


def test_receipt_counts_as_duplicates_what_was_not_new() -> None:
    receipt = make_receipt(upload(reading("a", x=1, y=2, z=3)), 1, 7)
    assert (receipt.seq, receipt.accepted, receipt.duplicates, receipt.rejected_count) == (7, 1, 2, 0)
    assert receipt.server_time == "2026-01-31T08:00:00Z"
