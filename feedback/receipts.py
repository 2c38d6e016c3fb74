"""Receipts: the sealed token that comes with an answer and lets its holder rate it, without a key and without a lookup.

Sealed with Fernet (AES-128-CBC and HMAC-SHA256: opaque, and any altered bit is noticed). The newest secret seals; all
of them open, so that secrets can be changed while receipts are about.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from pydantic import ValidationError

from feedback.events import Exposure, Frozen, Target

_LABEL = b"plaudit receipt v1"
_LONGEST = 32_768


class Receipt(Frozen):
    """Who was shown what, and until when it may be rated (Unix seconds)."""

    project: str
    target: Target
    exposures: tuple[Exposure, ...]
    user: str
    """User hash."""
    key_id: str = ""
    """The API key that asked for the answer, if one did."""
    conversation: str
    issued: float
    expires: float


class ReceiptError(Exception):
    """A receipt that cannot be used; ``status``, ``code`` and ``message`` are what an API answers."""

    status = 400
    code = "receipt_error"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ReceiptInvalid(ReceiptError):
    """Not sealed by us, or altered since."""

    code = "receipt_invalid"


class ReceiptExpired(ReceiptError):
    """Sealed by us, too long ago."""

    status = 410
    code = "receipt_expired"


class Secrets(Protocol):
    """The secrets that receipts are sealed with, which may change while they are in use."""

    def newest_first(self, *, at_once: bool = False) -> tuple[bytes, ...]:
        """All of them, as of a moment ago; ``at_once``: as of now."""
        ...


class Receipts:
    """Seals and opens receipts. Tokens are URL-safe and one receipt has many: each sealing draws a new nonce."""

    def __init__(self, secrets: Sequence[bytes] | Secrets, clock: Callable[[], float] = time.time) -> None:
        self._secrets = _Unchanging(tuple(secrets)) if isinstance(secrets, Sequence) else secrets
        self._clock = clock
        self._fernet_of = self._secrets.newest_first()
        self._fernet = _fernet(self._fernet_of)

    def seal(self, receipt: Receipt) -> str:
        return self.seal_json(receipt.model_dump_json().encode())

    def seal_json(self, receipt: bytes) -> str:
        """Seal a receipt that is JSON already."""
        return self._current().encrypt(receipt).decode().rstrip("=")

    def open(self, token: str) -> Receipt:
        """The receipt in a token. Raises `ReceiptInvalid` or `ReceiptExpired`."""
        try:
            receipt = Receipt.model_validate_json(self._decrypt(_canonical(token)))
        except (InvalidToken, ValidationError, ValueError, binascii.Error) as error:
            raise ReceiptInvalid("'receipt' is not valid: send it exactly as it came with the answer.") from error
        if self._clock() >= receipt.expires:
            raise ReceiptExpired("'receipt' has expired: only newer answers can be rated.")
        return receipt

    def _decrypt(self, token: bytes) -> bytes:
        """What was sealed, perhaps by another process with a secret that this one has not seen yet."""
        try:
            return self._current().decrypt(token)
        except InvalidToken:
            before = self._fernet_of
            newer = self._current(at_once=True)
            if self._fernet_of == before:
                raise
            return newer.decrypt(token)

    def _current(self, *, at_once: bool = False) -> MultiFernet:
        secrets = self._secrets.newest_first(at_once=at_once)
        if secrets is not self._fernet_of:
            self._fernet_of, self._fernet = secrets, _fernet(secrets)
        return self._fernet


class _Unchanging:
    def __init__(self, secrets: tuple[bytes, ...]) -> None:
        self._secrets = secrets

    def newest_first(self, *, at_once: bool = False) -> tuple[bytes, ...]:
        return self._secrets


def _fernet(secrets: tuple[bytes, ...]) -> MultiFernet:
    if not secrets or not all(secrets):
        raise ValueError("receipts need at least one secret, and none may be empty")
    return MultiFernet([Fernet(_key(secret)) for secret in secrets])


def _key(secret: bytes) -> bytes:
    return base64.urlsafe_b64encode(hmac.new(secret, _LABEL, hashlib.sha256).digest())


def _canonical(token: str) -> bytes:
    """The padded token. Base64 ignores the last digit's spare bits and foreign characters: such a token is refused."""
    if len(token) > _LONGEST:
        raise ValueError("too long")
    padded = token.encode("ascii") + b"=" * (-len(token) % 4)
    if base64.urlsafe_b64encode(base64.urlsafe_b64decode(padded)) != padded:
        raise ValueError("not canonical")
    return padded
