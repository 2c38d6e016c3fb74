"""Resident memory and CPU time of a process and of all its descendants, from ``/proc`` (Linux)."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1e6
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_SAMPLE_S = 0.2


def resident_mb(pid: int) -> float:
    """Megabytes (10^6) of the process and its descendants; 0 where there is no ``/proc``."""
    return sum(each_mb(pid))


def each_mb(pid: int) -> list[float]:
    """The same of each of them."""
    return [_own_mb(each) for each in family(pid)]


def cpu_s(pid: int) -> float:
    """Seconds of CPU time that the process and its living descendants have used so far; 0 where there is no ``/proc``."""
    return sum(_own_cpu_s(each) for each in family(pid))


def family(pid: int) -> list[int]:
    """The process and its descendants."""
    found = [pid]
    for each in found:  # grows while it is read
        for file in Path(f"/proc/{each}/task").glob("*/children"):
            try:
                found += [int(child) for child in file.read_text().split()]
            except OSError:
                continue
    return found


def _own_mb(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_MB
    except OSError:
        return 0.0


def _own_cpu_s(pid: int) -> float:
    """Fields 14 and 15 of proc_pid_stat(5): user and system time; the name before them may hold blanks."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) * _TICK_S


class Highest:
    """The most there was, of what was sampled."""

    mb = 0.0


@contextmanager
def watched(pid: int) -> Iterator[Highest]:
    """Samples a process family's memory while the block runs."""
    highest, over = Highest(), threading.Event()

    def sample() -> None:
        while not over.wait(_SAMPLE_S):
            highest.mb = max(highest.mb, resident_mb(pid))

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield highest
    finally:
        over.set()
        sampler.join()
        highest.mb = max(highest.mb, resident_mb(pid))
