"""For schemathesis: rules between fields, which a schema does not say, are kept in data that is meant to be good.

Every such request of chat names the project and ends with a question that the scripted model answers; every such feedback
is about an answer that was given; annotators' requests have an annotator's key, and are about a stream and a task there are.
"""

from __future__ import annotations

import json
import os
from typing import Any

import schemathesis
from schemathesis import AuthContext, Case, GenerationMode, HookContext

QUESTION = {"role": "user", "content": "hello"}
NEEDS = {"stream_options": "stream", "top_logprobs": "logprobs", "tool_choice": "tools"}
"""Fields of a chat that are for others."""

GOOD_CHANGES: dict[str, dict[str, Any]] = {
    "rating": {"value": -1, "tags": ["too_long"]},
    "preference": {"value": "tie"},
    "ranking": {"ranks": [2, 1]},
    "correction": {"text": "Better."},
    "score": {"value": True},
    "flag": {"harms": ["hate"]},
    "implicit": {"ms": 3},
}


WHICH = {"score": {"metric": "copy"}, "implicit": {"action": "copy"}}
"""Of what was said before: a person and answer have several of these kinds."""


@schemathesis.auth(refresh_interval=None)
class Keys:
    """Annotators' routes take their keys only; all others an application's."""

    def get(self, case: Case, context: AuthContext) -> str:
        return os.environ["PLAUDIT_ANNOTATOR" if case.path.startswith("/v1/label/") else "PLAUDIT_BEARER"]

    def set(self, case: Case, data: str, context: AuthContext) -> None:
        case.headers["Authorization"] = data


@schemathesis.hook
def before_call(context: HookContext, case: Case, kwargs: dict[str, Any]) -> None:
    if case.meta is None or case.meta.generation.mode is not GenerationMode.POSITIVE:
        return
    body: Any = case.body
    if case.path == "/v1/chat/completions":
        _chat(body)
    elif case.path == "/v1/feedback" and isinstance(body, dict):  # entries of a list are judged each by itself
        _feedback(body)
    elif case.path == "/v1/label/next":
        case.query["stream"] = "work"
    elif case.path == "/v1/label/{task}" and body["type"] in ("rating", "skip"):  # what this task's stream asks for
        case.path_parameters["task"] = os.environ["PLAUDIT_TASK"]


def _chat(body: dict[str, Any]) -> None:
    body |= {"model": "default", "messages": [*body["messages"][:8], QUESTION]}
    if body.get("compare"):
        body["n"] = 2
    for field, needed in NEEDS.items():
        if not body.get(needed):
            body.pop(field, None)
    if isinstance(body.get("tool_choice"), dict):
        body["tool_choice"]["function"]["name"] = body["tools"][0]["function"]["name"]


def _feedback(body: dict[str, Any]) -> None:
    kind = body.get("kind", body["type"])
    receipts = json.loads(os.environ["PLAUDIT_RECEIPTS"])
    body["receipt"] = receipts["pair" if kind in ("preference", "ranking") else "single"]
    for field in ("completion_id", "completion_ids", "comparison_id", "user", "idempotency_key"):
        body.pop(field, None)
    if "ranks" in body:
        body["ranks"] = [1, 1 + body["ranks"][0] % 2]
    if "kind" in body:
        for field in ("metric", "action", "name"):
            body.pop(field, None)
        body |= WHICH.get(kind, {})
    if "changes" in body:
        body["changes"] = GOOD_CHANGES[kind]
