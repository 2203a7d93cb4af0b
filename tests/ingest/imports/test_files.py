"""The files of an import: blocks of lines, progress, rejected rows."""

import io
from pathlib import Path

import pytest

from app.ingest.imports import files
from app.ingest.imports.files import (
    Block,
    FileVersion,
    ImportProgress,
    RejectedFile,
    RejectedLine,
    find_source,
    load_progress,
    read_blocks,
    read_header,
)
from app.ingest.imports.table import InvalidFileError


def test_blocks_hold_whole_lines_when_reads_end_within_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "BLOCK_BYTES", 7)
    data = b"head\nab\r\ncde\n\nfghijklmno\np"
    file = io.BytesIO(data)
    file.seek(5)
    blocks = list(read_blocks(file, 2))
    assert blocks == [
        Block([b"ab"], 2, 9),
        Block([b"cde", b""], 3, 14),
        Block([b"fghijklmno"], 5, 25),
        Block([b"p"], 6, 26),
    ]
    for block in blocks:
        again = io.BytesIO(data)
        again.seek(block.end)
        assert [line for each in read_blocks(again, block.first_line) for line in each.lines] == [
            line for later in blocks[blocks.index(block) + 1 :] for line in later.lines
        ]


def test_file_is_refused_when_a_line_has_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "BLOCK_BYTES", 10)
    monkeypatch.setattr(files, "LINE_BYTES", 20)
    with pytest.raises(InvalidFileError, match="Line 2 is longer than 1 MiB; is the file a CSV"):
        list(read_blocks(io.BytesIO(b"x" * 100), 2))


def test_file_is_refused_when_it_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "empty.csv"
    path.touch()
    with path.open("rb") as file, pytest.raises(InvalidFileError, match="The first line is empty"):
        read_header(file)


def test_progress_is_read_back_when_it_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "readings.progress.json"
    assert load_progress(path) is None
    progress = ImportProgress(FileVersion(10, 5, "ab"), "1 2026", 7, 2, accepted=3)
    progress.save(path)
    assert load_progress(path) == progress
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    for damaged in (b"{", b'{"database":"\xff"}'):
        path.write_bytes(damaged)
        assert load_progress(path) is None


def test_source_differs_when_the_file_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "readings.csv"
    path.write_text("a" * 100_000)
    first = find_source(path)
    assert find_source(path) == first
    path.write_text("b" + "a" * 99_999)
    assert find_source(path) != first


def test_rejected_rows_are_written_once_when_an_import_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "readings.rejected.csv"
    path.write_text("of an earlier import")
    rejected = RejectedFile(path, 0)
    assert not path.exists()
    assert rejected.add([]) == 0
    kept = rejected.add([RejectedLine(2, "time_invalid", 'time is "x"', b'a,"x",t,1')])
    rejected.add([RejectedLine(3, "sensor_invalid", "lost", b"lost")])
    assert RejectedFile(path, kept).add([RejectedLine(3, "reading_invalid", "not UTF-8", b"=1+\xff,t")]) > kept
    assert path.read_text() == (
        "line,code,message,row\n"
        '2,time_invalid,"time is ""x""","a,""x"",t,1"\n'
        '3,reading_invalid,not UTF-8,"\'=1+\\xff,t"\n'
    )
