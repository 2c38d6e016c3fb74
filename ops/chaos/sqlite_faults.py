"""Faults under SQLite: every write, sync and truncation of its files passes through here, and one of them goes wrong.

A VFS of ours (https://sqlite.org/vfs.html) stands in front of the system's as this process's default, so that whoever opens
a database here is given it without knowing. It is for a process that ends afterwards: it cannot be taken away again. A sync
only notes what a power cut leaves: the system would do nothing else that a reader of the file could tell.
"""

from __future__ import annotations

import _sqlite3
import ctypes
import os
import signal
from ctypes import POINTER, c_char_p, c_int, c_int64, c_void_p
from dataclasses import dataclass, field
from typing import Any, Literal

from ops.chaos.scenario import NotRun

Action = Literal["full", "error", "killed", "torn", "power cut"]
"""``full``: no room. ``error``: the disk fails. ``killed``: SIGKILL before it. ``torn``: half of it is written, then SIGKILL.
``power cut``: SIGKILL, and of what was written since each file's last sync nothing is there."""

ACTIONS: tuple[Action, ...] = ("full", "error", "killed", "torn", "power cut")

_LASTS = 5
"""How many steps in a row there is no room for."""

_OK, _FULL = 0, 13
_WRITE, _SYNC, _TRUNCATE = 778, 1034, 1546
"""SQLITE_IOERR_WRITE, _FSYNC, _TRUNCATE: https://sqlite.org/rescode.html"""


def sqlite() -> ctypes.CDLL:
    """The library that this Python's module is linked with. Raises `NotRun` where it is out of reach."""
    library = ctypes.CDLL(_sqlite3.__file__)
    if not hasattr(library, "sqlite3_vfs_register"):
        raise NotRun("this Python's sqlite3 module does not give its library's functions away")
    return library


class _Vfs(ctypes.Structure):
    """struct sqlite3_vfs, up to its version 3."""

    _fields_ = [
        ("version", c_int),
        ("file_size", c_int),
        ("longest_path", c_int),
        ("next", c_void_p),
        ("name", c_char_p),
        ("app_data", c_void_p),
        ("open", c_void_p),
        ("others", c_void_p * 15),
    ]


class _Methods(ctypes.Structure):
    """struct sqlite3_io_methods, up to its version 3."""

    _fields_ = [
        ("version", c_int),
        ("close", c_void_p),
        ("read", c_void_p),
        ("write", c_void_p),
        ("truncate", c_void_p),
        ("sync", c_void_p),
        ("others", c_void_p * 13),
    ]


_Open = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, POINTER(c_int))
_Write = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_Truncate = ctypes.CFUNCTYPE(c_int, c_void_p, c_int64)
_Sync = ctypes.CFUNCTYPE(c_int, c_void_p, c_int)


@dataclass
class _File:
    """``descriptor`` is never closed: to close any one of a file gives up all of the process's locks on it (fcntl(2))."""

    descriptor: int
    before: list[tuple[int, bytes, int]] = field(default_factory=list)
    """What each write since the last sync has replaced: place, bytes, and the file's size."""


class Faults:
    """Lets step number ``at`` go wrong (1 is the first); with ``at`` 0 it only counts ``steps``."""

    def __init__(self, action: Action, at: int) -> None:
        self.steps, self.at = 0, at
        self._action = action
        self._files: dict[int, _File] = {}
        self._made: dict[int, _Methods] = {}
        library = sqlite()
        library.sqlite3_vfs_find.restype = POINTER(_Vfs)
        self._system = library.sqlite3_vfs_find(None)
        self._open = _Open(self._system.contents.open)
        self._ours = _Vfs.from_buffer_copy(self._system.contents)
        self._ours.name = b"faults"
        self._callbacks: list[Any] = [_Open(self._opened)]
        self._ours.open = ctypes.cast(self._callbacks[0], c_void_p)
        library.sqlite3_vfs_register(ctypes.byref(self._ours), 1)

    def _opened(self, vfs: int, name: int, file: int, flags: int, out: Any) -> int:
        result: int = self._open(ctypes.addressof(self._system.contents), name, file, flags, out)
        methods = c_void_p.from_address(file)
        if result == _OK and methods.value is not None and name:
            path = ctypes.string_at(name)
            self._files[file] = _File(os.open(path, os.O_RDWR))
            methods.value = ctypes.addressof(self._methods(methods.value))
        return result

    def _methods(self, original: int) -> _Methods:
        """The system's way to do things with a file, but for three of them."""
        if original not in self._made:
            made = _Methods.from_buffer_copy(_Methods.from_address(original))
            write, truncate = _Write(made.write), _Truncate(made.truncate)

            def on_write(file: int, data: int, size: int, place: int) -> int:
                if self._now():
                    if self._action == "torn":
                        write(file, data, size // 2, place)
                    return self._fail(_WRITE)
                self._remember(file, place, size)
                result: int = write(file, data, size, place)
                return result

            def on_truncate(file: int, size: int) -> int:
                if self._now():
                    return self._fail(_TRUNCATE)
                self._remember(file, size, 1 << 30)
                result: int = truncate(file, size)
                return result

            def on_sync(file: int, flags: int) -> int:
                if self._now():
                    return self._fail(_SYNC)
                self._files[file].before.clear()
                return _OK

            ours = [_Write(on_write), _Truncate(on_truncate), _Sync(on_sync)]
            self._callbacks += [*ours, write, truncate]
            made.write, made.truncate, made.sync = (ctypes.cast(each, c_void_p).value for each in ours)
            self._made[original] = made
        return self._made[original]

    def _now(self) -> bool:
        self.steps += 1
        return self.at <= self.steps < self.at + (_LASTS if self._action == "full" else 1) if self.at else False

    def _remember(self, file: int, place: int, size: int) -> None:
        known = self._files[file]
        known.before.append((place, os.pread(known.descriptor, size, place), os.fstat(known.descriptor).st_size))

    def _fail(self, error: int) -> int:
        if self._action == "full":
            return _FULL if error == _WRITE else error
        if self._action == "error":
            return error
        if self._action == "power cut":
            for known in self._files.values():
                for place, data, size in reversed(known.before):
                    os.pwrite(known.descriptor, data, place)
                    os.truncate(known.descriptor, size)
        os.kill(os.getpid(), signal.SIGKILL)
        return error
