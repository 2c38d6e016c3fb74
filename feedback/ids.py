"""Identifiers. Everything Plaudit names by itself sorts by time: a prefix and a UUIDv7 (RFC 9562, section 5.7)."""

from __future__ import annotations

import hashlib
import hmac
import os
import threading
import time

_RANDOM_BYTES = 10
_random = threading.local()


def _random_bytes() -> bytes:
    """Fresh bytes of the system's, asked for by the block: one call for each id costs more than all else of an id."""
    place = getattr(_random, "place", 0)
    if not place or _random.process != os.getpid():  # a forked child must not repeat its parent's
        _random.block, _random.process = os.urandom(256 * _RANDOM_BYTES), os.getpid()
        place = len(_random.block)
    _random.place = place - _RANDOM_BYTES
    block: bytes = _random.block
    return block[_random.place : place]


def uuid7(now_ms: int | None = None) -> str:
    """A UUIDv7 as 32 hexadecimal digits; ``now_ms`` is the Unix time in milliseconds (the clock's when None)."""
    stamp = (time.time_ns() // 1_000_000 if now_ms is None else now_ms) & ((1 << 48) - 1)
    random = int.from_bytes(_random_bytes(), "big")
    value = stamp << 80 | 0x7 << 76 | (random >> 68 & 0xFFF) << 64 | 0b10 << 62 | random & ((1 << 62) - 1)
    return f"{value:032x}"


def new_id(prefix: str) -> str:
    """``prefix`` followed by a fresh UUIDv7, for example ``new_id("fb_")``."""
    return prefix + uuid7()


def user_hash(secret: bytes, project: str, user: str) -> str:
    """The only form in which a user is stored: HMAC-SHA256 of project and the application's user id, 32 digits."""
    return hmac.new(secret, f"{project}\0{user}".encode(), hashlib.sha256).hexdigest()[:32]


def conversation_hash(secret: bytes, project: str, conversation: str) -> str:
    """Who stands for the user of a conversation that names none."""
    return user_hash(secret, project, f"\0conversation\0{conversation}")


def annotator_hash(secret: bytes, project: str, key_id: str) -> str:
    """The rater that judges with an annotator's key."""
    return user_hash(secret, project, f"\0annotator\0{key_id}")


def text_hash(text: str) -> str:
    """SHA-256 of a text, 64 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()
