"""Starts a server program so that it ends when the process that started it ends.

The program is started by this file, run as a script, because code between fork and exec is unsafe in a process
with threads, and because the signal must be asked for after the change of user, which forgets it. The script
starts with the caller's rights, as another user may be unable to read it or to run Python, and so imports
nothing of ours.
"""

import ctypes
import os
import signal
import sys
from typing import NamedTuple

_PR_SET_PDEATHSIG = 1


class Account(NamedTuple):
    """A user that a program runs as."""

    uid: int
    gid: int


def launch_command(death_signal: str, account: Account | None, *command: str) -> list[str]:
    """Write the command that becomes `command`, as `account` if given.

    It gets the signal when the thread that starts it ends: that is how Linux counts the death of a parent.
    """
    uid, gid = account or ("", "")
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), death_signal, str(uid), str(gid), *command]


def launch(parent: str, death_signal: str, uid: str, gid: str, *command: str) -> None:
    """Replace this process by the command; it never returns."""
    if uid:
        os.setgroups([])
        os.setgid(int(gid))
        os.setuid(int(uid))
    os.umask(0o077)
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(_PR_SET_PDEATHSIG, int(signal.Signals[death_signal]), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != int(parent):
        sys.exit("the process that started this one has ended meanwhile")
    # Variables such as LD_LIBRARY_PATH, LD_PRELOAD and PGPORT must not reach the server.
    os.execve(command[0], command, {"PATH": os.defpath, "LC_ALL": "C"})  # noqa: S606


if __name__ == "__main__":
    launch(*sys.argv[1:])
