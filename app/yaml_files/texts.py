"""Reading of a file's text."""

from pathlib import Path

from app.yaml_files.problems import Place, ProblemLog

#: The largest file that is read. A rule takes about 500 bytes; parsing a megabyte takes seconds.
LARGEST_BYTES = 1_000_000


def read_text(file: Path, log: ProblemLog) -> str | None:
    """Return a file's text, decoded as UTF-8; when it cannot be read, log why and return None."""
    place = Place(str(file))
    try:
        # Only a regular file is opened: opening a pipe could wait for ever.
        content = file.read_bytes() if file.is_file() and file.stat().st_size <= LARGEST_BYTES else None
    except OSError as error:
        log.add(place, f"this file cannot be read: {fault_of(error)}")
        return None
    if content is None:
        log.add(place, f"this is not a file of at most {LARGEST_BYTES:,} bytes")
        return None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
        log.add(Place(str(file), before.count(b"\n") + 1, column), "this is not UTF-8 text; save the file as UTF-8")
        return None


def fault_of(error: Exception) -> str:
    """Return why a file or folder cannot be read, without its path."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
