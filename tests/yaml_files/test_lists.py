from typing import Any

import pytest

from app.yaml_files.kinds import UNFIT, Kind, read_logged
from app.yaml_files.leaves import NUMBER
from app.yaml_files.lists import Ascending, ListOf, OneOrListOf, OneOrMore
from app.yaml_files.nodes import compose
from app.yaml_files.problems import ProblemLog

NUMBERS = ListOf(NUMBER, "a list of numbers")


def read(kind: Kind, text: str) -> tuple[Any, list[str]]:
    log = ProblemLog()
    value = read_logged(kind, compose(text, "f"), "this", log)
    return value, [each.message for each in log.problems]


@pytest.mark.parametrize(
    ("kind", "text", "value", "problems"),
    [
        (NUMBERS, "[1, x, 3]", (1.0, 3.0), ['this item takes a number, such as 8.0; got the text "x"']),
        (NUMBERS, "1", UNFIT, ["this takes a list of numbers; got the number 1"]),
        (ListOf(NUMBER, "numbers", least=1), "[]", UNFIT, ["this takes numbers; got an empty list"]),
        (ListOf(NUMBER, "numbers", unique=True), "[1, 1]", (1.0, 1.0), ['"1" is in the list twice, first at f:1:2']),
        (OneOrMore(NUMBERS, NUMBER), "7", (7.0,), []),
        (OneOrMore(NUMBERS, NUMBER), "[7, 8]", (7.0, 8.0), []),
        (OneOrListOf(NUMBER, "numbers", 2), "[1, 2, 3]", UNFIT, ["this takes numbers; got a list of 3"]),
        (Ascending(NUMBER, 2), "[2, 8]", (2.0, 8.0), []),
        (Ascending(NUMBER, 2), "[2, 2]", (2.0, 2.0), []),
        (Ascending(NUMBER, 2), "[8, 2]", UNFIT, ["this: the lower number comes first; did you mean [2.0, 8.0]?"]),
    ],
)
def test_list_is_read_as_a_tuple_of_what_is_accepted(kind: Kind, text: str, value: Any, problems: list[str]) -> None:
    assert read(kind, text) == (value, problems)
