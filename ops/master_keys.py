"""Master keys: what wraps users' text keys in the database."""

from __future__ import annotations

import hmac
import os
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from feedback.log import LogUnavailable
from feedback.seal import KEY_BYTES, Owner
from ops.secrets import load_secret, subkey
from ops.settings import Settings

_NONCE_BYTES = 12
WRAPPED_BYTES = _NONCE_BYTES + KEY_BYTES + 16


class MasterKey(NamedTuple):
    """``id`` tells it from others, and nothing else."""

    id: str
    cipher: AESGCM

    @classmethod
    def of(cls, secret: bytes) -> MasterKey:
        return cls(hmac.digest(secret, b"id", "sha256")[:8].hex(), AESGCM(secret))

    def wrap(self, secret: bytes, owner: Owner, version: int) -> bytes:
        """The user's key in `WRAPPED_BYTES`, bound to whose it is and its version."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self.cipher.encrypt(nonce, secret, _context(owner, version))

    def unwrap(self, wrapped: bytes, owner: Owner, version: int) -> bytes:
        """What `wrap` was given. Raises `LogUnavailable` for what it has not made."""
        nonce, sealed = wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:]
        try:
            return self.cipher.decrypt(nonce, sealed, _context(owner, version))
        except InvalidTag as error:
            text = f"a text key of {owner.project}/{owner.user} was altered in the database: restore it"
            raise LogUnavailable(text) from error


def master_keys(settings: Settings) -> list[bytes]:
    """The key that wraps users' keys, then those that only unwrap; the one derived from the data folder's secret is the last."""
    given = [] if settings.text_key is None else [settings.text_key.get_secret_value()]
    older = settings.text_keys_previous
    given += [] if older is None else [key.strip() for key in older.get_secret_value().split(",") if key.strip()]
    return [*(subkey(key.encode(), "text-keys") for key in given), subkey(load_secret(settings), "text-keys")]


def _context(owner: Owner, version: int) -> bytes:
    return f"plaudit text key v1\0{owner.project}\0{owner.user}\0{version}".encode()
