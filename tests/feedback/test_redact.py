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
    ("3782 822463 10005, 378282246310005 or 41111111 11111111", "[card], [card] or [card]"),
    ("4111 1111 1111 1111 123 and DE89 3704 0044 0532 0130 00 is it", "[card] 123 and [iban] is it"),
    ("IBAN DE89 3704 0044 0532 0130 00!", "IBAN [iban]!"),
    ("gb82west12345698765432", "[iban]"),
    ("from 192.168.0.1: or 2001:db8::8a2e:370:7334.", "from [ip]: or [ip]."),
    ("::1 and ::ffff:10.0.0.1", "[ip] and [ip]"),
    ("555-123-4567, (555) 123-4567, (555)123-4567, 555.123.4567", "[phone], [phone], [phone], [phone]"),
    ("1-800-555-0199 or 1.555.123.4567 or 1 (555) 123-4567", "[phone] or [phone] or [phone]"),
    ("123-456-7890 and 555\u2011123\u20114567", "[phone] and [phone]"),
    ("1. 555-123-4567 ext. 12, 2. 555 123 4567 24/7", "1. [phone], 2. [phone] 24/7"),
    ("call me at 5551234567, or text 15551234567", "call me at [phone], or text [phone]"),
    ("my number is 5551234567. 4155552671 is my cell", "my number is [phone]. [phone] is my cell"),
    ('{"phone": "5551234567", "home_phone_number": 4155552671}', '{"phone": "[phone]", "home_phone_number": [phone]}'),
    ("Phone (5551234567), 4155552671 (mobile)", "Phone ([phone]), [phone] (mobile)"),
    ("+1-555-123-4567 tel:555-123-4567", "[phone] tel:[phone]"),
    ("01.42.68.53.00 or 01 42 68 53 00", "[phone] or [phone]"),
    ("my SSN: 123-45-6789.", "my SSN: [ssn]."),
    ("001-01-0001, 665-99-9999, 667-12-3456, 899-12-3456", "[ssn], [ssn], [ssn], [ssn]"),
    ("social security number 123456789, SSN is 123 45 6789", "social security number [ssn], SSN is [ssn]"),
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
    "000-12-3456, 666-12-3456, 900-12-3456, 999-12-3456",  # areas that are given to nobody
    "123-00-4567, 123-45-0000, 1123-45-6789, 123-45-67890, 123-45-6789-0",
    "SSN 000456789, order 123456789, 123 45 6789 of them",
    "order 5551234567, ticket number 5551234567, id=5551234567, 5551234567 bytes",
    "2**32 = 4294967296, call(4294967295), they reach 8000000000 people, 5000000000 mobile users",
    "on 05/17/2024, 05.07.24, (05-17-2024), 2024-05-17T10:11:07.123-0500, open 0900-1700 (0900-1700)",
    "order 311-5247181-7535838 of 4 82 94190 22 530 8 5624",
    "64 128 256 512 1024 2048",
    "1716000000 seconds or 1716000000123 milliseconds, id 0012345678",
    "90210-1234, 2024-123-4567, 555-123-45678, 5.555.123.4567, /555-123-4567/",
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

    units = ("1", "1 ", "a.", "+1 ", "1:", "DE89 ", "x@", "1.1.", "0 1-", "@a.", "AA11", "555-", "(555) ", "call 5551234567 ")
    for unit in units:
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
    american = luhn(rng.choice(["34", "37"]) + digits(12))
    made.append(("card", rng.choice([american, f"{american[:4]} {american[4:10]} {american[10:]}"])))
    made.append(("card", rng.choice([" ", "-"]).join(spaced[i : i + 4] for i in range(0, 16, 4))))
    whole = iban(rng, *rng.choice([("DE", 18), ("FR", 23), ("NL", 14), ("ES", 20)]))
    made.append(("iban", rng.choice([whole, " ".join(whole[i : i + 4] for i in range(0, len(whole), 4))])))
    made.append(("ip", ".".join(str(rng.randint(1, 254)) for _ in range(4))))
    made.append(("ip", ":".join(f"{rng.randint(1, 0xFFFF):x}" for _ in range(8))))
    made.append(("phone", f"+{rng.choice(['49', '33', '44', '1'])} {rng.randint(10, 999)} {digits(3)} {digits(4)}"))
    made.append(("phone", f"0{rng.randint(30, 999)}{rng.choice([' ', '-', '/'])}{digits(rng.randint(6, 8))}"))
    made.append(("phone", f"({rng.randint(201, 989)}) {rng.randint(200, 999)}-{digits(4)}"))
    made.append(("phone", f"+{rng.choice(['49', '33'])}{rng.randint(100, 999)}{digits(7)}"))
    area, exchange, line = f"{rng.randint(201, 989)}", digits(3), digits(4)
    made.append(("phone", rng.choice([f"{area}-{exchange}-{line}", f"({area}){exchange}-{line}", f"{area}.{exchange}.{line}"])))
    said = rng.choice(["call me at", "my cell is", "Phone:", "text", "whatsapp me on", "you can reach me at", "tel."])
    made.append(("phone, digits alone", f"{said} {area}{exchange}{line}"))
    ssn = (
        f"{rng.choice([rng.randint(1, 665), rng.randint(667, 899)]):03}",
        f"{rng.randint(1, 99):02}",
        f"{rng.randint(1, 9999):04}",
    )
    made.append(("ssn", "-".join(ssn)))
    made.append(
        ("ssn, digits alone", f"{rng.choice(['SSN', 'ssn:', 'social security number is'])} {rng.choice(['', ' ']).join(ssn)}")
    )
    return made


def ordinary(rng: random.Random) -> list[tuple[str, str]]:
    """Numbers as they are written every day, by kind, none of them anybody's, generated without a look at the patterns."""

    def whole(count: int) -> str:
        return str(rng.randint(10 ** (count - 1), 10**count - 1))

    def code(count: int) -> str:
        return "".join(rng.choice("0123456789abcdef") for _ in range(count))

    year, month, day = rng.randint(1900, 2035), rng.randint(1, 12), rng.randint(1, 28)
    hour, minute = rng.randint(0, 23), rng.randint(0, 59)
    mark = rng.choice("-/.")
    a, b, c = (rng.randint(0, 99) for _ in range(3))
    return [
        (
            "price",
            rng.choice([f"${int(whole(rng.randint(1, 9))):,}.{whole(2)}", f"{whole(4)}.99 EUR", f"1.{whole(3)}.{whole(3)},00 €"]),
        ),
        (
            "date",
            rng.choice([f"{year}-{month:02}-{day:02}", f"{year}/{month:02}/{day:02}", f"{day:02}{mark}{month:02}{mark}{year}"]),
        ),
        (
            "date",
            rng.choice([f"{month:02}/{day:02}/{year % 100:02}", f"{year}{month:02}{day:02}", f"{year}-{year + 1}", f"{year}"]),
        ),
        ("time", f"{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:07.123{rng.choice(['Z', '+02:00', '-0500'])}"),
        (
            "time",
            rng.choice([f"{hour:02}:{minute:02}-{hour:02}:59", f"{hour:02}00-{hour:02}30", str(rng.randint(10**9, 2 * 10**9))]),
        ),
        ("time", str(rng.randint(10**12, 2 * 10**12))),
        (
            "version",
            rng.choice(
                [f"{a}.{b}.{c}", f"v{a}.{b}.{c}-rc.{a}", f"{a}.{b}", f"{year}.{month}.{day}", f"{a}.{b}.{c}+build.{whole(6)}"]
            ),
        ),
        ("id", rng.choice([f"{code(8)}-{code(4)}-4{code(3)}-a{code(3)}-{code(12)}", code(40), f"task_{code(24)}"])),
        (
            "id",
            rng.choice([f"order {whole(10)}", f"#{whole(9)}", f"ticket number {whole(10)}", f"id={whole(12)}", f"{whole(20)}"]),
        ),
        (
            "id",
            rng.choice(
                [f"INV-{year}-{whole(5)}", f"{whole(3)}-{whole(7)}-{whole(7)}", f"978-3-{whole(2)}-{whole(6)}-{day % 10}"]
            ),
        ),
        ("id", f"{whole(5)}-{whole(4)}"),
        ("16 digits", f"{whole(16)}"),
        (
            "amount",
            rng.choice([f"{int(whole(10)):,}", whole(10), whole(9), f"{a} * {whole(8)} = {whole(10)}", f"{whole(11)} people"]),
        ),
        (
            "amount",
            rng.choice(
                [
                    f"3.{whole(14)}",
                    f"-{whole(2)}.{whole(10)}",
                    f"{a}.{whole(4)}e-{b}",
                    f"{whole(2)}.{whole(4)}, {whole(2)}.{whole(6)}",
                ]
            ),
        ),
        ("row", " ".join(whole(rng.randint(1, 5)) for _ in range(rng.randint(2, 9)))),
        ("row", ", ".join(whole(rng.randint(1, 10)) for _ in range(rng.randint(2, 9)))),
        (
            "code",
            rng.choice(
                [f"x[{whole(3)}:{whole(4)}]", f"f({whole(10)}, {whole(3)})", f"0x{code(8)}", f"{whole(3)}-{whole(3)}*{whole(4)}"]
            ),
        ),
        (
            "code",
            rng.choice(
                [
                    f"range({whole(3)}, {whole(5)})",
                    f"a{whole(10)}",
                    f"1 << {b}",
                    f"x = {whole(10)} - {whole(3)}",
                    f"{whole(3)} - {whole(2)} - {a}",
                ]
            ),
        ),
        (
            "range",
            rng.choice([f"{whole(3)}-{whole(4)}", f"{a}-{b}-{c}", f"pp. {whole(3)}-{whole(3)}", f"{whole(4)} to {whole(4)}"]),
        ),
        (
            "part",
            rng.choice(
                [f"{whole(4)}-{whole(3)}-{whole(4)}", f"A{whole(3)}-{whole(3)}-{whole(4)}", f"{whole(2)}-{whole(2)}-{whole(4)}"]
            ),
        ),
        (
            "measure",
            rng.choice(
                [
                    f"{whole(4)}x{whole(4)}",
                    f"{a} %",
                    f"{whole(3)} km/h",
                    f"{whole(5)} ms",
                    f"{whole(3)}/{whole(3)}",
                    f"{a}°{b}'{c}",
                ]
            ),
        ),
    ]


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


def test_precision_on_ordinary_numbers(capsys):
    rng = random.Random(11)
    seen: Counter[str] = Counter()
    taken: Counter[str] = Counter()
    frames = ("it is {} then", "{}", "Result: {}.", "({}) or so", "I call it {}, please", "my phone shows {} now")
    for _ in range(300):
        for kind, text in ordinary(rng):
            said = rng.choice(frames).format(text)
            seen[kind] += 1
            taken[kind] += redact(said) != said
    wrong = {kind: taken[kind] / seen[kind] for kind in seen}
    with capsys.disabled():
        print("\nredaction, wrongly: " + ", ".join(f"{kind} {share:.4f} of {seen[kind]}" for kind, share in wrong.items()))
    # of 16 digits that begin with 2 to 6, as 5 of 9 do, every tenth has Luhn's check digit
    assert wrong.pop("16 digits") <= 0.1
    assert max(wrong.values()) <= 0.01
