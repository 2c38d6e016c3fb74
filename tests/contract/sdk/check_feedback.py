"""Feedback through the same client."""

from __future__ import annotations

import openai
import pytest
from sdk_client import Sdk


def check_a_thumb_by_receipt_is_taken(sdk: Sdk):
    answer = sdk.chat(user="ada", max_tokens=2)
    reply = sdk.post("/feedback", {"type": "rating", "value": 1, "receipt": answer.plaudit["receipt"]})
    assert reply["object"] == "feedback"
    assert reply["id"].startswith("fb_")


def check_a_preference_about_a_streamed_pair_is_taken(sdk: Sdk):
    chunks = sdk.stream(n=2, extra_body={"compare": True}, max_tokens=2)
    body = {"type": "preference", "value": "b", "receipt": chunks[-1].plaudit["receipt"]}
    assert sdk.post("/feedback", body)["id"].startswith("fb_")


def check_a_repeated_key_has_one_effect_and_another_body_is_a_conflict(sdk: Sdk):
    answer = sdk.chat(max_tokens=2)
    body = {"type": "rating", "value": 1, "receipt": answer.plaudit["receipt"]}
    key = f"contract-{answer.id}"
    first = sdk.post("/feedback", body, idempotency_key=key)
    assert sdk.post("/feedback", body, idempotency_key=key)["id"] == first["id"]
    with pytest.raises(openai.ConflictError) as refused:
        sdk.post("/feedback", body | {"value": -1}, idempotency_key=key)
    assert refused.value.response.headers["x-should-retry"] == "false"


def check_a_broken_receipt_is_refused(sdk: Sdk):
    answer = sdk.chat(max_tokens=2)
    with pytest.raises(openai.AuthenticationError):
        sdk.post("/feedback", {"type": "rating", "value": 1, "receipt": answer.plaudit["receipt"][:-8] + "AAAAAAAA"})


def check_every_kind_of_feedback_goes_through_raw_post(sdk: Sdk):
    about = {"receipt": sdk.chat(max_tokens=2).plaudit["receipt"]}
    pair = {"receipt": sdk.chat(max_tokens=2, n=2, extra_body={"compare": True}).plaudit["receipt"]}
    bodies = [
        {"type": "rating", "value": -1, "tags": ["too_long"], "comment": "!", **about},
        {"type": "preference", "value": "both_good", **pair},
        {"type": "ranking", "ranks": [2, 1], **pair},
        {"type": "correction", "text": "Better.", **about},
        {"type": "score", "name": "resolved", "value": True, **about},
        {"type": "flag", "harms": ["privacy"], **about},
        {"type": "implicit", "action": "dwell", "ms": 1200, **about},
        {"type": "amend", "kind": "rating", "changes": {"comment": "?"}, **about},
        {"type": "retract", "kind": "score", "name": "resolved", **about},
    ]
    for body in bodies:
        assert sdk.post("/feedback", body)["id"].startswith("fb_")
    outcomes = sdk.post("/feedback", [*bodies, {"type": "rating"}])["data"]
    assert [outcome["status"] for outcome in outcomes] == [201] * len(bodies) + [400]
