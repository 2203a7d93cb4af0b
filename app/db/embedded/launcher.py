"""The launcher of a server program that ends when the process that started it ends.

The program is started through this file, run as a script, for two reasons: code between fork and exec is unsafe in a
process with threads, and the signal must be requested after the change of user, which cancels such a request. The
script starts with the caller's rights, because another user may be unable to read it or to run Python. It imports
nothing but the standard library.
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
    """Return the command line that starts `command`, as `account` if given.

    The program receives the signal when the thread that started it ends: to Linux, that is the end of the parent.
    """
    uid, gid = account or ("", "")
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), death_signal, str(uid), str(gid), *command]


def launch(parent: str, death_signal: str, uid: str, gid: str, *command: str) -> None:
    """Replace this process by the command; never return."""
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
