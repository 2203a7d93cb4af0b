"""Decompression of request bodies with limits."""

import gzip
import tracemalloc
import zlib
from time import process_time

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import InvalidRequestError, PayloadTooLargeError
from app.ingest.bodies import compression as body_module
from app.ingest.bodies.compression import DECOMPRESSED_LIMIT, decompress, decompress_up_to

MIB = 2**20
TEXT = b'[{"sensor":"pi1","values":{"temperature":21.5}}]'


@settings(deadline=None)
@given(st.lists(st.binary(max_size=2_000), min_size=1, max_size=4))
def test_body_is_decompressed_when_it_was_compressed_in_one_or_more_parts(parts: list[bytes]) -> None:
    whole = b"".join(parts)
    assert decompress(whole, "") == whole
    assert decompress(whole, "identity") == whole
    assert decompress(b"".join(map(gzip.compress, parts)), "gzip") == whole
    assert decompress(b"".join(map(gzip.compress, parts)), " X-GZIP ") == whole
    assert decompress(b"".join(map(zstandard.compress, parts)), "zstd") == whole


def test_body_is_decompressed_when_it_is_larger_than_one_piece() -> None:
    whole = b"".join(b"%d," % number for number in range(500_000))
    for compressed in (gzip.compress(whole), gzip.compress(whole[:100_000]) + gzip.compress(whole[100_000:])):
        assert len(compressed) > 2**16
        assert decompress(compressed, "gzip") == whole


def test_zstd_body_is_decompressed_when_its_frame_has_no_size() -> None:
    compressor = zstandard.ZstdCompressor().compressobj()
    assert decompress(compressor.compress(TEXT) + compressor.flush(), "zstd") == TEXT


@settings(deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["gzip", "zstd"]))
def test_body_is_refused_when_it_does_not_have_its_content_encoding(body: bytes, encoding: str) -> None:
    if body:
        with pytest.raises(InvalidRequestError, match=f"^The body is not valid {encoding}: "):
            decompress(body, encoding)


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("zstd", zstandard.compress)])
def test_body_is_refused_when_it_ends_early(encoding: str, compress: object) -> None:
    assert callable(compress)
    compressed = compress(TEXT * 100)
    for length in range(1, len(compressed)):
        with pytest.raises(InvalidRequestError, match=f"^The body is not valid {encoding}: "):
            decompress(compressed[:length], encoding)


@pytest.mark.parametrize("padding", [1, 512, 70_000])
def test_zeros_after_a_gzip_body_are_left_out(padding: int) -> None:
    body = gzip.compress(b"a" * 100_000) + b"\0" * padding
    assert decompress(body, "gzip") == b"a" * 100_000
    with pytest.raises(InvalidRequestError):
        decompress(body + b"x", "gzip")


def test_body_is_refused_when_other_bytes_follow() -> None:
    with pytest.raises(InvalidRequestError, match=r"^The body is not valid gzip: "):
        decompress(gzip.compress(TEXT) + b"rubbish", "gzip")
    with pytest.raises(InvalidRequestError, match=r"^The body is not valid zstd: "):
        decompress(zstandard.compress(TEXT) + b"rubbish", "zstd")


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, zstd", "*"])
def test_encoding_is_refused_with_the_accepted_ones_when_unknown(encoding: str) -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        decompress(TEXT, encoding)
    assert str(refusal.value) == f"Content-Encoding is {encoding!r}; use gzip, zstd or none"


def test_body_is_accepted_when_its_decompressed_size_equals_the_limit() -> None:
    zeros = bytes(DECOMPRESSED_LIMIT)
    assert len(decompress(gzip.compress(zeros, 1), "gzip")) == DECOMPRESSED_LIMIT
    assert len(decompress(zstandard.compress(zeros), "zstd")) == DECOMPRESSED_LIMIT


def test_body_is_refused_when_its_decompressed_size_exceeds_the_limit() -> None:
    zeros = bytes(DECOMPRESSED_LIMIT + 1)
    hidden = zstandard.ZstdCompressor().compressobj()
    for encoding, bomb in {
        "gzip": gzip.compress(zeros, 1),
        "x-gzip": gzip.compress(bytes(DECOMPRESSED_LIMIT), 1) + gzip.compress(b"0"),
        "zstd": zstandard.compress(zeros),
        "ZSTD": hidden.compress(zeros) + hidden.flush(),
    }.items():
        assert len(bomb) < MIB
        with pytest.raises(PayloadTooLargeError) as refusal:
            decompress(bomb, encoding)
        assert str(refusal.value) == "The body is larger than 64 MiB once decompressed; send smaller batches"


def test_refusal_is_quick_when_the_body_is_hundreds_of_thousands_of_empty_files() -> None:
    bomb = gzip.compress(b"") * (16 * MIB // 20)
    started = process_time()
    with pytest.raises(PayloadTooLargeError) as refusal:
        decompress(bomb, "gzip")
    assert process_time() - started < 1
    assert str(refusal.value) == "The body is more than 1000 gzip files in a row; compress the batch as one"


def test_body_is_accepted_when_it_has_as_many_gzip_members_as_allowed() -> None:
    assert decompress(gzip.compress(b"1") * body_module.GZIP_MEMBERS_LIMIT, "gzip") == b"1" * 1_000


def test_body_is_refused_when_it_is_raw_deflate_instead_of_gzip() -> None:
    with pytest.raises(InvalidRequestError, match=r"^The body is not valid gzip: "):
        decompress(zlib.compress(TEXT), "gzip")


def test_nothing_is_returned_when_more_comes_out_than_is_wanted() -> None:
    for encoding, body in {"": TEXT, "gzip": gzip.compress(TEXT), "zstd": zstandard.compress(TEXT)}.items():
        assert decompress_up_to(len(TEXT), body, encoding) == TEXT
        assert decompress_up_to(len(TEXT) - 1, body, encoding) is None


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_decompression_takes_little_memory_when_a_small_body_is_large_decompressed(encoding: str) -> None:
    zeros = bytes(DECOMPRESSED_LIMIT)
    bomb = gzip.compress(zeros) if encoding == "gzip" else zstandard.compress(zeros)
    tracemalloc.start()
    try:
        assert decompress_up_to(MIB, bomb, encoding) is None
        assert tracemalloc.get_traced_memory()[1] < 8 * MIB
    finally:
        tracemalloc.stop()


def test_zstd_body_is_refused_with_a_hint_when_its_window_is_larger_than_8_mib() -> None:
    for window_log, is_accepted in ((23, True), (24, False)):
        parameters = zstandard.ZstdCompressionParameters(window_log=window_log)
        compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
        body = compressor.compress(TEXT) + compressor.flush()
        if is_accepted:
            assert decompress(body, "zstd") == TEXT
        else:
            with pytest.raises(InvalidRequestError, match=r"; compress with a window of at most 8 MiB$"):
                decompress(body, "zstd")
