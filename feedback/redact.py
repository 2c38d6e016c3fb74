"""Personal data in texts, found by its form and taken out before the texts are kept. What is answered is never changed.

Found: e-mail addresses, phone numbers, payment cards (13 to 19 digits of a network's range that pass Luhn's check), IBANs
(ISO 13616, with their check digits), IP addresses and social security numbers of the United States (in the ranges that their
administration gives out); each is replaced by its kind in brackets. Digits without any separator are phone or social security
numbers only where the words beside them say so. Names, addresses, dates of birth and whatever else has no form are not found:
this lessens what is kept, it makes nobody anonymous. Of 4 500 generated data in common forms all are found; of 6 000 ordinary
numbers (prices, dates, ids, versions, code) none is taken for one, of numbers of 16 digits every twelfth, for a card's
(tests/feedback/test_redact.py); "256 512 1024" is, for a phone's. But whoever wrote the generators knew the patterns: of what
people really write it will be less, and a number in words, or split over two messages, is not found. Every quantifier is
bounded: time is linear in the text.
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
_CARD = re.compile(
    r"(?<![\w+.-])(?:\d{4}(?:[ -]?\d{4}){2}[ -]?\d{1,4}(?:[ -]?\d{1,3})?|\d{4}[ -]\d{6}[ -]\d{4,5})(?!\w)"  # as they are printed
)
_IPV4 = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w]|\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])[0-9a-f:]{2,39}(?:\.\d{1,3}){0,3}(?![\w:])", re.IGNORECASE)
_DASH = "-\u2010\u2011\u2013"
_PHONE = re.compile(
    r"(?<![\w+.,/-])(?<!\d:)(?:"
    r"(?:\+|00)[1-9]\d{0,2}(?:[ ./-]{0,2}\(?\d{1,5}\)?){2,6}"  # international
    r"|\(?(?!\d{1,2}([./-])\d{1,2}\1\d{2,4}(?!\d|\1\d))"  # 05/17/2024 is a date,
    r"(?![01]\d[0-5]\d-[0-2]\d[0-5]\d(?!\d))"  # and 0900-1700 are hours
    r"0[1-9]\d{0,4}\)?(?:[ ./-]{0,2}\d{2,5}){2,4}"  # national, with its leading zero
    r"|(?<!\d )(?:1 )?[2-9]\d{2} \d{3} \d{4}(?! \d{1,9}(?:\s|\Z))"  # North America, if it is no row of numbers
    rf"|(?:1(?:[{_DASH} ]{{1,2}}|\.))?(?:"  # and with other marks than spaces
    rf"\([1-9]\d{{2}}\)[{_DASH} .]{{0,3}}\d{{3}}[{_DASH} .]{{1,3}}\d{{4}}"
    rf"|[1-9]\d{{2}}[{_DASH}]\d{{3}}[{_DASH}]\d{{4}}"
    rf"|[2-9]\d{{2}}[{_DASH} .]{{1,3}}\d{{3}} ?[{_DASH}.] ?\d{{4}}"
    r")(?: ?(?:x|ext\.?) ?\d{1,6})?"
    r")(?![\w/]|[.,-]\d)",
    re.IGNORECASE,
)
_SSN = r"(?<![\w+.,/-])(?!000|666|9)\d{{3}}{0}(?!00)\d{{2}}{0}(?!0000)\d{{4}}(?![\w/]|[.,-]\d)"
"""Of the Social Security Administration: no area 000, 666 or from 900 on, no group 00, no serial number 0000."""
_WRITTEN_SSN = re.compile(_SSN.format(f"[{_DASH}]"))
_PLAIN_SSN = re.compile(_SSN.format(" ?"))
_PLAIN_PHONE = re.compile(r"(?<![\w+.,/-])[1-9]\d{9,10}(?![\w/]|[.,-]\d)")

_LINK = (
    r"(?:[^\w\n()]{1,4}(?:is|are|no|nr|num|number|at|on|under|via|me|us|him|her|them|back|please|now|today|or)\b){0,5}"
    r"(?:[^\w\n()]{0,4}|[^\w\n()]{1,3}\()\Z"
)
_SSN_FOLLOWS = re.compile(r"(?<![^\W_])(?:ssn|social[ _-]security(?:[ _-](?:number|no|card))?)" + _LINK, re.IGNORECASE)
_PHONE_FOLLOWS = re.compile(
    r"(?<![^\W_])(?:(?:(?:tele|cell)?phone|tel(?:efono?)?|mobile|cell|fax|whatsapp|sms)(?:[ _-]?(?:number|no|nr))?|call|text|dial"
    r"|(?:ring|reach) (?:me|us|him|her|them)|(?:my|our|your|his|her|their) (?:new |work |home |office )?number)" + _LINK,
    re.IGNORECASE,
)
_PHONE_PRECEDES = re.compile(
    r"(?: ?\(|,? (?:is|are) (?:my|our|his|her|their|the) )(?:new |work |home |office )?"
    r"(?:(?:tele|cell)?phone|mobile|cell|fax|whatsapp|number)\b",
    re.IGNORECASE,
)
_NEVER = re.compile(r"(?!)")
_NEAR = 64
"""Characters before a number that may say what it is."""

_SEPARATOR = re.compile("[ -]")


def redact(text: str) -> str:
    """The text with every piece of personal data that is found by its form replaced by ``[email]``, ``[phone]`` and so on."""
    text = _EMAIL.sub("[email]", text) if "@" in text else text
    if not any(map(str.isdigit, text)):
        return text
    for pattern, replaced in _RULES:
        text = pattern.sub(replaced, text)
    return text


def personal(text: str) -> list[str]:
    """The different pieces of personal data that `redact` finds in the text; where two of its patterns meet, by both."""
    pieces = _EMAIL.findall(text)
    for pattern, replaced in _RULES:
        for found in pattern.finditer(text):
            kind, bracket, kept = replaced(found).partition("]")
            pieces += [found[0].removesuffix(kept)] if bracket and kind.startswith("[") else []
    return list(dict.fromkeys(pieces))


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


def _told(follows: re.Pattern[str], precedes: re.Pattern[str], kind: str, found: re.Match[str]) -> str:
    """The kind in place of digits that are one only because the words before or after them say so."""
    before = found.string[max(0, found.start() - _NEAR) : found.start()]
    return kind if follows.search(before) or precedes.match(found.string, found.end()) else found[0]


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
    """Networks' numbers begin with 2 to 6 (ISO/IEC 7812), so no time in milliseconds is one; and the digits pass Luhn's check:
    from the right every second one doubled, 9 taken off what is above 9, and the sum a multiple of 10."""
    digits = [int(sign) for sign in reversed(text) if sign.isdigit()]
    if not 13 <= len(digits) <= 19 or not 2 <= digits[-1] <= 6:
        return False
    doubled = (2 * digit - 9 * (digit > 4) for digit in digits[1::2])
    return len(set(digits)) > 1 and (sum(digits[::2]) + sum(doubled)) % 10 == 0


def _is_ip(text: str) -> bool:
    """A time (12:30:00) and ``::`` are none."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not address.is_unspecified


def _is_phone(text: str) -> bool:
    """8 to 15 digits (E.164); with 00 before country and number at least 11, for fewer are an id with zeros before it."""
    return 8 + 3 * text.startswith("00") <= sum(map(str.isdigit, text)) <= 15 + 2 * text.startswith("00")


_RULES: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = (
    (_IBAN, partial(_replaced, _is_iban, "[iban]")),
    (_CARD, partial(_replaced, _is_card, "[card]")),
    (_IPV6, partial(_replaced, _is_ip, "[ip]")),
    (_IPV4, partial(_replaced, _is_ip, "[ip]")),
    (_WRITTEN_SSN, lambda _: "[ssn]"),
    (_PLAIN_SSN, partial(_told, _SSN_FOLLOWS, _NEVER, "[ssn]")),
    (_PHONE, partial(_replaced, _is_phone, "[phone]")),
    (_PLAIN_PHONE, partial(_told, _PHONE_FOLLOWS, _PHONE_PRECEDES, "[phone]")),
)
