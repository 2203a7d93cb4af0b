"""Request bodies: decompressed within limits, so that a small body cannot become a large one."""

import zlib

import zstandard

from app.errors import InvalidRequestError, PayloadTooLargeError

#: Bytes as sent, and once decompressed.
BODY_LIMIT = 16 * 2**20
DECOMPRESSED_LIMIT = 64 * 2**20
#: Files appended one to another that one gzip body may hold; each costs setting up a decompressor.
GZIP_MEMBERS_LIMIT = 1_000
#: Bytes of gzip decompressed at a time: at most DECOMPRESSED_LIMIT or so can come out.
_GZIP_PIECE = 2**16


def decompress(body: bytes, content_encoding: str) -> bytes:
    """Undo a Content-Encoding of gzip, zstd or identity; raise InvalidRequestError or PayloadTooLargeError."""
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
    """Decompress every member: a gateway may send files that were appended one to another."""
    parts: list[bytes] = []
    room = DECOMPRESSED_LIMIT
    members = 1
    member = zlib.decompressobj(wbits=31)
    for start in range(0, len(body), _GZIP_PIECE):
        # By the piece, because zlib copies all that follows a member.
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
    """Decompress by the stream: a frame's header may not say its size, or lie."""
    with zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(body, read_across_frames=True) as reader:
        decompressed = reader.read(DECOMPRESSED_LIMIT + 1)
    _check_limits(DECOMPRESSED_LIMIT - len(decompressed))
    # The reader says nothing of a frame that is cut short; most say how long they should be.
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
