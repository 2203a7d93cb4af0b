"""Pinned packages from npm, installed beside the package.json that names them; for tests only."""

import fcntl
import shutil
import subprocess
from pathlib import Path

import pytest

INSTALL_TIMEOUT_S = 100


def install(folder: Path) -> None:
    """Install the packages of a folder unless they are installed; parallel test workers wait for the first one."""
    installed = folder / "node_modules" / ".installed.json"
    with (folder / "package-lock.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        pinned = lock.read()
        if not installed.exists() or installed.read_text() != pinned:
            _run_npm(folder)
            installed.write_text(pinned)


def program(name: str) -> str:
    """Return the path of node or npm; fail the test where it is missing."""
    path = shutil.which(name)
    if path is None:
        pytest.fail(f"{name} not found: these tests need Node.js 20 or newer", pytrace=False)
    return path


def _run_npm(folder: Path) -> None:
    command = [program("npm"), "ci", "--ignore-scripts", "--omit=dev"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        pytest.fail(f"npm ci in {folder} took more than {INSTALL_TIMEOUT_S} s", pytrace=False)
    if done.returncode:
        pytest.fail(f"npm ci failed in {folder}:\n{done.stderr[-2000:]}", pytrace=False)
