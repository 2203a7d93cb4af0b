"""The manifest of an archive: its contents, its origin, and the checksums of its files."""

from datetime import datetime

import msgspec

from app.db.edition import Edition
from app.errors import AppError

#: The last file of an archive.
MANIFEST_NAME = "manifest.json"
#: Increased when older versions of the program can no longer read new archives.
FORMAT = 1


class ArchiveError(AppError):
    """The archive cannot be imported: it is damaged, incomplete, or of a newer version."""

    code = "archive"
    title = "The archive cannot be imported"


class Member(msgspec.Struct, frozen=True):
    """A CSV file with some or all rows of a table; its first line has the names of the columns."""

    name: str
    size_bytes: int
    sha256: str


class TableEntry(msgspec.Struct, frozen=True):
    """The rows of a table, or of an aggregate before `aggregates_before`."""

    name: str
    columns: list[str]
    rows: int
    files: list[Member]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The contents of an archive, and its origin."""

    #: Random; every archive has another one.
    id: str
    format: int = FORMAT
    exported_at: datetime
    tidegauge: str
    #: Number of the newest migration.
    schema_version: int
    postgresql: str
    timescaledb: str
    edition: Edition
    #: Whether a worker ran on the exported database. Then that worker sends the alert messages that were pending.
    has_worker: bool
    #: The archive holds the aggregates of the days before this one, whose raw readings are gone; null: no aggregates.
    aggregates_before: datetime | None
    #: Highest number that each sequence has given, by name.
    sequences: dict[str, int]
    tables: list[TableEntry]

    def count(self, table: str) -> int:
        """Return the number of rows of a table."""
        return sum(entry.rows for entry in self.tables if entry.name == table)


def decode_manifest(data: bytes) -> Manifest:
    """Decode a manifest; raise ArchiveError for one that is damaged or of a newer format."""
    try:
        newer = msgspec.json.decode(data, type=_Format).format > FORMAT
        if not newer:
            return msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ArchiveError(f"{MANIFEST_NAME} cannot be read: {error}") from None
    raise ArchiveError("It was written by a newer version of Tidegauge; import it with that version")


class _Format(msgspec.Struct):
    format: int
