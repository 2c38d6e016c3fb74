from __future__ import annotations

import random
import time
from collections import Counter

import pytest
from feedback_samples import amendment, completion, judged, rating

from feedback.events import CompletionText, Correction, Message, Rating, ToolCall
from feedback.redact import redact, redact_event

FOUND = [
    ("mail Ann.Lee+x@mail.example.co.uk now", "mail [email] now"),
    ("<jürgen@müller.example>", "<[email]>"),
    ("call +49 (0) 30 1234-5678.", "call [phone]."),
    ("or 0171/2345678, or", "or [phone], or"),
    ("(415) 555-2671 or 415.555.2671", "[phone] or [phone]"),
    ("card 4111 1111 1111 1111, exp 12/27", "card [card], exp 12/27"),
    ("5500-0055-5555-5559", "[card]"),
    ("4111 1111 1111 1111 123 and DE89 3704 0044 0532 0130 00 is it", "[card] 123 and [iban] is it"),
    ("IBAN DE89 3704 0044 0532 0130 00!", "IBAN [iban]!"),
    ("gb82west12345698765432", "[iban]"),
    ("from 192.168.0.1: or 2001:db8::8a2e:370:7334.", "from [ip]: or [ip]."),
    ("::1 and ::ffff:10.0.0.1", "[ip] and [ip]"),
]
LEFT = [
    "at 12:30:00 on 2024-05-17, version 3.11.7, 1.2.3.4.5",
    "4111 1111 1111 1112 is no card",
    "GB83WEST12345698765432 is no IBAN",
    "300.1.1.1 is no address, a::b::c neither, nor std::string",
    "it cost 1,234,567.89 dollars, or 1 000 000, pi is 3.14159265358979",
    "a @ b, @handle, user@localhost",
    "0000000000000000",
    "e = mc^2; x = [1, 2, 3]; f(10, 20, 30)",
    "",
]


@pytest.mark.parametrize(("text", "redacted"), FOUND)
def test_what_has_the_form_of_personal_data_is_replaced_by_its_kind(text, redacted):
    assert redact(text) == redacted
    assert redact(redacted) == redacted


@pytest.mark.parametrize("text", LEFT)
def test_what_only_looks_like_it_is_left(text):
    assert redact(text) == text


def test_all_texts_of_an_event_are_redacted_and_nothing_else():
    mail = "a@b.example"
    call = ToolCall(id="1", name="f", arguments=f'{{"to": "{mail}"}}')
    text = CompletionText(messages=(Message(role="user", content=mail, tool_calls=(call,)),), answer=mail, tool_calls=(call,))
    event = completion("x1")
    event = event.model_copy(update={"data": event.data.model_copy(update={"text": text, "conversation": mail})})
    done = redact_event(event, redact).data
    assert done.text.model_dump_json().count("[email]") == 4
    assert mail not in done.text.model_dump_json()
    assert done.conversation == mail
    corrected = redact_event(judged("f", Correction(text=mail, comment=mail)), redact).data.judgement
    assert corrected == Correction(text="[email]", comment="[email]")
    assert redact_event(rating("f", comment=mail), redact).data.judgement == Rating(value=1, comment="[email]")
    assert redact_event(amendment("f", {"comment": mail, "value": 1}), redact).data.changes == {"comment": "[email]", "value": 1}


def test_time_is_linear_in_the_text():
    def seconds(text: str) -> float:
        started = time.process_time()
        redact(text)
        return time.process_time() - started

    for unit in ("1", "1 ", "a.", "+1 ", "1:", "DE89 ", "x@", "1.1.", "0 1-", "@a.", "AA11"):
        assert seconds(unit * (40_000 // len(unit)) + "1@") < 1.0, unit


def luhn(digits: str) -> str:
    return next(digits + str(last) for last in range(10) if redact(digits + str(last)) == "[card]")


def iban(rng: random.Random, country: str, length: int) -> str:
    body = "".join(rng.choice("0123456789") for _ in range(length))
    number = int("".join(str(int(sign, 36)) for sign in body + country + "00"))
    return f"{country}{98 - number % 97:02d}{body}"


def samples(rng: random.Random) -> list[tuple[str, str]]:
    """Personal data in common forms, by kind, generated without a look at the patterns."""

    def digits(count: int) -> str:
        return "".join(rng.choice("0123456789") for _ in range(count))

    def word() -> str:
        return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(2, 10)))

    made = [("email", f"{word()}{rng.choice(['.', '_', '-', ''])}{word()}@{word()}.{rng.choice(['com', 'de', 'co.uk', 'io'])}")]
    made.append(("card", luhn(rng.choice(["4", "51", "6011"]) + digits(11))))
    spaced = luhn("4" + digits(14))
    made.append(("card", rng.choice([" ", "-"]).join(spaced[i : i + 4] for i in range(0, 16, 4))))
    whole = iban(rng, *rng.choice([("DE", 18), ("FR", 23), ("NL", 14), ("ES", 20)]))
    made.append(("iban", rng.choice([whole, " ".join(whole[i : i + 4] for i in range(0, len(whole), 4))])))
    made.append(("ip", ".".join(str(rng.randint(1, 254)) for _ in range(4))))
    made.append(("ip", ":".join(f"{rng.randint(1, 0xFFFF):x}" for _ in range(8))))
    made.append(("phone", f"+{rng.choice(['49', '33', '44', '1'])} {rng.randint(10, 999)} {digits(3)} {digits(4)}"))
    made.append(("phone", f"0{rng.randint(30, 999)}{rng.choice([' ', '-', '/'])}{digits(rng.randint(6, 8))}"))
    made.append(("phone", f"({rng.randint(201, 989)}) {rng.randint(200, 999)}-{digits(4)}"))
    made.append(("phone", f"+{rng.choice(['49', '33'])}{rng.randint(100, 999)}{digits(7)}"))
    return made


def test_recall_on_generated_texts(capsys):
    rng = random.Random(7)
    seen: Counter[str] = Counter()
    found: Counter[str] = Counter()
    frames = ("my {} is it", "{}", "Contact: {}.", "({}) or so", "write to {}, please")
    for _ in range(300):
        for kind, value in samples(rng):
            seen[kind] += 1
            found[kind] += value not in redact(rng.choice(frames).format(value))
    recall = {kind: found[kind] / seen[kind] for kind in seen}
    with capsys.disabled():
        print("\nredaction, recall: " + ", ".join(f"{kind} {share:.3f} of {seen[kind]}" for kind, share in recall.items()))
    assert min(recall.values()) >= 0.95
