"""Fetching from a small archive made by the test, with the real apt and dpkg; its programs are shell scripts."""

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from app.db.embedded import debian

pytestmark = pytest.mark.skipif(
    shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None, reason="needs apt-get and dpkg-deb"
)

BIN = "usr/lib/postgresql/17/bin"
#: Takes the place of the loader: prints the folder of libraries and the program's argv[0], then runs the program.
LOADER = '#!/bin/sh\n(cd "$2" && pwd)\necho "$4"\nshift 4\nexec "$@"\n'
#: Package: its dependencies, a file in it, the file's text.
PACKAGES = {
    "postgresql-17": ("libc6, libllvm19, liburi-perl, perl", f"{BIN}/postgres", '#!/bin/sh\necho "got $*"\n'),
    "postgresql-17-timescaledb": ("postgresql-17", "usr/lib/postgresql/17/lib/timescaledb.so", "module"),
    "libc6": ("", "usr/lib/triplet/ld-linux.so.2", LOADER),
    "libllvm19": ("", "usr/lib/llvm", "large"),
    "liburi-perl": ("", "usr/share/perl5/URI.pm", "unused"),
    "perl": ("", "usr/bin/perl", "unused"),
}


@pytest.fixture
def apt_folder(tmp_path: Path) -> Path:
    """An apt folder whose source is an archive with the packages, but names an older release."""
    _make_archive(tmp_path / "archive")
    folder = tmp_path / "apt"
    folder.mkdir()
    (folder / "sources.list").write_text(f"deb [trusted=yes] copy:{tmp_path}/archive bookworm main\n")
    return folder


@pytest.fixture
def target(tmp_path: Path) -> Path:
    cache = tmp_path / "a cache"
    cache.mkdir()
    return cache / "postgresql-17"


def test_fetched_programs_run_through_their_loader_when_called(apt_folder: Path, target: Path) -> None:
    debian.fetch(target, lambda _: None, apt_folder)

    program = target / BIN / "postgres"
    ran = subprocess.run([program, "--flag", "two words"], capture_output=True, text=True, check=True)
    assert ran.stdout == f"{target}/usr/lib/triplet\n{program}\ngot --flag two words\n"


def test_fetched_programs_run_when_their_folder_was_moved(apt_folder: Path, target: Path, tmp_path: Path) -> None:
    debian.fetch(target, lambda _: None, apt_folder)
    moved = target.rename(tmp_path / "moved")

    ran = subprocess.run([moved / BIN / "postgres"], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[0] == f"{moved}/usr/lib/triplet"


def test_fetch_leaves_out_packages_when_the_server_never_loads_them(apt_folder: Path, target: Path) -> None:
    debian.fetch(target, lambda _: None, apt_folder)

    files = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    assert files == {
        f"{BIN}/postgres",
        f"{BIN}/.postgres",
        "usr/lib/postgresql/17/lib/timescaledb.so",
        "usr/lib/triplet/ld-linux.so.2",
    }


def test_fetch_says_the_source_and_the_target_when_called(apt_folder: Path, target: Path) -> None:
    said: list[str] = []
    debian.fetch(target, said.append, apt_folder)

    assert len(said) == 3
    assert said[0].startswith("Fetching PostgreSQL 17 with TimescaleDB from copy:")
    assert str(target) in said[2]


def test_fetch_leaves_nothing_when_the_archive_lacks_the_package(
    apt_folder: Path, target: Path, tmp_path: Path
) -> None:
    shutil.rmtree(tmp_path / "archive/dists")

    with pytest.raises(debian.FetchError, match=r"apt-get found no postgresql-17-timescaledb: .*Unable to locate"):
        debian.fetch(target, lambda _: None, apt_folder)
    assert list(target.parent.iterdir()) == []


def test_fetch_refuses_a_package_when_it_differs_from_the_index(apt_folder: Path, target: Path, tmp_path: Path) -> None:
    package = tmp_path / "archive/postgresql-17_1_all.deb"
    content = package.read_bytes()
    package.write_bytes(content[:-1] + b"x")

    with pytest.raises(debian.FetchError, match="Hash Sum mismatch"):
        debian.fetch(target, lambda _: None, apt_folder)
    assert list(target.parent.iterdir()) == []


def test_fetch_refuses_an_archive_when_it_is_not_signed(apt_folder: Path, target: Path, tmp_path: Path) -> None:
    (apt_folder / "sources.list").write_text(f"deb copy:{tmp_path}/archive bookworm main\n")

    with pytest.raises(debian.FetchError, match="is not signed"):
        debian.fetch(target, lambda _: None, apt_folder)


def test_fetch_deletes_the_rest_of_an_interrupted_fetch_when_called(apt_folder: Path, target: Path) -> None:
    (target.parent / ".fetch-abc").mkdir()
    debian.fetch(target, lambda _: None, apt_folder)

    assert list(target.parent.iterdir()) == [target]


def test_fetch_names_the_reason_when_apt_has_no_debian_archive(tmp_path: Path, target: Path) -> None:
    with pytest.raises(debian.FetchError, match="names no Debian archive"):
        debian.fetch(target, lambda _: None, tmp_path / "missing")


def _make_archive(archive: Path) -> None:
    architecture = subprocess.check_output(["dpkg", "--print-architecture"], text=True).strip()
    suite = archive / "dists/trixie"
    index = suite / f"main/binary-{architecture}/Packages"
    index.parent.mkdir(parents=True)
    index.write_text("\n".join(_make_package(archive, name) for name in PACKAGES))
    content = index.read_bytes()
    (suite / "Release").write_text(
        f"Codename: trixie\nSuite: stable\nComponents: main\nArchitectures: {architecture}\nSHA256:\n"
        f" {hashlib.sha256(content).hexdigest()} {len(content)} {index.relative_to(suite)}\n"
    )


def _make_package(archive: Path, name: str) -> str:
    """Build a package and return its stanza in the index."""
    depends, path, text = PACKAGES[name]
    control = f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: us\nDescription: test\n"
    control += f"Depends: {depends}\n" if depends else ""
    tree = archive / "build" / name
    file = tree / path
    file.parent.mkdir(parents=True)
    file.write_text(text)
    file.chmod(0o755)
    (tree / "DEBIAN").mkdir(mode=0o755)
    (tree / "DEBIAN/control").write_text(control)
    package = archive / f"{name}_1_all.deb"
    subprocess.run(["dpkg-deb", "--build", "-Znone", tree, package], check=True, capture_output=True)
    content = package.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return f"{control}Filename: {package.name}\nSize: {len(content)}\nSHA256: {digest}\n"
