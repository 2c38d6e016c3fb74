"""Text at rest: sealed with a key of its writer's own, so that destroying that key erases what they wrote wherever it lies.

AES-256-GCM (NIST SP 800-38D). The nonce is synthetic, the idea of RFC 5297: the first 96 bits of an HMAC-SHA256 of the event's
identity and its text under a key of its own. So an event seals to the same bytes each time, by which the log knows a retry,
and no nonce meets two texts. What is sealed is bound to project, user and event id: moved to another event it does not open.
"""

from __future__ import annotations

import hmac
import json
from binascii import Error as NotBase64
from binascii import a2b_base64, b2a_base64
from collections.abc import Collection
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import TypeAdapter

from feedback.events import CompletionCreated, CompletionText, Event, FeedbackAmended, FeedbackSet
from feedback.log import LogUnavailable

KEY_BYTES = 32
_NONCE_BYTES = 12
_FIELDS = ("comment", "text")
"""What people write, in judgements and in their amendments."""

EMPTY = CompletionText(messages=(), answer="")
ERASED = "erased"
"""In place of the sealed text of what was read before its writer was erased."""

_text: TypeAdapter[CompletionText] = TypeAdapter(CompletionText)

Written = CompletionCreated | FeedbackSet | FeedbackAmended


class Owner(NamedTuple):
    """Whose text it is: a project and a user's hash."""

    project: str
    user: str


class SealBroken(ValueError):
    """Sealed text that its key does not open: it was altered, or belongs to another event."""


class KeysUnavailable(LogUnavailable):
    """The database with the keys does not answer: texts of ``owners`` cannot be sealed now, those of others perhaps can."""

    code = "database_unavailable"

    def __init__(self, message: str, owners: Collection[Owner] = ()) -> None:
        super().__init__(message)
        self.owners = frozenset(owners)


class DataKey:
    """A user's key of one version; ``secret`` has `KEY_BYTES`."""

    __slots__ = ("_key", "_nonces", "version")

    def __init__(self, version: int, secret: bytes) -> None:
        self.version = version
        self._key = hmac.digest(secret, b"cipher", "sha256")  # a cipher takes 3 KB of memory, and 1 µs to make
        self._nonces = hmac.digest(secret, b"nonce", "sha256")

    def seal(self, text: bytes, context: bytes) -> str:
        """``version.base64`` of nonce and ciphertext."""
        nonce = hmac.digest(self._nonces, b"%d:%b%b" % (len(context), context, text), "sha256")[:_NONCE_BYTES]
        return f"{self.version}.{b2a_base64(nonce + AESGCM(self._key).encrypt(nonce, text, context), newline=False).decode()}"

    def open(self, sealed: str, context: bytes) -> bytes:
        """The text that `seal` was given. Raises `SealBroken`."""
        try:
            data = a2b_base64(sealed.partition(".")[2])
            return AESGCM(self._key).decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], context)
        except (InvalidTag, NotBase64, ValueError) as error:
            raise SealBroken("the sealed text is not what was sealed") from error


def owner_of(event: Event) -> Owner | None:
    """Whose text the event carries; None where it carries none, or has it sealed."""
    data = event.data
    if not isinstance(data, Written) or not _has_text(data):
        return None
    return _owner(event.project, data)


def key_of(event: Event) -> tuple[Owner, int] | None:
    """Which key, of which version, opens what the event has sealed; None where nothing is, or it is gone for good."""
    data = event.data
    if not isinstance(data, Written) or not data.sealed:
        return None
    version = data.sealed.partition(".")[0]
    return (_owner(event.project, data), int(version)) if version.isdecimal() else None


def seal_event(event: Event, key: DataKey) -> Event:
    """The event as it is stored: its text in ``sealed`` alone."""
    data = event.data
    assert isinstance(data, Written)
    return _with_data(event, _without_text(data, key.seal(_dump(data), _context(event))))


def open_event(event: Event, key: DataKey) -> Event:
    """The event as it was before `seal_event`. Raises `SealBroken`."""
    data = event.data
    assert isinstance(data, Written)
    return _with_data(event, _with_text(data, key.open(data.sealed, _context(event))))


def erased(event: Event) -> Event:
    """The event without its text, in whatever form it had it; the same for one read before its writer was erased, and after."""
    data = event.data
    if not isinstance(data, Written) or not (data.sealed or _has_text(data)):
        return event
    return _with_data(event, _without_text(data, ERASED))


def _owner(project: str, data: Written) -> Owner:
    return Owner(project, data.user if isinstance(data, CompletionCreated) else data.rater)


def _context(event: Event) -> bytes:
    user = _owner(event.project, event.data).user  # type: ignore[arg-type]
    return f"plaudit text v1\0{len(event.project)}:{event.project}{len(user)}:{user}{event.id}".encode()


def _has_text(data: Written) -> bool:
    if isinstance(data, CompletionCreated):
        return data.text != EMPTY
    return bool(_said(data))


def _said(data: FeedbackSet | FeedbackAmended) -> dict[str, Any]:
    """The fields that hold what somebody wrote. An amendment may also empty one: that is told too."""
    if isinstance(data, FeedbackAmended):
        return {name: data.changes[name] for name in _FIELDS if name in data.changes}
    return {name: text for name in _FIELDS if (text := getattr(data.judgement, name, ""))}


def _dump(data: Written) -> bytes:
    if isinstance(data, CompletionCreated):
        return _text.dump_json(data.text)
    return json.dumps(_said(data)).encode()


def _without_text(data: Written, sealed: str) -> Written:
    if isinstance(data, CompletionCreated):
        return data.model_copy(update={"text": EMPTY, "sealed": sealed})
    if isinstance(data, FeedbackAmended):
        kept = {name: value for name, value in data.changes.items() if name not in _FIELDS}
        return data.model_copy(update={"changes": kept, "sealed": sealed})
    emptied = data.judgement.model_copy(update=dict.fromkeys(_said(data), ""))
    return data.model_copy(update={"judgement": emptied, "sealed": sealed})


def _with_text(data: Written, text: bytes) -> Written:
    if isinstance(data, CompletionCreated):
        return data.model_copy(update={"text": _text.validate_json(text), "sealed": ""})
    said = json.loads(text)
    if isinstance(data, FeedbackAmended):
        return data.model_copy(update={"changes": data.changes | said, "sealed": ""})
    return data.model_copy(update={"judgement": data.judgement.model_copy(update=said), "sealed": ""})


def _with_data(event: Event, data: Written) -> Event:
    return event.model_copy(update={"data": data})
