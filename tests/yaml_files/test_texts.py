from pathlib import Path

import pytest

from app.yaml_files.problems import ProblemLog
from app.yaml_files.texts import LARGEST_BYTES, read_text


def test_text_is_decoded_without_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes("\ufeffgrün\n".encode())
    assert read_text(tmp_path / "a", ProblemLog()) == "grün\n"


@pytest.mark.parametrize(
    ("content", "line", "column", "message"),
    [
        (b"ab\nc\xc3\xbcd\xffe\n", 2, 4, "this is not UTF-8 text; save the file as UTF-8"),
        (b" " * (LARGEST_BYTES + 1), 0, 0, "this is not a file of at most 1,000,000 bytes"),
        (None, 0, 0, "this is not a file of at most 1,000,000 bytes"),
    ],
)
def test_file_that_cannot_be_read_is_one_problem_with_its_place(
    tmp_path: Path, content: bytes | None, line: int, column: int, message: str
) -> None:
    if content is not None:
        (tmp_path / "a").write_bytes(content)
    log = ProblemLog()
    assert read_text(tmp_path / "a", log) is None
    (problem,) = log.problems
    assert (problem.file, problem.line, problem.column, problem.message) == (str(tmp_path / "a"), line, column, message)
