"""The PostgreSQL programs of the embedded server: installed ones, a private copy, or fetched ones."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from app.db.embedded import debian
from app.db.embedded.debian import Say
from app.errors import AppError

#: The folder of programs and data when root runs the server: it runs as another user, who cannot enter root's home.
SYSTEM_FOLDER = Path("/var/lib/tidegauge")


class EmbeddedServerError(AppError):
    """The embedded server is not available or does not start; the message says what was tried and what to do."""

    code = "embedded_server"
    title = "The embedded database cannot run"


class Programs(msgspec.Struct, frozen=True):
    """The programs of one PostgreSQL that has the extension TimescaleDB."""

    bin: Path
    major: int

    def path(self, name: str) -> str:
        """Return the full path of one of the programs."""
        return str(self.bin / name)


def ensure_programs(
    say: Say, *, major: int | None = None, cache: Path | None = None, root: Path = Path("/")
) -> Programs:
    """Find or fetch the programs, of one major version if `major` is given; raise EmbeddedServerError.

    `cache` is the folder of the private copy, by default that of the user. Installed programs are sought below `root`.
    """
    if sys.platform != "linux":
        raise _refusal(f"the embedded server runs on Linux only, and this is {sys.platform}")
    private = (cache or cache_folder()) / f"postgresql-{debian.MAJOR}"
    for programs in (*installed_programs(root), *_private_copy(private)):
        if major in (None, programs.major):
            return programs
    if major not in (None, debian.MAJOR):
        raise _refusal(
            f"the data were written by PostgreSQL {major}, and no PostgreSQL {major} with TimescaleDB is installed"
        )
    return _fetch(private, say)


def cache_folder() -> Path:
    """Return the folder for private copies; the one for root is readable by the user that the server runs as."""
    if os.geteuid() == 0:
        return SYSTEM_FOLDER
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "tidegauge"


def make_open_folder(folder: Path) -> None:
    """Make a folder and its parents so that all users may enter them, whatever the umask."""
    if not folder.is_dir():
        make_open_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)


def installed_programs(root: Path = Path("/")) -> list[Programs]:
    """List the installed versions of PostgreSQL that have TimescaleDB, newest first."""
    with_extension = (folder for folder, share, lib in _installations(root) if _has_timescaledb(share, lib))
    found = [Programs(folder, _major(folder)) for folder in dict.fromkeys(with_extension)]
    return sorted((each for each in found if each.major), key=lambda each: each.major, reverse=True)


def _installations(root: Path) -> Iterator[tuple[Path, Path, Path]]:
    """Yield the folders of each installed PostgreSQL: (programs, shared files, modules)."""
    for folder in root.glob("usr/lib/postgresql/*/bin"):  # Debian and its family
        yield folder, root / "usr/share/postgresql" / folder.parent.name, folder.parent / "lib"
    for folder in root.glob("usr/pgsql-*/bin"):  # Red Hat's family
        yield folder, folder.parent / "share", folder.parent / "lib"
    if pg_config := shutil.which("pg_config"):
        answers = (_answer(pg_config, option) for option in ("--bindir", "--sharedir", "--pkglibdir"))
        folder, share, lib = (root / answer for answer in answers)
        yield folder, share, lib


def _has_timescaledb(share: Path, lib: Path) -> bool:
    return (share / "extension/timescaledb.control").is_file() and (lib / "timescaledb.so").is_file()


def _major(folder: Path) -> int:
    """Return the major version from `postgres (PostgreSQL) 17.5 (…)`, or 0 if the programs do not work."""
    match = re.search(r"\(PostgreSQL\) (\d+)", _answer(str(folder / "postgres"), "--version"))
    return int(match[1]) if match and (folder / "initdb").is_file() else 0


def _answer(program: str, option: str) -> str:
    try:
        ran = subprocess.run([program, option], capture_output=True, text=True, timeout=10, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ran.stdout.strip()


def _private_copy(folder: Path) -> list[Programs]:
    programs = folder / "usr/lib/postgresql" / str(debian.MAJOR) / "bin"
    return [Programs(programs, debian.MAJOR)] if programs.is_dir() else []


def _fetch(folder: Path, say: Say) -> Programs:
    """Fetch the private copy, unless another process has done so while this one waited for the lock."""
    try:
        make_open_folder(folder.parent)
        with _locked(folder.parent / "lock", say):
            if not folder.exists():
                debian.fetch(folder, say)
    except (debian.FetchError, OSError) as error:
        raise _refusal(
            "no installed PostgreSQL has TimescaleDB (looked in /usr/lib/postgresql, /usr/pgsql-* and pg_config on "
            f"PATH), and none could be fetched into {folder}: {error}"
        ) from None
    return _private_copy(folder)[0]


@contextmanager
def _locked(path: Path, say: Say) -> Iterator[None]:
    """Hold a file lock during the block; the lock also ends when the process ends."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Waiting for another process that is fetching PostgreSQL ...")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _refusal(reason: str) -> EmbeddedServerError:
    return EmbeddedServerError(
        f"There is no database to run on: DATABASE_URL is not set, and {reason}. Either run `docker compose up`, "
        "which brings TimescaleDB along, or set DATABASE_URL=postgresql://user:password@host:5432/name to a "
        "TimescaleDB that runs already."
    )
