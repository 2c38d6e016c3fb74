"""Run as a file of its own, by `feedback.code_check`, with the standard library alone: shuts itself in, then runs a program.

Standard input holds a JSON object: ``code``, ``tests``, the limits, and a ``token`` that marks what this file says as its own.
What came of it goes to the file descriptor that is the first argument, in one line: the token, the outcome, and why.
"""

import contextlib
import ctypes
import json
import os
import platform
import resource
import signal
import struct
import sys
import sysconfig
from typing import Any

PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 1, 38, 22, 2
LANDLOCK_CREATE_RULESET, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT_SELF = 444, 445, 446  # the same on every architecture
OLDEST_LANDLOCK = 3
"""Version 3 (Linux 6.2) is the first that keeps files from being cut off."""

READ = 1 << 2 | 1 << 3
"""Kinds of access: files and folders, each a bit."""

OWN = READ | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 14
"""And write files, remove folders and files, make both, cut files off."""

ALL = (1 << 15) - 1
"""What version 3 knows: what is neither `READ` nor `OWN` is for nobody."""


REFUSED = {
    "x86_64": {
        "clone, fork, vfork, clone3, execve, execveat": (56, 57, 58, 435, 59, 322),
        "socket, socketpair, connect, bind, listen, io_uring_setup": (41, 53, 42, 49, 50, 425),
        "kill, tkill, tgkill, rt_sigqueueinfo, rt_tgsigqueueinfo, pidfd_send_signal": (62, 200, 234, 129, 297, 424),
        "ptrace, process_vm_readv, process_vm_writev, pidfd_open, pidfd_getfd": (101, 310, 311, 434, 438),
        "prlimit64, setrlimit, setpriority, ioprio_set, sched_set…": (302, 160, 141, 251, 142, 144, 203, 314),
        "mount, unshare, setns, bpf, perf_event_open, keyctl, add_key, request_key": (165, 272, 308, 321, 298, 250, 248, 249),
        "shm…, sem…, msg…, mq_open, mq_unlink": (29, 30, 31, 64, 65, 66, 68, 69, 70, 71, 240, 241),
        "chmod, chown, utime and their kin, which Landlock lets pass": (90, 91, 268, 452, 92, 93, 94, 260, 280, 132, 235, 261),
        "setxattr, removexattr, for the same reason": (188, 189, 190, 197, 198, 199),
    },
    "aarch64": {
        "clone, clone3, execve, execveat": (220, 435, 221, 281),
        "socket, socketpair, connect, bind, listen, io_uring_setup": (198, 199, 203, 200, 201, 425),
        "kill, tkill, tgkill, rt_sigqueueinfo, rt_tgsigqueueinfo, pidfd_send_signal": (129, 130, 131, 138, 240, 424),
        "ptrace, process_vm_readv, process_vm_writev, pidfd_open, pidfd_getfd": (117, 270, 271, 434, 438),
        "prlimit64, setrlimit, setpriority, ioprio_set, sched_set…": (261, 164, 140, 30, 118, 119, 122, 274),
        "mount, unshare, setns, bpf, perf_event_open, keyctl, add_key, request_key": (40, 97, 268, 280, 241, 219, 217, 218),
        "shm…, sem…, msg…, mq_open, mq_unlink": (194, 195, 196, 190, 191, 193, 186, 187, 188, 189, 180, 181),
        "chmod, chown, utime and their kin, which Landlock lets pass": (52, 53, 452, 54, 55, 88),
        "setxattr, removexattr, for the same reason": (5, 6, 7, 14, 15, 16),
    },
}
"""Calls that fail with EPERM, by their numbers."""

ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


def main() -> None:
    told = int(sys.argv[1])
    job = json.loads(sys.stdin.buffer.read())
    try:
        shut_in(job)
    except (OSError, ValueError) as error:
        os.write(told, f"{job['token']} not_isolated {error}\n".encode())
        return
    outcome = run(job["code"], job["tests"])
    with contextlib.suppress(OSError, ValueError):  # the program may have closed it
        sys.stdout.flush()
    os.write(told, f"{job['token']} {outcome}\n".encode())
    os._exit(0)


def shut_in(job: dict[str, Any]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    _call(libc.prctl, PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    limits = {
        resource.RLIMIT_CPU: job["cpu_s"],
        resource.RLIMIT_AS: job["memory_bytes"],
        resource.RLIMIT_FSIZE: job["file_bytes"],
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_CORE: 0,
    }
    for what, most in limits.items():
        resource.setrlimit(what, (most, most))
    _call(libc.prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _shut_files(libc, os.getcwd())
    _shut_calls(libc)


def _shut_files(libc: ctypes.CDLL, own: str) -> None:
    """Landlock: its own folder to write in, the standard library and shared libraries to read, no other file."""
    version = _call(libc.syscall, LANDLOCK_CREATE_RULESET, None, 0, 1)
    if version < OLDEST_LANDLOCK:
        raise ValueError(f"Landlock of version {version} is too old: Linux 6.2 or newer has version {OLDEST_LANDLOCK}")
    attributes = struct.pack("=Q", ALL)
    ruleset = _call(libc.syscall, LANDLOCK_CREATE_RULESET, attributes, len(attributes), 0)
    paths = {os.path.dirname(os.__file__), sysconfig.get_path("platstdlib"), "/usr/lib", "/lib", "/lib64"}
    for path, access in [*((path, READ) for path in sorted(paths)), (own, OWN)]:
        if os.path.isdir(path):
            folder = os.open(path, os.O_PATH | os.O_DIRECTORY)
            _call(libc.syscall, LANDLOCK_ADD_RULE, ruleset, 1, struct.pack("=Qi", access, folder), 0)
            os.close(folder)
    _call(libc.syscall, LANDLOCK_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def _shut_calls(libc: ctypes.CDLL) -> None:
    """A seccomp filter (classic BPF): the calls listed fail with EPERM, those of another architecture end the process."""
    machine = platform.machine()
    if machine not in REFUSED:
        raise ValueError(f"the system calls of {machine} are not known here")
    refused = [number for numbers in REFUSED[machine].values() for number in numbers]
    program = [(0x20, 0, 0, 4), (0x15, 1, 0, ARCHITECTURE[machine]), (0x06, 0, 0, 0x80000000), (0x20, 0, 0, 0)]
    program += [(0x35, len(refused) + 1, 0, 0x40000000)]  # numbers of x32, which are others for the same calls
    program += [(0x15, len(refused) - place, 0, number) for place, number in enumerate(refused)]
    program += [(0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x00050001)]
    code = b"".join(struct.pack("=HBBI", *line) for line in program)
    held = ctypes.create_string_buffer(code)
    filter_ = struct.pack("HP", len(program), ctypes.addressof(held))
    _call(libc.prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.c_char_p(filter_), 0, 0)


def _call(function: object, *arguments: object) -> int:
    result = function(*(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments))  # type: ignore[operator]
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(result)


def run(code: str, tests: str) -> str:
    """``passed``, or ``failed`` or ``memory`` and why in one line."""
    names: dict[str, Any] = {"__name__": "answer"}
    try:
        exec(compile(code, "answer.py", "exec"), names)
        exec(compile(tests, "tests.py", "exec"), names)
        for name, test in list(names.items()):
            if name.startswith("test_") and callable(test):
                test()
    except MemoryError:
        return "memory MemoryError"
    except SystemExit:
        return "failed the program ended itself"
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the verdict
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return f"failed {text[:500]}"
    return "passed"


if __name__ == "__main__":
    main()
