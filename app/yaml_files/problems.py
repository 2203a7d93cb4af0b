"""Problems of files that people write, each with its place; all problems are reported together."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

import msgspec

from app.errors import AppError

#: Largest number of problems; further ones are left out, because all are stored and shown together.
MOST_PROBLEMS: Final = 500


class Place(msgspec.Struct, frozen=True, order=True):
    """A place in a file. Line and column count from 1; line 0 is the file as a whole."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


class FileProblem(msgspec.Struct, frozen=True, order=True):
    """One problem of a file, with a message for people."""

    file: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"{Place(self.file, self.line, self.column)}: {self.message}"


class FileErrors(AppError):  # noqa: N818 (it holds several errors)
    """One or more files cannot be used. `problems` holds all problems in order of file, line and column."""

    code = "files"
    title = "A file cannot be used"
    status = HTTPStatus.UNPROCESSABLE_ENTITY

    def __init__(self, problems: Iterable[FileProblem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(map(str, self.problems)))


class ProblemLog:
    """Collects problems, so that one pass over the files reports all of them."""

    def __init__(self) -> None:
        self.problems: list[FileProblem] = []
        #: Whether an entry was left out, so that its name is not known.
        self.lacks_entry = False

    def add(self, place: Place, message: str) -> None:
        """Add one problem, or say once that there are more than MOST_PROBLEMS."""
        if len(self.problems) == MOST_PROBLEMS:
            message = f"there are more problems than these {MOST_PROBLEMS}; correct them first"
        if len(self.problems) <= MOST_PROBLEMS:
            self.problems.append(FileProblem(place.file, place.line, place.column, message))


def problem_at(place: Place, message: str) -> FileErrors:
    """Return the error for a file whose one problem prevents reading the rest."""
    return FileErrors([FileProblem(place.file, place.line, place.column, message)])
