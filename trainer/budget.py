"""What the trainer's process may use of the machine, beside people who are waiting for answers."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from ops.errors import CommandError
from ops.settings import TrainSettings

_AUTOGROUP = Path("/proc/self/autogroup")
_MB = 1024 * 1024

_REFUSED = ("can't allocate memory", "bad_alloc", "can't start new thread")
"""What PyTorch's allocator, C++ and Python say, in a RuntimeError."""


def keep_to(train: TrainSettings) -> None:
    """From now on, this process and the threads that it starts. Raises `CommandError` for a budget that cannot be kept."""
    _step_back(train.nice)
    if train.threads is not None:
        torch.set_num_threads(train.threads)
    if train.memory_mb is not None:
        _limit_memory(train.memory_mb)


def _step_back(nice: int) -> None:
    """Linux shares a CPU among sessions first, and among a session's processes then (sched(7), autogroup): a process that has a
    session of its own, as the supervisor's children have, is as nice as its session is.
    """
    os.nice(nice)
    if os.getsid(0) == os.getpid():
        with suppress(OSError):  # there are no autogroups here
            _AUTOGROUP.write_text(str(nice))


def _limit_memory(megabytes: int) -> None:
    """Of what the process writes to: heap, stacks, tensors; mapped files are not counted (RLIMIT_DATA)."""
    if sys.platform != "linux":
        raise CommandError(f"train.memory_mb={megabytes}: only Linux keeps to it. Unset PLAUDIT_TRAIN__MEMORY_MB")
    taken = taken_mb()
    if megabytes <= taken:
        wrong = f"train.memory_mb={megabytes}: the process takes {taken} MB before it begins"
        raise CommandError(f"{wrong}. Set PLAUDIT_TRAIN__MEMORY_MB to twice that or more, or to none")
    resource.setrlimit(resource.RLIMIT_DATA, (megabytes * _MB, resource.getrlimit(resource.RLIMIT_DATA)[1]))


@contextmanager
def unlimited_memory() -> Iterator[None]:
    """Without the budget: to say that it is spent takes some memory too."""
    limits = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (limits[1], limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, limits)


def is_shortage(error: Exception) -> bool:
    """Whether it was raised because there is no memory, of this machine or of its GPU."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(said in str(error) for said in _REFUSED)


def taken_mb() -> int:
    """What counts towards the budget."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmData:")) // 1024
