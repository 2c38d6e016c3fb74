"""Personal data in texts, found by its form and taken out before the texts are kept. What is answered is never changed.

Found: e-mail addresses, phone numbers, payment cards (13 to 19 digits that pass Luhn's check), IBANs (ISO 13616, with their
check digits) and IP addresses; each is replaced by its kind in brackets. Names, addresses, dates of birth and whatever else has
no form are not: this lessens what is kept, it makes nobody anonymous. Of 3 000 generated data in common forms all are found
(tests/feedback/test_redact.py), but whoever wrote the generator knew the patterns: of what people really write it will be less,
and a number in words, or split over two messages, is not found. Every quantifier is bounded: time is linear in the text.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from functools import partial
from typing import Any

from feedback.events import CompletionCreated, CompletionText, Event, FeedbackAmended, FeedbackSet, ToolCall

Redact = Callable[[str], str]

_EMAIL = re.compile(r"[\w.+%-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}(?![\w-])")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]{4}){2,7}(?:[ -]?[A-Z0-9]{1,3})?\b", re.IGNORECASE)
_CARD = re.compile(r"(?<![\w+.-])\d(?:[ -]?\d){12,18}(?![\w])")
_IPV4 = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w]|\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])[0-9a-f:]{2,39}(?:\.\d{1,3}){0,3}(?![\w:])", re.IGNORECASE)
_PHONE = re.compile(
    r"(?<![\w+.,/-])(?:"
    r"(?:\+|00)[1-9]\d{0,2}(?:[ ./-]{0,2}\(?\d{1,5}\)?){2,6}"  # international
    r"|\(?0\d{1,5}\)?(?:[ ./-]{0,2}\d{2,5}){2,4}"  # national, with its leading zero
    r"|\(?[2-9]\d{2}\)?[ .-]{1,2}[2-9]\d{2}[ .-]\d{4}"  # North America
    r")(?![\w/]|[.,-]\d)"
)


_SEPARATOR = re.compile("[ -]")


def redact(text: str) -> str:
    """The text with every piece of personal data that is found by its form replaced by ``[email]``, ``[phone]`` and so on."""
    text = _EMAIL.sub("[email]", text) if "@" in text else text
    if not any(map(str.isdigit, text)):
        return text
    for pattern, is_one, kind in _CHECKED:
        text = pattern.sub(partial(_replaced, is_one, kind), text)
    return text


def redact_event(event: Event, redact: Redact) -> Event:
    """The event with ``redact`` applied to all that people and models wrote in it."""
    data = event.data
    if isinstance(data, CompletionCreated):
        return _with(event, text=_redacted(data.text, redact))
    if isinstance(data, FeedbackSet):
        said = {name: redact(text) for name in ("comment", "text") if (text := getattr(data.judgement, name, ""))}
        return _with(event, judgement=data.judgement.model_copy(update=said)) if said else event
    if isinstance(data, FeedbackAmended):
        said = {name: redact(text) for name in ("comment", "text") if isinstance(text := data.changes.get(name), str)}
        return _with(event, changes=data.changes | said) if said else event
    return event


def _replaced(is_one: Callable[[str], bool], kind: str, found: re.Match[str]) -> str:
    """The kind in place of what was found, or of its beginning: a word or number may follow that only looks like a part of it."""
    text: str = found[0]
    ends = [len(text), *(match.start() for match in reversed([*_SEPARATOR.finditer(text)]))]
    return next((kind + text[end:] for end in ends if is_one(text[:end])), text)


def _with(event: Event, **change: Any) -> Event:
    return event.model_copy(update={"data": event.data.model_copy(update=change)})


def _redacted(text: CompletionText, redact: Redact) -> CompletionText:
    messages = tuple(
        message.model_copy(update={"content": redact(message.content), "tool_calls": _calls(message.tool_calls, redact)})
        for message in text.messages
    )
    return CompletionText(messages=messages, answer=redact(text.answer), tool_calls=_calls(text.tool_calls, redact))


def _calls(calls: tuple[ToolCall, ...], redact: Redact) -> tuple[ToolCall, ...]:
    return tuple(call.model_copy(update={"arguments": redact(call.arguments)}) for call in calls)


def _is_iban(text: str) -> bool:
    """Check digits: moved to the end and read as a number, letters as 10 to 35, it leaves 1 on division by 97."""
    plain = re.sub(r"[ -]", "", text).upper()
    return 15 <= len(plain) <= 34 and int("".join(str(int(sign, 36)) for sign in plain[4:] + plain[:4])) % 97 == 1


def _is_card(text: str) -> bool:
    """Luhn: from the right every second digit doubled, 9 taken off what is above 9, and the sum a multiple of 10."""
    digits = [int(sign) for sign in reversed(text) if sign.isdigit()]
    doubled = (2 * digit - 9 * (digit > 4) for digit in digits[1::2])
    return 13 <= len(digits) <= 19 and len(set(digits)) > 1 and (sum(digits[::2]) + sum(doubled)) % 10 == 0


def _is_ip(text: str) -> bool:
    """A time (12:30:00) and ``::`` are none."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not address.is_unspecified


def _is_phone(text: str) -> bool:
    return 8 <= sum(map(str.isdigit, text)) <= 15


_CHECKED: tuple[tuple[re.Pattern[str], Callable[[str], bool], str], ...] = (
    (_IBAN, _is_iban, "[iban]"),
    (_CARD, _is_card, "[card]"),
    (_IPV6, _is_ip, "[ip]"),
    (_IPV4, _is_ip, "[ip]"),
    (_PHONE, _is_phone, "[phone]"),
)
