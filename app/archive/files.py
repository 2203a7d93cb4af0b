"""The file of an archive: a tar, plain or compressed, which is written and read as a stream."""

import gzip
import io
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import msgspec
import zstandard

from app.archive.manifest import MANIFEST_NAME, ArchiveError, Manifest, Member, decode_manifest
from app.errors import InvalidRequestError
from app.model import ReportProgress

_SUFFIXES = {".tar": "", ".tar.gz": "gzip", ".tgz": "gzip", ".tar.zst": "zstd", ".tzst": "zstd"}
_GZIP_MAGIC, _ZSTD_MAGIC = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
#: The first block of a tar, and where it has the word ustar.
_TAR_HEAD_BYTES, _USTAR = 512, slice(257, 262)
_PIECE_BYTES = 1024 * 1024
_MANIFEST_LIMIT_BYTES = 64 * 1024 * 1024
#: Exceptions that reading a damaged file of one of the three forms raises.
_DAMAGED = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError)


class ArchiveWriter:
    """Writes the files of an archive one after another."""

    def __init__(self, tar: tarfile.TarFile, modified_at: datetime) -> None:
        self._tar = tar
        self._modified_at = modified_at

    def add(self, name: str, data: bytes) -> Member:
        """Write a file, and return its entry in the manifest."""
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode, entry.mtime = len(data), 0o600, int(self._modified_at.timestamp())
        self._tar.addfile(entry, io.BytesIO(data))
        return Member(name, len(data), sha256(data).hexdigest())

    def add_manifest(self, manifest: Manifest) -> None:
        """Write the manifest, which ends the archive."""
        self.add(MANIFEST_NAME, msgspec.json.format(msgspec.json.encode(manifest), indent=1))


def find_compression(target: str) -> str:
    """Return how the file of an archive is compressed, by its name; raise InvalidRequestError for another name."""
    if target == "-":
        return ""
    for suffix, compression in _SUFFIXES.items():
        if target.endswith(suffix):
            return compression
    raise InvalidRequestError(f"--all is {target!r}; write a name that ends in .tar, .tar.gz or .tar.zst, or -")


@contextmanager
def written_archive(
    write: Callable[[bytes], object], compression: str, modified_at: datetime
) -> Iterator[ArchiveWriter]:
    """Yield a writer of an archive, which is complete when the block ends without an error."""
    with _compressing(write, compression) as stream, tarfile.open(fileobj=stream, mode="w|") as tar:
        yield ArchiveWriter(tar, modified_at)


def is_archive(path: Path) -> bool:
    """Return whether a regular file is a tar, plain or compressed, by its content."""
    if not path.is_file():  # a pipe can be read only once
        return False
    try:
        with _opened(path) as (stream, _):
            head: bytes = stream.read(_TAR_HEAD_BYTES)
            return head[_USTAR] == b"ustar"
    except _DAMAGED:
        return False


def read_manifest(path: Path, report: ReportProgress = lambda done, total: None) -> Manifest:
    """Read a whole archive, compare its files with its manifest, and return the manifest; raise ArchiveError.

    `report` gets the bytes read and in all.
    """
    found: dict[str, Member] = {}
    manifest: Manifest | None = None
    for name, pieces in read_members(path, report):
        if name == MANIFEST_NAME:
            manifest = decode_manifest(_join(pieces))
            continue
        digest, size = sha256(), 0
        for piece in pieces:
            digest.update(piece)
            size += len(piece)
        found[name] = Member(name, size, digest.hexdigest())
    if manifest is None:
        raise ArchiveError(
            f"It has no {MANIFEST_NAME}: it is incomplete, or was not written by `tidegauge export --all`"
        )
    _compare(manifest, found)
    return manifest


def read_members(
    path: Path, report: ReportProgress = lambda done, total: None
) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Yield the name and the pieces of each file; read the pieces before the next file. Raise ArchiveError.

    `report` gets the bytes read and in all.
    """
    size = path.stat().st_size
    with _checked(), _opened(path) as (stream, file), tarfile.open(fileobj=stream, mode="r|") as tar:
        for entry in tar:
            if not entry.isreg():
                raise ArchiveError(
                    f"{entry.name!r} is not a regular file; archives of Tidegauge have only regular files"
                )
            yield entry.name, _read_pieces(cast("IO[bytes]", tar.extractfile(entry)))
            report(file.tell(), size)


def _read_pieces(file: IO[bytes]) -> Iterator[bytes]:
    with _checked():
        while piece := file.read(_PIECE_BYTES):
            yield piece


@contextmanager
def _checked() -> Iterator[None]:
    """Turn the exceptions of damaged files into ArchiveError."""
    try:
        yield
    except _DAMAGED as error:
        raise ArchiveError(f"It is damaged or incomplete: {error}") from None


def _join(pieces: Iterator[bytes]) -> bytes:
    data = b""
    for piece in pieces:
        data += piece
        if len(data) > _MANIFEST_LIMIT_BYTES:
            raise ArchiveError(f"{MANIFEST_NAME} is larger than {_MANIFEST_LIMIT_BYTES >> 20} MiB")
    return data


def _compare(manifest: Manifest, found: dict[str, Member]) -> None:
    """Raise ArchiveError unless these are the files that the manifest names."""
    named = {file.name: file for entry in manifest.tables for file in entry.files}
    for name in sorted(named.keys() | found.keys()):
        if name not in found:
            raise ArchiveError(f"The file {name} is missing")
        if name not in named:
            raise ArchiveError(f"{MANIFEST_NAME} does not name the file {name}")
        if named[name] != found[name]:
            raise ArchiveError(f"The file {name} is damaged: its SHA-256 is not that of {MANIFEST_NAME}")


class _Sink:
    """Makes a file of a function that writes."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write

    def write(self, data: bytes) -> int:
        self._write(data)
        return len(data)

    def flush(self) -> None:
        """Do nothing, because nothing is buffered here."""


@contextmanager
def _compressing(write: Callable[[bytes], object], compression: str) -> Iterator[Any]:
    sink = cast("BinaryIO", _Sink(write))
    if compression == "gzip":
        with gzip.GzipFile(fileobj=sink, mode="wb", compresslevel=6) as stream:
            yield stream
    elif compression == "zstd":
        with zstandard.ZstdCompressor().stream_writer(sink, closefd=False) as stream:
            yield stream
    else:
        yield sink


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, BinaryIO]]:
    """Open a file; yield a reader of its decompressed contents, and the file itself."""
    with path.open("rb") as file:
        magic = file.read(4)
        file.seek(0)
        if magic.startswith(_GZIP_MAGIC):
            with gzip.GzipFile(fileobj=file) as stream:
                yield stream, file
        elif magic == _ZSTD_MAGIC:
            with closing(zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)) as stream:
                yield stream, file
        else:
            yield file, file
