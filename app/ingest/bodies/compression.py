"""Content-Encoding of request bodies, decompressed piece by piece up to a limit."""

import zlib
from io import BytesIO

import zstandard

from app.errors import InvalidRequestError, PayloadTooLargeError

#: Limits in bytes: of the body as sent, and of the decompressed body.
BODY_LIMIT = 16 * 2**20
DECOMPRESSED_LIMIT = 64 * 2**20
#: Limit of the number of files appended to each other in a gzip body; each needs a new decompressor.
GZIP_MEMBERS_LIMIT = 1_000
#: Largest window of a zstd frame in bytes: the limit of RFC 9659 for a Content-Encoding.
_ZSTD_WINDOW = 2**23
#: Bytes of gzip that are decompressed at a time, and bytes that come out of a decompressor at a time.
_GZIP_PIECE, _PIECE = 2**16, 2**20


class _TooLargeError(Exception):
    """The decompressed body exceeds the limit."""


def decompress(body: bytes, content_encoding: str) -> bytes:
    """Return the body without its Content-Encoding, which may be gzip, zstd, snappy or identity.

    Raise InvalidRequestError for another encoding or a broken body, PayloadTooLargeError beyond the limits.
    """
    whole = decompress_up_to(DECOMPRESSED_LIMIT, body, content_encoding)
    if whole is None:
        raise PayloadTooLargeError(
            f"The body is larger than {DECOMPRESSED_LIMIT // 2**20} MiB once decompressed; send smaller batches"
        )
    return whole


def decompress_up_to(limit: int, body: bytes, content_encoding: str) -> bytes | None:
    """Return the body without its Content-Encoding, or None if the result has more than `limit` bytes.

    It takes at most about `limit` bytes of memory, whatever size the body claims. Raises as `decompress` does.
    """
    encoding = content_encoding.strip().lower()
    if encoding in ("", "identity"):
        return body if len(body) <= limit else None
    try:
        if encoding in ("gzip", "x-gzip"):
            return _gunzip(body, limit)
        if encoding == "zstd":
            return _unzstd(body, limit)
        if encoding == "snappy":
            return _unsnappy(body, limit)
    except _TooLargeError:
        return None
    except (zlib.error, zstandard.ZstdError, EOFError) as error:
        raise InvalidRequestError(f"The body is not valid {encoding}: {error}{_hint(error)}") from None
    raise InvalidRequestError(f"Content-Encoding is {content_encoding!r:.60}; use gzip, zstd or none")


def _gunzip(body: bytes, limit: int) -> bytes:
    """Decompress all members of a gzip body, because a gateway may send files appended one to another."""
    whole = BytesIO()
    members = 1
    member = zlib.decompressobj(wbits=31)
    for start in range(0, len(body), _GZIP_PIECE):
        # In pieces, because zlib copies everything that follows a member.
        piece = body[start : start + _GZIP_PIECE]
        while piece:
            if member.eof:
                piece = piece.lstrip(b"\0")  # padding, as tape and flash have it, which the gzip tool leaves out, too
                if not piece:
                    break
                member, members = zlib.decompressobj(wbits=31), members + 1
                _check_members(members)
            _write(whole, member.decompress(piece, _PIECE), limit)
            piece = member.unused_data if member.eof else member.unconsumed_tail
    while not member.eof and (rest := member.decompress(b"", _PIECE)):  # zlib may have kept some bytes
        _write(whole, rest, limit)
    if body and not member.eof:
        raise EOFError("it ends early")
    return whole.getvalue()


def _unzstd(body: bytes, limit: int) -> bytes:
    """Decompress as a stream, because a frame's header may have a wrong size or none."""
    whole = BytesIO()
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    with decompressor.stream_reader(body, read_across_frames=True) as reader:
        while piece := reader.read(_PIECE):
            _write(whole, piece, limit)
    # The reader reports no error for a frame that is cut short, but most frames have their size in the header.
    if body and whole.tell() < zstandard.frame_content_size(body):
        raise EOFError("it ends early")
    return whole.getvalue()


def _unsnappy(body: bytes, limit: int) -> bytes:
    """Decompress a block of snappy, as Prometheus sends it; its head has the size."""
    import cramjam

    try:
        if cramjam.snappy.decompress_raw_len(body) > limit:
            raise _TooLargeError
        return bytes(cramjam.snappy.decompress_raw(body))
    except cramjam.DecompressionError as error:
        raise EOFError(str(error)) from None


def _write(whole: BytesIO, piece: bytes, limit: int) -> None:
    if whole.tell() + len(piece) > limit:
        raise _TooLargeError
    whole.write(piece)


def _check_members(members: int) -> None:
    if members > GZIP_MEMBERS_LIMIT:
        raise PayloadTooLargeError(
            f"The body is more than {GZIP_MEMBERS_LIMIT} gzip files in a row; compress the batch as one"
        )


def _hint(error: Exception) -> str:
    too_much = "too much memory" in str(error)
    return f"; compress with a window of at most {_ZSTD_WINDOW // 2**20} MiB" if too_much else ""
