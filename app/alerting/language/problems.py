"""What is wrong with rule files: each problem at its place, all of them at once."""

from collections.abc import Iterable
from difflib import get_close_matches
from http import HTTPStatus

import msgspec

from app.errors import AppError


class Place(msgspec.Struct, frozen=True, order=True):
    """Where something stands in a file; line and column count from 1, line 0 is the file as a whole."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


class RuleProblem(msgspec.Struct, frozen=True, order=True):
    """One thing to mend, in a person's words."""

    file: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"{Place(self.file, self.line, self.column)}: {self.message}"


class RuleErrors(AppError):  # noqa: N818 (it is several)
    """Rule files cannot be used; `problems` holds every one, in order of file, line and column."""

    code = "rules"
    title = "The rules cannot be used"
    status = HTTPStatus.UNPROCESSABLE_ENTITY

    def __init__(self, problems: Iterable[RuleProblem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(map(str, self.problems)))


class ProblemLog:
    """Collects problems, so that one pass over the files finds all of them."""

    def __init__(self) -> None:
        self.problems: list[RuleProblem] = []

    def add(self, place: Place, message: str) -> None:
        """Note one problem."""
        self.problems.append(RuleProblem(place.file, place.line, place.column, message))


def problem_at(place: Place, message: str) -> RuleErrors:
    """Make the error for a file in which the one problem hides all others."""
    return RuleErrors([RuleProblem(place.file, place.line, place.column, message)])


def did_you_mean(word: str, accepted: Iterable[str]) -> str:
    """Write `; did you mean "x"?` for the nearest accepted word, or nothing when none is near."""
    by_lower = {one.lower(): one for one in accepted}
    nearest = get_close_matches(word.lower()[:80], by_lower, n=1, cutoff=0.6)
    return f'; did you mean "{by_lower[nearest[0]]}"?' if nearest else ""


def shown(text: str) -> str:
    """Write a text of the user's in quotes, on one line and cut to a readable length."""
    one_line = " ".join(text.split())
    return f'"{one_line[:40]}…"' if len(one_line) > 40 else f'"{one_line}"'


def listed(words: Iterable[str]) -> str:
    """Write accepted words for a message: `a, b or c`."""
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last
