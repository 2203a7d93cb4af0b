"""Limits of request bodies: of one as sent, of one decompressed, and of all together, so that none fills the memory."""

import zlib

import zstandard

from app.errors import InvalidRequestError, OverloadedError, PayloadTooLargeError

#: Limits in bytes: of the body as sent, and of the decompressed body.
BODY_LIMIT = 16 * 2**20
DECOMPRESSED_LIMIT = 64 * 2**20
#: Limit in bytes of what was received so far of all bodies that are on their way in this process.
BODIES_LIMIT = 128 * 2**20
#: Limit of files appended one to another in a gzip body; each needs a new decompressor.
GZIP_MEMBERS_LIMIT = 1_000
#: Bytes of gzip decompressed at a time; they decompress to about DECOMPRESSED_LIMIT bytes at most.
_GZIP_PIECE = 2**16


class BodyRoom:
    """Room for the bodies that are being received. When it is full, uploads are refused with 503 and Retry-After."""

    def __init__(self) -> None:
        self._taken = 0

    def take(self, byte_count: int) -> None:
        """Take room for a piece of a body; raise OverloadedError, without taking it, when there is too little."""
        if self._taken + byte_count > BODIES_LIMIT:
            taken = f"{self._taken / 2**20:.0f} MiB"
            raise OverloadedError(f"Bodies of {taken} are being received already. Keep the data and send them again.")
        self._taken += byte_count

    def give_back(self, byte_count: int) -> None:
        """Give back what was taken."""
        self._taken -= byte_count


def decompress(body: bytes, content_encoding: str) -> bytes:
    """Return the body without its Content-Encoding, which may be gzip, zstd or identity.

    Raise InvalidRequestError for another encoding or a broken body, PayloadTooLargeError beyond the limits.
    """
    encoding = content_encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    try:
        if encoding in ("gzip", "x-gzip"):
            return _gunzip(body)
        if encoding == "zstd":
            return _unzstd(body)
    except (zlib.error, zstandard.ZstdError, EOFError) as error:
        raise InvalidRequestError(f"The body is not valid {encoding}: {error}") from None
    raise InvalidRequestError(f"Content-Encoding is {content_encoding!r}; use gzip, zstd or none")


def _gunzip(body: bytes) -> bytes:
    """Decompress all members of a gzip body, because a gateway may send files appended one to another."""
    parts: list[bytes] = []
    room = DECOMPRESSED_LIMIT
    members = 1
    member = zlib.decompressobj(wbits=31)
    for start in range(0, len(body), _GZIP_PIECE):
        # In pieces, because zlib copies everything that follows a member.
        piece = body[start : start + _GZIP_PIECE]
        while piece:
            if member.eof:
                member, members = zlib.decompressobj(wbits=31), members + 1
            parts.append(member.decompress(piece))
            room -= len(parts[-1])
            _check_limits(room, members)
            piece = member.unused_data
    if body and not member.eof:
        raise EOFError("it ends early")
    return b"".join(parts)


def _unzstd(body: bytes) -> bytes:
    """Decompress as a stream, because a frame's header may have a wrong size or none."""
    with zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(body, read_across_frames=True) as reader:
        decompressed = reader.read(DECOMPRESSED_LIMIT + 1)
    _check_limits(DECOMPRESSED_LIMIT - len(decompressed))
    # The reader reports no error for a frame that is cut short, but most frames have their size in the header.
    if body and len(decompressed) < zstandard.frame_content_size(body):
        raise EOFError("it ends early")
    return decompressed


def _check_limits(room: int, members: int = 1) -> None:
    if room < 0:
        raise PayloadTooLargeError(
            f"The body is larger than {DECOMPRESSED_LIMIT // 2**20} MiB once decompressed; send smaller batches"
        )
    if members > GZIP_MEMBERS_LIMIT:
        raise PayloadTooLargeError(
            f"The body is more than {GZIP_MEMBERS_LIMIT} gzip files in a row; compress the batch as one"
        )
