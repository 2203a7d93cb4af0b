"""Request bodies: decompressed within limits, so that a small body cannot become a large one."""

import zlib

import zstandard

from app.errors import InvalidRequestError, PayloadTooLargeError

#: Bytes as sent, and once decompressed.
BODY_LIMIT = 16 * 2**20
DECOMPRESSED_LIMIT = 64 * 2**20


def decompress(body: bytes, content_encoding: str) -> bytes:
    """Undo a Content-Encoding of gzip, zstd or identity; raise InvalidRequestError or PayloadTooLargeError."""
    encoding = content_encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding in ("gzip", "x-gzip"):
        return _gunzip(body)
    if encoding == "zstd":
        return _unzstd(body)
    raise InvalidRequestError(f"Content-Encoding is {content_encoding!r}; use gzip, zstd or none")


def _gunzip(body: bytes) -> bytes:
    """Decompress every member: a gateway may send files that were appended one to another."""
    parts: list[bytes] = []
    room = DECOMPRESSED_LIMIT
    while body:
        member = zlib.decompressobj(wbits=31)
        try:
            part = member.decompress(body, room + 1)
        except zlib.error as error:
            raise InvalidRequestError(f"The body is not valid gzip: {error}") from None
        parts.append(_within(part, room))
        room -= len(part)
        if not member.eof:
            raise InvalidRequestError("The body is not valid gzip: it ends early")
        body = member.unused_data
    return b"".join(parts)


def _unzstd(body: bytes) -> bytes:
    """Decompress by the stream: a frame's header may not say its size, or lie."""
    try:
        with zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(body, read_across_frames=True) as reader:
            decompressed = reader.read(DECOMPRESSED_LIMIT + 1)
    except zstandard.ZstdError as error:
        raise InvalidRequestError(f"The body is not valid zstd: {error}") from None
    return _within(decompressed, DECOMPRESSED_LIMIT)


def _within(part: bytes, room: int) -> bytes:
    if len(part) > room:
        raise PayloadTooLargeError(
            f"The body is larger than {DECOMPRESSED_LIMIT // 2**20} MiB once decompressed; send smaller batches"
        )
    return part
