"""Manifests of archives that cannot be imported."""

from datetime import UTC, datetime

import msgspec
import pytest

from app.archive.manifest import FORMAT, ArchiveError, Manifest, Member, TableEntry, decode_manifest

MANIFEST = Manifest(
    id="1",
    exported_at=datetime(2026, 1, 1, tzinfo=UTC),
    tidegauge="1.0",
    schema_version=7,
    postgresql="16",
    timescaledb="2.20",
    edition="community",
    has_worker=True,
    aggregates_before=None,
    sequences={"series_id_seq": 3},
    tables=[
        TableEntry("sensor", ["id"], 2, [Member("sensor.csv", 9, "0" * 64)]),
        TableEntry("reading", ["value"], 30, []),
        TableEntry("reading", ["value"], 12, []),
    ],
)


def test_a_manifest_is_read_as_it_was_written() -> None:
    assert decode_manifest(msgspec.json.encode(MANIFEST)) == MANIFEST


def test_the_rows_of_a_table_are_the_sum_over_its_entries() -> None:
    assert [MANIFEST.count(table) for table in ("reading", "sensor", "feed")] == [42, 2, 0]


def test_a_newer_manifest_asks_for_the_newer_version_whatever_else_it_holds() -> None:
    with pytest.raises(ArchiveError, match="written by a newer version of Tidegauge"):
        decode_manifest(msgspec.json.encode({"format": FORMAT + 1, "unknown": True}))


@pytest.mark.parametrize("data", [b"", b"[]", b'{"format": 1}', b'{"format": "1"}', b'{"format": 1, "id": "\xff"}'])
def test_a_damaged_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(ArchiveError, match=r"^manifest\.json cannot be read: "):
        decode_manifest(data)
