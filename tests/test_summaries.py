"""The packed form of summaries."""

import pytest

from app.model import SeriesId
from app.summaries import Summaries, UnknownVersionError, pack, unpack

SUMMARIES = Summaries(
    [SeriesId(7)], [1_000_000], [1.5], [SeriesId(8)], [3], [1_000_000], [4_000_000], [-2.0], [2.5], [2_000_000]
)


def test_summaries_are_packed_as_little_endian_columns_after_a_header() -> None:
    assert pack(SUMMARIES).hex(" ", 4) == (
        "01000000 01000000 01000000 "  # version, one single, one run
        "07000000 40420f00 00000000 00000000 0000f83f "
        "08000000 03000000 40420f00 00000000 00093d00 00000000 00000000 000000c0 00000000 00000440 80841e00 00000000"
    )


@pytest.mark.parametrize("summaries", [SUMMARIES, Summaries()], ids=["both", "none"])
def test_unpack_returns_what_was_packed(summaries: Summaries) -> None:
    assert list(map(list, vars_of(unpack(pack(summaries))))) == list(map(list, vars_of(summaries)))


def test_unpack_raises_when_the_version_is_of_a_later_release() -> None:
    with pytest.raises(UnknownVersionError, match="summaries of version 2; this release knows version 1"):
        unpack(b"\x02" + pack(SUMMARIES)[1:])


def vars_of(summaries: Summaries) -> list[list[float]]:
    return [list(getattr(summaries, field)) for field in summaries.__struct_fields__]
