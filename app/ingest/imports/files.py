"""The files of an import: the input in blocks of lines, the progress beside it, and the rejected rows."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from hashlib import sha256
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec

from app.csv_text import encode_rows, spreadsheet_text
from app.ingest.imports.table import InvalidFileError

#: Bytes that are read, and stored in one upload: about five thousand lines.
BLOCK_BYTES = 256 * 1024
#: A longer line is none of a CSV of readings.
LINE_BYTES = 1024 * 1024
_HEAD_BYTES = 64 * 1024
#: The first line of the file of rejected rows. `row` is the line as it is in the input.
REJECTED_COLUMNS = ("line", "code", "message", "row")


class Block(NamedTuple):
    """Whole lines of the input, without their ends, the number of the first one, and where the block ends in bytes."""

    lines: list[bytes]
    first_line: int
    end: int


class RejectedLine(NamedTuple):
    """A line, or a value of a line, that is not stored."""

    line: int
    code: str
    message: str
    row: bytes


class FileVersion(msgspec.Struct, frozen=True):
    """Facts that differ between two versions of a file."""

    size: int
    modified_ns: int
    head_sha256: str


class ImportProgress(msgspec.Struct):
    """Progress of the import of a file into a database: everything before `offset` is stored."""

    source: FileVersion
    #: Tells one database from another.
    database: str
    offset: int
    #: Number of the last line before `offset`; the first line of the file is 1.
    line: int
    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    #: Length of the file of rejected rows.
    rejected_bytes: int = 0

    def save(self, path: Path) -> None:
        """Replace the file, whole or not at all."""
        beside = path.with_name(f"{path.name}.part")
        beside.write_bytes(msgspec.json.encode(self))
        beside.replace(path)


def find_source(path: Path) -> FileVersion:
    """Return size, time of change and hash of the beginning of a file."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    facts = path.stat()
    return FileVersion(facts.st_size, facts.st_mtime_ns, sha256(head).hexdigest())


def load_progress(path: Path) -> ImportProgress | None:
    """Return the progress that an interrupted import left, None without one."""
    with suppress(FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
        return msgspec.json.decode(path.read_bytes(), type=ImportProgress)
    return None


def read_header(file: BufferedReader) -> bytes:
    """Return the first line without its end."""
    line = file.readline(LINE_BYTES)
    if not line.strip():
        raise InvalidFileError("The first line is empty; write sensor,time,metric,value there")
    return line.rstrip(b"\r\n")


def read_blocks(file: BinaryIO, line: int) -> Iterator[Block]:
    """Yield blocks of lines from the file's position on, to its end; `line` is the number of the first of them."""
    rest, end = b"", file.tell()
    while data := file.read(BLOCK_BYTES):
        cut = data.rfind(b"\n") + 1
        if not cut:
            rest += data
            if len(rest) > LINE_BYTES:
                raise InvalidFileError(f"Line {line} is longer than 1 MiB; is the file a CSV?")
            continue
        whole, rest = rest + data[:cut], data[cut:]
        end += len(whole)
        lines = [each.removesuffix(b"\r") for each in whole.split(b"\n")[:-1]]
        yield Block(lines, line, end)
        line += len(lines)
    if rest:
        yield Block([rest.removesuffix(b"\r")], line, end + len(rest))


class RejectedFile:
    """The file of rejected rows, which exists once there is one."""

    def __init__(self, path: Path, kept_bytes: int) -> None:
        self.path = path
        self._bytes = kept_bytes
        if kept_bytes:
            with path.open("r+b") as file:
                file.truncate(kept_bytes)
        else:
            path.unlink(missing_ok=True)

    def add(self, rejections: Sequence[RejectedLine]) -> int:
        """Append rows, and return the length of the file."""
        if rejections:
            rows = [(each.line, each.code, each.message, _show_row(each.row)) for each in rejections]
            data = encode_rows(rows if self._bytes else [REJECTED_COLUMNS, *rows]).encode()
            with self.path.open("ab") as file:
                file.write(data)
            self._bytes += len(data)
        return self._bytes


def _show_row(row: bytes) -> str:
    return spreadsheet_text(row.decode(errors="backslashreplace"))
