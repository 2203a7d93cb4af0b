"""Texts in requests: accepted ones, refused ones, and the messages."""

import pytest

from app.errors import InvalidRequestError
from app.parameters import check_text


def test_text_is_refused_when_it_holds_nul() -> None:
    assert check_text("sensor", "pi\n1") == "pi\n1"
    with pytest.raises(InvalidRequestError, match=r"^sensor is 'pi\\x001'; leave out the NUL character$"):
        check_text("sensor", "pi\0001")


def test_text_is_refused_when_it_is_too_long() -> None:
    assert check_text("sensor", "s" * 200) == "s" * 200
    with pytest.raises(InvalidRequestError, match=r"^sensor has 1,201 characters; give at most 200$"):
        check_text("sensor", "s" * 1_201)
