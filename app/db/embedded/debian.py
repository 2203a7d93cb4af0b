"""PostgreSQL with TimescaleDB from the Debian archive: downloaded and unpacked into a folder, not installed.

The programs come with their own C library and run through its loader, so that they run on older hosts, too.
"""

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import urlsplit

from app.db.embedded import apt_sources

MAJOR = 17
_RELEASE = "trixie"
_PACKAGES = ("postgresql-17", "postgresql-17-timescaledb")
#: Of all dependencies, only the programs and libraries that the server loads: not LLVM and Z3 (26 and 9 MB, needed for
#: JIT compilation only), not Perl (needed by Debian's scripts only), not the packages that set up a whole system.
_NEEDED = re.compile(r"postgresql-(client-)?17|postgresql-17-timescaledb|lib(?!llvm|z3|perl)(?!.*-perl$).*")
#: Deleted after unpacking: useless without LLVM, or never read by a server. They are half of the size on disk.
_UNUSED = ("usr/lib/postgresql/17/lib/bitcode", "usr/share/doc", "usr/share/locale", "usr/share/man")
_BIN = Path("usr/lib/postgresql/17/bin")
#: The options kept from the machine's apt configuration: how to reach archives, and the processor architecture. Its
#: hooks, pins and default release are left out, because they are not meant for another release.
_KEPT_CONFIGURATION = re.compile(r"(Acquire::(?!IndexTargets|Languages)|APT::(Architecture|Sandbox))")
_TIMEOUT_S = 600

Say = Callable[[str], None]


class FetchError(Exception):
    """The archive cannot be used here, or apt failed; the message says why."""


def fetch(target: Path, say: Say, apt_folder: Path = Path("/etc/apt")) -> None:
    """Create the folder `target` with the programs, completely or not at all; raise FetchError.

    `target` must not exist, and the caller must keep other processes from fetching to it at the same time.
    """
    sources = _debian_sources(apt_folder)
    for leftover in target.parent.glob(".fetch-*"):
        shutil.rmtree(leftover)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=target.parent, ignore_cleanup_errors=True) as work:
        # When root runs apt, it downloads as another user, who must be able to enter the folder.
        Path(work).chmod(0o755)
        started = time.monotonic()
        size_mb = _download(Path(work), sources, say)
        say(f"Unpacking {size_mb} MB ...")
        root = _unpack(Path(work))
        root.rename(target)
    say(f"PostgreSQL with TimescaleDB is in {target} ({time.monotonic() - started:.0f} s).")


def _debian_sources(apt_folder: Path) -> list[apt_sources.AptSource]:
    for program in ("apt-get", "apt-config", "dpkg-deb"):
        if shutil.which(program) is None:
            raise FetchError(f"this machine has no {program}")
    sources = apt_sources.retarget(apt_sources.read_sources(apt_folder), _RELEASE)
    if not any(_RELEASE in source.suites for source in sources):
        raise FetchError(f"the apt configuration in {apt_folder} names no Debian archive")
    return sources


def _download(work: Path, sources: list[apt_sources.AptSource], say: Say) -> int:
    """Download the packages to `work/debs`, checked by apt against the archive's signature; return their MB."""
    hosts = ", ".join(dict.fromkeys(urlsplit(uri).netloc or uri for source in sources for uri in source.uris))
    say(f"Fetching PostgreSQL {MAJOR} with TimescaleDB from {hosts} (Debian {_RELEASE}), about 50 MB, once ...")
    environment = _configure_apt(work, sources)
    debs = work / "debs"
    debs.mkdir()
    # An archive without the suite fails the update. What counts is whether the packages are found afterwards.
    updated = _run(["apt-get", "-qq", "update"], work, environment)
    planned = _run(
        ["apt-get", "-qq", "-y", "--no-install-recommends", "--print-uris", "install", *_PACKAGES],
        work,
        environment,
    )
    if planned.returncode != 0:
        raise FetchError(f"apt-get found no {_PACKAGES[1]}: {_last_lines(updated.stderr + planned.stderr)}")
    downloaded = _run(["apt-get", "-qq", "download", *_needed(planned.stdout)], debs, environment)
    if downloaded.returncode != 0:
        raise FetchError(f"apt-get download failed: {_last_lines(downloaded.stderr)}")
    return round(sum(deb.stat().st_size for deb in debs.iterdir()) / 1e6)


def _configure_apt(work: Path, sources: list[apt_sources.AptSource]) -> dict[str, str]:
    """Write a private configuration and state of apt to `work`; return the environment that makes apt use them."""
    dump = _run(["apt-config", "dump"], work, dict(os.environ)).stdout
    kept = [line for line in dump.splitlines() if _KEPT_CONFIGURATION.match(line)]
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (work / folder).mkdir(parents=True)
    (work / "status").touch()
    (work / "debian.sources").write_text(apt_sources.render(sources), encoding="utf-8")
    own = {
        "Dir::Etc::main": "/dev/null",
        "Dir::Etc::parts": "/dev/null",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::sourcelist": str(work / "debian.sources"),
        "Dir::State": str(work / "state"),
        "Dir::State::status": str(work / "status"),
        "Dir::Cache": str(work / "cache"),
        "Acquire::Languages": "none",
        "Acquire::Retries": "2",
        "Acquire::http::Timeout": "20",
        "Acquire::https::Timeout": "20",
    }
    lines = [*kept, *(f'{name} "{value}";' for name, value in own.items())]
    (work / "apt.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {**os.environ, "APT_CONFIG": str(work / "apt.conf"), "LC_ALL": "C"}


def _needed(print_uris: str) -> list[str]:
    """Return the names of the needed packages from lines `'http://…' name_version_arch.deb size hash`."""
    files = (line.split()[1] for line in print_uris.splitlines() if line.startswith("'"))
    names = (file.partition("_")[0] for file in files)
    return [name for name in names if _NEEDED.fullmatch(name)]


def _unpack(work: Path) -> Path:
    root = work / "root"
    root.mkdir()
    root.chmod(0o755)
    for deb in sorted((work / "debs").iterdir()):
        unpacked = _run(["dpkg-deb", "--extract", str(deb), str(root)], work, dict(os.environ))
        if unpacked.returncode != 0:
            raise FetchError(f"dpkg-deb could not unpack {deb.name}: {_last_lines(unpacked.stderr)}")
    for folder in _UNUSED:
        shutil.rmtree(root / folder, ignore_errors=True)
    (root / "usr/lib/postgresql/17/lib/llvmjit.so").unlink(missing_ok=True)
    _wrap(root)
    return root


def _wrap(root: Path) -> None:
    """Replace each program by a script that runs the program through the loader of the packages.

    PostgreSQL's programs find each other, their libraries and shared files by the path in argv[0], so argv[0] names
    the script. The script uses paths relative to itself, so that the folder may be moved.
    """
    loader = next(iter(sorted(root.glob("usr/lib/*/ld*.so.*"))), None)
    if loader is None:
        raise FetchError("the packages brought no program loader")
    libraries = loader.parent.relative_to(root)
    for program in (root / _BIN).iterdir():
        program.rename(program.with_name(f".{program.name}"))
        program.write_text(_script(Path("/".join([".."] * len(_BIN.parts))), libraries, loader.name))
        program.chmod(0o755)


def _script(up: Path, libraries: Path, loader: str) -> str:
    return (
        "#!/bin/sh\n"
        "bin=${0%/*}\n"
        f'lib="$bin/{up}/{libraries}"\n'
        f'exec "$lib/{loader}" --library-path "$lib" --argv0 "$0" "$bin/.${{0##*/}}" "$@"\n'
    )


def _run(command: Iterable[str], folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(  # noqa: S603
            list(command),
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise FetchError(f"{' '.join(error.cmd[:3])} took longer than {_TIMEOUT_S} s") from None


def _last_lines(text: str) -> str:
    """Return the lines that apt marks as errors, or else the last lines of a program's output."""
    lines = [line for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("E:")]
    return " / ".join(errors[-5:] or lines[-5:]) or "it gave no reason"
