"""Bodies of lines, of which a few are in memory as objects at a time."""

from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator

from app.errors import PayloadTooLargeError
from app.ingest.bodies.document import Listing
from app.ingest.bodies.pieces import ITEM_BYTES_LIMIT, PIECE_BYTES, check_count


def list_lines(body: bytes) -> Listing:
    """Return the lines of a body, still encoded; walking over them raises PayloadTooLargeError.

    What firmware and Windows add is left out: a byte order mark, NULs at the end, carriage returns. UTF-16 with its
    mark becomes UTF-8.
    """
    if body.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        body = body.decode("utf-16", errors="replace").rstrip("\0").encode()
    whole = body.removeprefix(BOM_UTF8).rstrip(b"\0")
    return Listing(lambda: _split(whole))


def _split(body: bytes) -> Iterator[list[bytes]]:
    at = count = 0
    while at < len(body):
        end = body.rfind(b"\n", at, at + PIECE_BYTES) + 1 or body.find(b"\n", at) + 1 or len(body)
        lines = body[at:end].splitlines()
        count += len(lines)
        check_count(count)
        if len(lines) == 1 and end - at > ITEM_BYTES_LIMIT:
            raise PayloadTooLargeError(
                f"Line {count} is larger than {ITEM_BYTES_LIMIT // 2**20} MiB; send smaller readings"
            )
        yield lines
        at = end
