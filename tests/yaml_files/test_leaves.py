"""Single values that files of any kind may hold."""

from typing import Any

import pytest

from app.yaml_files.kinds import UNFIT, Leaf, read_logged
from app.yaml_files.leaves import DURATION, FLAG, NUMBER, POSITIVE_DURATION, TIME_ZONE, VERSION, one_of
from app.yaml_files.nodes import compose
from app.yaml_files.problems import ProblemLog


def read(leaf: Leaf, text: str) -> tuple[Any, str]:
    log = ProblemLog()
    value = read_logged(leaf, compose(text, "f"), "it", log)
    return value, "".join(each.message for each in log.problems)


@pytest.mark.parametrize(
    ("leaf", "text", "value"),
    [
        (NUMBER, "8", 8.0),
        (NUMBER, "-.5e3", -500.0),
        (NUMBER, "-0.0", 0.0),
        (DURATION, "0", 0),
        (DURATION, "1h30m", 5_400_000_000),
        (POSITIVE_DURATION, "90s", 90_000_000),
        (FLAG, "True", True),
        (FLAG, "false", False),
        (VERSION, "1", 1),
        (TIME_ZONE, "Europe/Berlin", "Europe/Berlin"),
        (one_of(("json", "plain")), "plain", "plain"),
    ],
)
def test_value_is_read(leaf: Leaf, text: str, value: Any) -> None:
    assert read(leaf, text) == (value, "")


@pytest.mark.parametrize(
    ("leaf", "text", "problem"),
    [
        (NUMBER, '"8"', 'it takes a number, such as 8.0; got the text "8" (without the quotes)'),
        (NUMBER, "8,5", 'it takes a number, such as 8.0; got the text "8,5" (did you mean 8.5?)'),
        (NUMBER, "010", "it: YAML tools disagree about 010; write a plain decimal such as 8 or 0.5"),
        (NUMBER, ".inf", "it: .inf is never crossed; write a number such as 8.0"),
        (NUMBER, "1e101", "it: no reading is beyond ±1e+100"),
        (NUMBER, "", "it takes a number, such as 8.0; got nothing (leave the key out, or indent what belongs to it)"),
        (POSITIVE_DURATION, "0", "it: it must be longer than 0"),
        (FLAG, "yes", 'it takes true or false; got the text "yes"'),
        (VERSION, "2", "it takes the number 1; got the number 2"),
        (TIME_ZONE, "Europe/Berlim", 'it: there is no time zone "Europe/Berlim"; did you mean "Europe/Berlin"?'),
        (one_of(("json", "plain")), "jsn", 'it: "jsn" is not known; did you mean "json"? (accepted: json or plain)'),
    ],
)
def test_wrong_value_is_one_problem_with_a_remedy(leaf: Leaf, text: str, problem: str) -> None:
    assert read(leaf, text) == (UNFIT, problem)
