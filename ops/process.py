"""What processes have to do with each other, as the kernel sees it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def module(name: str, *arguments: str) -> list[str]:
    """The command that runs one of our modules with this interpreter, whatever folders of such names lie around here."""
    return [sys.executable, "-P", "-m", name, *arguments]


def die_with_parent(number: signal.Signals = signal.SIGTERM) -> None:
    """Have the kernel send this process a signal when its parent dies (Linux; elsewhere it outlives it).

    For a child between fork and exec: nothing but one system call.
    """
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)


def as_child() -> None:
    """For a child whose parent blocks signals: signals as usual; and should the parent be killed, the kernel kills it too."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    die_with_parent(signal.SIGKILL)


def is_alive(pid: int) -> bool:
    """Whether there is a process of this id, anybody's."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
