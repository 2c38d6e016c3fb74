"""The one secret of a data folder, and the keys derived from it.

It seals receipts and browser sessions and hashes users: lose it, and old receipts are refused and users become new.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from ops.settings import Settings, SettingsError

_BYTES = 32
_SHORTEST = 16


def load_secret(settings: Settings) -> bytes:
    """``settings.secret``, else the data folder's own, made on first use and readable by its owner only.

    Any number of processes may ask at once: they get the same. Raises `SettingsError` for a secret too short to be one.
    """
    if settings.secret is not None:
        given = settings.secret.get_secret_value().encode()
        if len(given) < _SHORTEST:
            raise SettingsError(f"secret: {len(given)} bytes are too few, use at least {_SHORTEST}. Set PLAUDIT_SECRET.")
        return given
    path = settings.data_dir / "secret"
    if not path.exists():
        _create(path)
    text = path.read_text().strip()
    if len(text) < _SHORTEST:
        raise SettingsError(f"{path} holds {len(text)} characters, a secret has {2 * _BYTES}. Restore it, or delete it.")
    return text.encode()


def subkey(secret: bytes, label: str) -> bytes:
    """32 bytes for one purpose: HMAC-SHA256 of its label, so that no key serves two purposes."""
    return hmac.new(secret, label.encode(), hashlib.sha256).digest()


def _create(path: Path) -> None:
    """Write a fresh secret beside ``path`` and link it there, unless another process was first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return
    finally:
        draft.unlink()
