"""The keys that receipts are sealed with: newest first, in a file of the data folder that every gateway on it follows.

Until the first rotation there is no file, and one key, derived from the data folder's secret. Rotating puts a new random
key in front; the ones behind it still open receipts, until the last receipt they can have sealed has expired.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from pathlib import Path

import structlog
from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ops.errors import SettingsError
from ops.secrets import load_secret, subkey
from ops.settings import Settings
from ops.whole_files import whole_file

_LOOK_S = 1.0
"""How long the keys are believed without a look at the file."""

_STILL_SEALING_S = 3600.0
"""How long a retired key may have gone on sealing, where a gateway could not read the file."""

_LOCK_TIMEOUT_S = 10.0
_BYTES = 32

_logger = structlog.get_logger(__name__)


class _Entry(BaseModel):
    """``key`` is in hexadecimal; None: the one derived from the data folder's secret. ``since`` is in Unix seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str | None = Field(default=None, pattern=f"^[0-9a-f]{{{2 * _BYTES}}}$")
    since: float = 0.0


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: tuple[_Entry, ...] = Field(min_length=1)


_FIRST = _File(keys=(_Entry(),))


class ReceiptKeys:
    """The file at ``path``; ``derived`` is the key that needs none. Any number of processes may read and rotate at once."""

    def __init__(self, path: Path, derived: bytes, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._derived, self._clock = path, derived, clock
        self._seen = self._state()
        self._keys = self._secrets(_read(path))
        self._looked = clock()

    @classmethod
    def of(cls, settings: Settings) -> ReceiptKeys:
        """The data folder's. Raises `SettingsError` for a file that cannot be read."""
        return cls(settings.data_dir / "receipt_keys.json", subkey(load_secret(settings), "receipts"))

    def newest_first(self, *, at_once: bool = False) -> tuple[bytes, ...]:
        """The keys as of a second ago; ``at_once``: as of now. The same tuple until they change."""
        now = self._clock()
        if at_once or now - self._looked >= _LOOK_S:
            self._looked = now
            self._look()
        return self._keys

    def rotate(self, receipt_days: float, now: float) -> int:
        """Put a new key in front, drop those that no living receipt needs, and return how many older ones are left."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self._path}.lock", timeout=_LOCK_TIMEOUT_S):
            before = _read(self._path).keys
            retired_since = [now, *(entry.since for entry in before)]
            oldest = now - receipt_days * 86_400 - _STILL_SEALING_S
            kept = [entry for entry, retired in zip(before, retired_since, strict=False) if retired > oldest]
            _write(self._path, _File(keys=(_Entry(key=secrets.token_hex(_BYTES), since=now), *kept)))
        self._look()
        return len(kept)

    def _look(self) -> None:
        """Read the file if it is another than before. One that cannot be read changes nothing, and is told of once."""
        state = self._state()
        if state == self._seen:
            return
        self._seen = state
        try:
            self._keys = self._secrets(_read(self._path))
        except (SettingsError, OSError) as error:
            _logger.error("receipt_keys_unreadable", error=str(error))

    def _state(self) -> tuple[int, int, int] | None:
        """What differs between two files of this name; None: there is none."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _secrets(self, file: _File) -> tuple[bytes, ...]:
        return tuple(self._derived if entry.key is None else bytes.fromhex(entry.key) for entry in file.keys)


def _read(path: Path) -> _File:
    try:
        return _File.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return _FIRST
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "json"
        text = f"{path}: {where}: {first['msg']}. Restore it; deleting it refuses all receipts sealed since the first rotation."
        raise SettingsError(text) from error


def _write(path: Path, file: _File) -> None:
    with whole_file(path) as draft:
        draft.write(file.model_dump_json().encode())
