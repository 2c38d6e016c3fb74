from __future__ import annotations

import base64
import re

import pytest

from feedback.events import Exposure, Target
from feedback.receipts import Receipt, ReceiptError, ReceiptExpired, ReceiptInvalid, Receipts

RECEIPT = Receipt(
    project="p",
    target=Target(completion_ids=("x1", "x2"), comparison_id="cmp_1"),
    exposures=(
        Exposure(completion_id="x1", adapter="base", propensity=0.9, propensities={"champion": 0.9, "challenger": 0.1}),
        Exposure(completion_id="x2", adapter="p-v1-00000000", arm="challenger", propensity=0.1),
    ),
    user="u1",
    conversation="c1",
    issued=1000.0,
    expires=2000.0,
)


def receipts(*secrets: bytes, now: float = 1500.0) -> Receipts:
    return Receipts(secrets or (b"one",), clock=lambda: now)


def test_what_is_sealed_is_what_opens():
    assert receipts().open(receipts().seal(RECEIPT)) == RECEIPT


def test_a_token_is_opaque_and_fits_into_a_url():
    token = receipts().seal(RECEIPT)
    assert re.fullmatch(r"[A-Za-z0-9_-]+", token)
    assert b"conversation" not in base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    assert len(token) < 2000


def test_every_altered_character_is_noticed():
    token = receipts().seal(RECEIPT)
    for place, digit in enumerate(token):
        altered = token[:place] + ("A" if digit != "A" else "B") + token[place + 1 :]
        with pytest.raises(ReceiptInvalid):
            receipts().open(altered)


def test_one_flipped_bit_in_any_byte_of_the_sealed_text_is_noticed():
    token = receipts().seal(RECEIPT)
    sealed = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    for place in range(len(sealed)):
        flipped = bytearray(sealed)
        flipped[place] ^= 1 << place % 8
        with pytest.raises(ReceiptInvalid):
            receipts().open(base64.urlsafe_b64encode(flipped).decode().rstrip("="))


def test_no_other_spelling_of_a_token_opens():
    token = receipts().seal(RECEIPT)
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spellings = {token[:-1] + digit for digit in digits} | {token + "\n", " " + token, token + "=", token + "====", token[:-1]}
    for other in spellings - {token, token + "=" * (-len(token) % 4)}:
        with pytest.raises(ReceiptInvalid):
            receipts().open(other)


@pytest.mark.parametrize("token", ["", "x", "é", "gAAAAA", "A" * 100_000])
def test_garbage_is_refused_with_what_an_api_needs(token):
    with pytest.raises(ReceiptError) as caught:
        receipts().open(token)
    assert (caught.value.status, caught.value.code) == (400, "receipt_invalid")
    assert "as it came with the answer" in caught.value.message


def test_a_receipt_opens_until_just_before_it_expires():
    token = receipts().seal(RECEIPT)
    assert receipts(now=1999.9).open(token) == RECEIPT
    with pytest.raises(ReceiptExpired) as caught:
        receipts(now=2000.0).open(token)
    assert (caught.value.status, caught.value.code) == (410, "receipt_expired")


def test_an_old_secret_still_opens_and_a_removed_one_does_not():
    token = receipts(b"old").seal(RECEIPT)
    assert receipts(b"new", b"old").open(token) == RECEIPT
    with pytest.raises(ReceiptInvalid):
        receipts(b"new").open(token)


def test_the_first_secret_seals():
    token = receipts(b"new", b"old").seal(RECEIPT)
    assert receipts(b"new").open(token) == RECEIPT


@pytest.mark.parametrize("secrets", [[], [b""], [b"good", b""]])
def test_an_empty_secret_is_refused(secrets):
    with pytest.raises(ValueError, match="secret"):
        Receipts(secrets)


class Changing:
    """Secrets that another process changes: seen at the next look only, or when asked at once."""

    def __init__(self, *secrets: bytes) -> None:
        self.seen = self.now = secrets
        self.looks = 0

    def newest_first(self, *, at_once: bool = False) -> tuple[bytes, ...]:
        self.looks += at_once
        if at_once:
            self.seen = self.now
        return self.seen


def test_a_token_sealed_with_a_secret_not_seen_yet_makes_it_look_at_once():
    secrets = Changing(b"old")
    reader = Receipts(secrets, clock=lambda: 1500.0)
    earlier = reader.seal(RECEIPT)
    secrets.now = (b"new", b"old")
    assert reader.open(receipts(b"new").seal(RECEIPT)) == RECEIPT
    assert (reader.open(earlier), secrets.looks) == (RECEIPT, 1), "what opens with the secrets at hand needs no look"
    assert receipts(b"new").open(reader.seal(RECEIPT)) == RECEIPT
    secrets.now = (b"newer",)
    with pytest.raises(ReceiptInvalid):
        reader.open(receipts(b"foreign").seal(RECEIPT))
    with pytest.raises(ReceiptInvalid):
        reader.open(earlier)
