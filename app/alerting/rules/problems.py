"""What is wrong with rule files: each problem at its place, all of them at once."""

from collections.abc import Iterable
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
