"""``POST /v1/feedback``: what is taken, what is refused, and that nothing refused is written."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from chat_upstream import ChatUpstream
from gateway_parts import Gateway, error_of, gateway, question, serving_app, until

from feedback.events import FeedbackRetracted, FeedbackSet, Preference, Rating
from feedback.ids import user_hash
from feedback.join import Joiner, Vote
from feedback.log import LogUnavailable, TopicReader, refused
from feedback.receipts import ReceiptInvalid, Receipts
from feedback.sqlite_log import SqliteLog
from ops.receipt_keys import ReceiptKeys
from ops.secrets import load_secret, subkey
from serving.app import create_app
from serving.keys import KeyStore


@pytest.fixture(scope="module")
def single(served: Gateway) -> dict[str, Any]:
    """What came with one answer: its ids and its receipt."""
    about: dict[str, Any] = served.chat(user="ada", conversation="c-single")["plaudit"]
    return about


@pytest.fixture(scope="module")
def pair(served: Gateway) -> dict[str, Any]:
    about: dict[str, Any] = served.chat(user="ada", n=2, compare=True)["plaudit"]
    return about


def test_a_receipt_alone_rates_an_answer_and_201_means_it_is_in_the_log(served: Gateway, single: dict[str, Any]):
    body = {"type": "rating", "value": -1, "tags": ["too_long", "other"], "comment": "=1+1", "receipt": single["receipt"]}
    reply = served.feedback(**body)
    assert reply.status_code == 201
    assert set(reply.json()) == {"id", "object", "created"}
    (event,) = [event for event in served.events("feedback") if event.id == reply.json()["id"]]
    fact = event.data
    assert isinstance(fact, FeedbackSet)
    assert fact.judgement == Rating(value=-1, tags=("too_long", "other"), comment="=1+1")
    assert fact.target.completion_ids == (single["completion_id"],)
    shown = served.completion(single["completion_id"])
    assert fact.exposures == (shown.exposure,)
    assert (fact.rater, fact.source) == (shown.user, "end_user")
    assert event.key == "c-single", "feedback shares its completion's partition"


def test_the_receipt_may_come_in_the_header_and_the_openai_sdk_can_post_it(served: Gateway, single: dict[str, Any]):
    headers = {"x-plaudit-receipt": single["receipt"]}
    assert served.http.post("/v1/feedback", headers=headers, json={"type": "rating", "value": 1}).status_code == 201
    reply: Any = served.openai.post("/feedback", cast_to=object, body={"type": "rating", "value": 1, **single})
    assert reply["object"] == "feedback"


def test_value_0_takes_a_thumb_back(served: Gateway, single: dict[str, Any]):
    reply = served.feedback(type="rating", value=0, receipt=single["receipt"])
    assert reply.status_code == 201
    fact = served.facts()[-1]
    assert isinstance(fact, FeedbackRetracted)
    assert (fact.feedback_id, fact.kind, fact.target.id) == (reply.json()["id"], "rating", single["completion_id"])


def test_a_preference_is_about_both_answers_in_display_order(served: Gateway, pair: dict[str, Any]):
    reply = served.feedback(type="preference", value="b", decision_ms=1500, receipt=pair["receipt"])
    assert reply.status_code == 201
    fact = served.facts()[-1]
    assert isinstance(fact, FeedbackSet)
    assert fact.judgement == Preference(value="b", decision_ms=1500)
    assert fact.target.completion_ids == tuple(pair["completion_ids"])
    assert fact.target.id == pair["comparison_id"]
    assert [exposure.completion_id for exposure in fact.exposures] == pair["completion_ids"]


def test_one_answer_of_several_is_rated_by_its_id(served: Gateway, pair: dict[str, Any]):
    second = pair["completion_ids"][1]
    assert served.feedback(type="rating", value=1, completion_id=second, receipt=pair["receipt"]).status_code == 201
    fact = served.facts()[-1]
    assert isinstance(fact, FeedbackSet)
    assert fact.target.id == second
    assert [exposure.completion_id for exposure in fact.exposures] == [second]


def test_a_key_and_an_id_do_without_a_receipt_and_may_say_who_judges(served: Gateway, pair: dict[str, Any]):
    body = {"type": "preference", "value": "tie", "comparison_id": pair["comparison_id"], "user": "bob", "source": "simulated"}
    reply = served.http.post("/v1/feedback", headers=served.bearer, json=body)
    assert reply.status_code == 201
    fact = served.facts()[-1]
    assert isinstance(fact, FeedbackSet)
    assert fact.rater == user_hash(subkey(load_secret(served.settings), "users"), "default", "bob")
    assert fact.source == "simulated"


def test_an_annotator_judges_in_their_own_name(served: Gateway, single: dict[str, Any]):
    secret, _ = served.keys.create("default", "annotator", "ann")
    headers = {"authorization": f"Bearer {secret}"}
    reply = served.http.post("/v1/feedback", headers=headers, json={"type": "rating", "value": 1, "receipt": single["receipt"]})
    assert reply.status_code == 201
    fact = served.facts()[-1]
    assert isinstance(fact, FeedbackSet)
    assert fact.source == "annotator"
    assert fact.rater != served.completion(single["completion_id"]).user


def test_a_repeated_idempotency_key_has_one_effect_and_another_body_is_a_conflict(served: Gateway, single: dict[str, Any]):
    before = served.written()

    def rate(value: int) -> httpx.Response:
        body = {"type": "rating", "value": value, "receipt": single["receipt"]}
        return httpx.post(served.url + "/v1/feedback", headers={"idempotency-key": "k1"}, json=body, timeout=15)

    with ThreadPoolExecutor(10) as pool:
        replies = list(pool.map(rate, [1] * 10))
    assert {reply.status_code for reply in replies} == {201}
    assert len({reply.json()["id"] for reply in replies}) == 1
    assert served.written() == before + 1
    conflict = rate(-1)
    assert error_of(conflict, 409)["code"] == "idempotency_conflict"
    assert conflict.headers["x-should-retry"] == "false"
    assert served.written() == before + 1


def changed(receipt: str) -> str:
    """The receipt with one bit of its middle flipped."""
    middle = len(receipt) // 2
    return receipt[:middle] + ("A" if receipt[middle] != "A" else "B") + receipt[middle + 1 :]


REFUSED_WITH_RECEIPT: list[tuple[dict[str, Any], int, str, str]] = [
    ({"type": "rating", "value": 2}, 400, "value", "invalid_value"),
    ({"type": "rating", "value": True}, 400, "value", "invalid_value"),
    ({"type": "rating", "value": "1"}, 400, "value", "invalid_value"),
    ({"type": "rating"}, 400, "value", "missing_required_parameter"),
    ({"type": "rating", "value": 1, "tags": ["too_long"]}, 400, "tags", "invalid_value"),
    ({"type": "rating", "value": 1, "comment": "x" * 4001}, 400, "comment", "invalid_value"),
    ({"type": "rating", "value": 1, "stars": 5}, 400, "stars", "unknown_parameter"),
    ({"type": "rating", "value": 1, "completion_id": "chatcmpl-other"}, 400, "completion_id", "invalid_value"),
    ({"type": "rating", "value": 1, "completion_ids": ["chatcmpl-other"]}, 400, "completion_ids", "invalid_value"),
    ({"type": "rating", "value": 1, "user": "eve"}, 400, "user", "invalid_value"),
    ({"type": "rating", "value": 1, "source": "golden"}, 400, "source", "invalid_value"),
    ({"type": "rating", "value": 1, "source": "simulated"}, 403, "source", "forbidden"),
    ({"type": "preference", "value": "a"}, 400, "type", "wrong_feedback_type"),
    ({"type": "applause", "value": "better"}, 400, "type", "unsupported_feedback_type"),
    ({"type": "correction"}, 400, "text", "missing_required_parameter"),
    ({"type": "correction", "text": ""}, 400, "text", "invalid_value"),
    ({"type": "correction", "text": " \n "}, 400, "text", "invalid_value"),
    ({"type": "amend", "kind": "correction", "changes": {"text": " "}}, 400, "changes.text", "invalid_value"),
    ({"type": "ranking", "ranks": [1, 2]}, 400, "type", "wrong_feedback_type"),
    ({"type": "score", "metric": "csat", "value": 1.5}, 400, "value", "invalid_value"),
    ({"type": "score", "metric": "csat", "value": "yes"}, 400, "value", "invalid_value"),
    ({"type": "score", "metric": "C SAT", "value": 1}, 400, "metric", "invalid_value"),
    ({"type": "score", "metric": "csat", "name": "csat", "value": 1}, 400, "name", "unknown_parameter"),
    ({"type": "score", "value": 1}, 400, "metric", "missing_required_parameter"),
    ({"type": "flag", "harms": []}, 400, "harms", "invalid_value"),
    ({"type": "flag", "harms": ["ugly"]}, 400, "harms[0]", "invalid_value"),
    ({"type": "implicit", "action": "dwell"}, 400, "ms", "invalid_value"),
    ({"type": "implicit", "action": "copy", "ms": 3}, 400, "ms", "invalid_value"),
    ({"type": "implicit", "action": "stare"}, 400, "action", "invalid_value"),
    ({"type": "retract"}, 400, "kind", "missing_required_parameter"),
    ({"type": "retract", "kind": "score"}, 400, "metric", "invalid_value"),
    ({"type": "retract", "kind": "score", "action": "copy"}, 400, "action", "invalid_value"),
    ({"type": "retract", "kind": "score", "metric": "csat", "name": "csat"}, 400, "name", "invalid_value"),
    ({"type": "retract", "kind": "implicit"}, 400, "action", "invalid_value"),
    ({"type": "retract", "kind": "rating", "metric": "csat"}, 400, "metric", "invalid_value"),
    ({"type": "retract", "kind": "rating", "name": "csat"}, 400, "name", "invalid_value"),
    ({"type": "amend", "kind": "rating", "changes": {}}, 400, "changes", "invalid_value"),
    ({"type": "amend", "kind": "rating", "changes": {"stars": 5}}, 400, "changes.stars", "invalid_value"),
    ({"type": "amend", "kind": "rating", "changes": {"value": 5, "tags": []}}, 400, "changes.value", "invalid_value"),
    ({"type": "amend", "kind": "rating", "changes": {"value": 0, "tags": []}}, 400, "changes.value", "invalid_value"),
    ({"type": "amend", "kind": "rating", "changes": {"tags": ["other"]}}, 400, "changes.value", "missing_required_parameter"),
    ({"type": "amend", "kind": "rating", "changes": {"value": 1, "tags": ["other"]}}, 400, "changes.tags", "invalid_value"),
    ({"type": "amend", "kind": "correction", "changes": {"text": ""}}, 400, "changes.text", "invalid_value"),
    ({"type": "amend", "kind": "correction", "changes": {"decision_ms": "5"}}, 400, "changes.decision_ms", "invalid_value"),
    ({"type": "amend", "kind": "correction", "changes": {"decision_ms": True}}, 400, "changes.decision_ms", "invalid_value"),
    ({"type": ["rating"], "value": 1}, 400, "type", "unsupported_feedback_type"),
    ({"value": 1}, 400, "type", "missing_required_parameter"),
]


@pytest.mark.parametrize(("body", "status", "param", "code"), REFUSED_WITH_RECEIPT)
def test_feedback_that_is_not_right_is_refused_by_field_and_nothing_is_written(
    served: Gateway, single: dict[str, Any], body: dict[str, Any], status: int, param: str, code: str
):
    before = served.written()
    error = error_of(served.feedback(**body, receipt=single["receipt"]), status)
    assert (error["param"], error["code"]) == (param, code)
    assert served.written() == before


TYPES = "'rating', 'preference', 'ranking', 'correction', 'score', 'flag', 'implicit', 'amend' or 'retract'"
KINDS = "'rating', 'preference', 'ranking', 'correction', 'score', 'flag' or 'implicit'"
TOLD: list[tuple[Any, str]] = [
    ({"type": "rating", "value": 2}, "'value' is 2, which is not valid: input should be -1, 0 or 1."),
    ({"type": "rating", "value": True}, "'value' is true, which is not valid: send 1, -1, or 0 to take the thumb back."),
    ({"type": "rating", "value": "y" * 99}, f"'value' is \"{'y' * 59}…\", which is not valid: input should be -1, 0 or 1."),
    ({"type": "rating", "value": {"a": 1}}, "'value' is an object, which is not valid: input should be -1, 0 or 1."),
    ({"type": "rating", "value": 1, "comment": "x" * 4001}, "'comment' has 4001 characters: send at most 4000."),
    ({"type": "rating", "value": 1, "receipt": 12345}, "'receipt' is not valid: input should be a valid string."),
    ({"type": "rating", "value": 1, "idempotency_key": 12345}, "'idempotency_key' is not valid: input should be a valid string."),
    ({"type": "rating", "score": 1}, "'value' is missing: send -1, 0 or 1. 'score', which was sent, is no field of this."),
    ({"type": "score", "value": 1}, "'metric' is missing: send it too."),
    ({"value": 1}, f"'type' is missing: send {TYPES}."),
    ({"type": "retract"}, f"'kind' is missing: send {KINDS}."),
    ("rating", "The body must be one JSON object, or a list of up to 100 of them."),
]


@pytest.mark.parametrize(("body", "message"), TOLD)
def test_an_error_names_field_value_and_fix_and_repeats_no_secret(served: Gateway, body: Any, message: str):
    assert error_of(served.http.post("/v1/feedback", json=body), 400)["message"] == message


def test_an_entry_of_a_list_is_told_of_as_an_entry(served: Gateway):
    (outcome,) = served.http.post("/v1/feedback", json=["rating"]).json()["data"]
    assert outcome["error"]["message"] == "Each entry must be one JSON object."


def test_rating_a_comparison_says_which_field_to_send(served: Gateway, pair: dict[str, Any]):
    before = served.written()
    error = error_of(served.feedback(type="rating", value=1, receipt=pair["receipt"]), 400)
    assert error["param"] == "completion_id"
    assert "'preference'" in error["message"]
    for wrong in (3, "c", "A"):
        assert error_of(served.feedback(type="preference", value=wrong, receipt=pair["receipt"]), 400)["param"] == "value"
    late = served.feedback(type="preference", value="a", decision_ms=-1, receipt=pair["receipt"])
    assert error_of(late, 400)["param"] == "decision_ms"
    assert served.written() == before


def test_an_altered_an_expired_and_a_foreign_receipt_are_refused_and_nothing_is_written(served: Gateway, single: dict[str, Any]):
    before = served.written()
    for receipt in (changed(single["receipt"]), "nonsense", single["receipt"] * 300):
        error = error_of(served.feedback(type="rating", value=1, receipt=receipt), 401)
        assert (error["param"], error["code"]) == ("receipt", "receipt_invalid")
    receipts = Receipts([subkey(load_secret(served.settings), "receipts")])
    old = receipts.open(single["receipt"]).model_copy(update={"expires": time.time() - 1})
    error = error_of(served.feedback(type="rating", value=1, receipt=receipts.seal(old)), 400)
    assert (error["param"], error["code"]) == ("receipt", "receipt_expired")
    secret, _ = served.keys.create("other", "app", "stranger")
    headers = {"authorization": f"Bearer {secret}"}
    body = {"type": "rating", "value": 1}
    sealed = served.http.post("/v1/feedback", headers=headers, json=body | {"receipt": single["receipt"]})
    refusal = error_of(sealed, 403)
    assert refusal["param"] == "receipt"
    assert refusal["message"].endswith(": send a key of that project, or the receipt alone.")
    named = served.http.post("/v1/feedback", headers=headers, json=body | {"completion_id": single["completion_id"]})
    assert error_of(named, 404)["code"] == "unknown_completion"
    assert served.written() == before


def test_an_unknown_completion_and_feedback_about_nothing_are_refused(served: Gateway):
    before = served.written()
    body = {"type": "rating", "value": 1}
    unknown = served.http.post("/v1/feedback", headers=served.bearer, json=body | {"completion_id": "chatcmpl-none"})
    error = error_of(unknown, 404)
    assert (error["param"], error["code"]) == ("completion_id", "unknown_completion")
    assert error_of(served.http.post("/v1/feedback", headers=served.bearer, json=body), 400)["param"] == "completion_id"
    assert error_of(served.feedback(**body), 401)["param"] == "receipt"
    assert error_of(served.feedback(**body, completion_id="chatcmpl-none"), 401)["param"] == "receipt"
    assert served.written() == before


def test_an_answer_that_failed_cannot_be_rated(served: Gateway, upstream: ChatUpstream):
    text = "break now"
    stream = served.openai.chat.completions.create(model="default", messages=question(text)["messages"], stream=True)
    with pytest.raises(openai.APIError):
        list(stream)
    (event,) = until(lambda: served.completions_of(text))
    body = {"type": "rating", "value": 1, "completion_id": event.completion_id}
    assert error_of(served.http.post("/v1/feedback", headers=served.bearer, json=body), 404)["code"] == "unknown_completion"


def test_after_a_restart_answers_are_found_in_the_log(tmp_path: Path, upstream: ChatUpstream):
    with gateway(tmp_path, upstream) as before:
        key = before.key
        single, pair = before.chat(user="ada")["plaudit"], before.chat(n=2, compare=True, user="ada")["plaudit"]
        user = before.completion(single["completion_id"]).user
    with gateway(tmp_path, upstream) as after:
        headers = {"authorization": f"Bearer {key}"}
        for body in (
            {"type": "rating", "value": 1, "completion_id": single["completion_id"]},
            {"type": "preference", "value": "a", "comparison_id": pair["comparison_id"]},
        ):
            assert after.http.post("/v1/feedback", headers=headers, json=body).status_code == 201
        rating, preference = after.facts()
        assert rating.rater == preference.rater == user
        assert preference.target.completion_ids == tuple(pair["completion_ids"])


class FullDisk(SqliteLog):
    """The log of a disk that is full."""

    def submit(self, event):
        return refused(LogUnavailable("disk full"))


def test_a_log_that_cannot_write_is_a_503_while_chat_goes_on(tmp_path: Path, upstream: ChatUpstream):
    from ops.settings import load_settings

    settings = load_settings(data_dir=tmp_path, engine_urls=(upstream.url,), secret="a secret for tests, long enough", page="on")
    log = FullDisk(settings.log_path)
    with serving_app(create_app(settings, log=log)) as url:
        keys = KeyStore(settings)
        secret, _ = keys.create("default", "app")
        keys.close()
        with httpx.Client(base_url=url, timeout=15) as client:
            until(lambda: client.get("/readyz").status_code == 200, 20)
            chat = client.post("/v1/chat/completions", headers={"authorization": f"Bearer {secret}"}, json=question())
            assert chat.status_code == 200
            reply = client.post("/v1/feedback", json={"type": "rating", "value": 1, "receipt": chat.json()["plaudit"]["receipt"]})
            assert error_of(reply, 503)["code"] == "log_unavailable"
            assert int(reply.headers["retry-after"]) >= 1
    log.close()


def votes_on(served: Gateway, completion_id: str) -> list[Vote]:
    joiner = Joiner("default")
    for topic in ("completions", "feedback"):
        joiner.extend(TopicReader(served.log, topic).drain())
    return [vote for vote in joiner.votes() if completion_id in vote.target.completion_ids]


def test_a_receipt_replayed_a_hundred_times_at_once_is_one_vote(served: Gateway):
    about = served.chat(user="replayed")["plaudit"]
    body = {"type": "rating", "value": 1, "receipt": about["receipt"]}
    before = served.written()
    with httpx.Client(base_url=served.url, timeout=30) as client, ThreadPoolExecutor(25) as pool:
        replies = list(pool.map(lambda _: client.post("/v1/feedback", json=body).status_code, range(100)))
    assert replies == [201] * 100
    assert served.written() == before + 100, "each is a fact of its own"
    served.completion(about["completion_id"])
    (vote,) = votes_on(served, about["completion_id"])
    assert vote.judgement == Rating(value=1)


def test_a_request_repeated_a_hundred_times_at_once_is_written_once(served: Gateway, single: dict[str, Any]):
    body = {"type": "rating", "value": 1, "receipt": single["receipt"]}
    before = served.written()
    headers = {"idempotency-key": "hundred"}
    with httpx.Client(base_url=served.url, timeout=30, headers=headers) as client, ThreadPoolExecutor(25) as pool:
        replies = list(pool.map(lambda _: client.post("/v1/feedback", json=body), range(100)))
    assert {reply.status_code for reply in replies} == {201}
    assert len({reply.json()["id"] for reply in replies}) == 1
    assert served.written() == before + 1


def test_a_receipt_says_nothing_about_other_answers(served: Gateway, single: dict[str, Any], pair: dict[str, Any]):
    before = served.written()
    for body in (
        {"type": "rating", "value": 1, "completion_id": pair["completion_ids"][0]},
        {"type": "rating", "value": 1, "completion_ids": pair["completion_ids"]},
        {"type": "preference", "value": "a", "comparison_id": pair["comparison_id"]},
    ):
        error_of(served.feedback(**body, receipt=single["receipt"]), 400)
        error_of(served.http.post("/v1/feedback", headers=served.bearer, json=body | {"receipt": single["receipt"]}), 400)
    swapped = pair["completion_ids"][::-1]
    error = error_of(served.feedback(type="preference", value="a", completion_ids=swapped, receipt=pair["receipt"]), 400)
    assert error["param"] == "completion_ids", "the display order is the receipt's"
    assert served.written() == before


def test_receipts_of_before_and_after_a_rotation_are_good_and_a_dropped_keys_are_not(tmp_path: Path, upstream: ChatUpstream):
    with gateway(tmp_path, upstream) as running:
        keys = ReceiptKeys.of(running.settings)
        before = running.chat()["plaudit"]["receipt"]
        keys.rotate(running.settings.limits.receipt_days, time.time())
        body = {"type": "rating", "value": 1}
        sealed = Receipts(keys).seal(Receipts(keys).open(before))
        assert running.feedback(**body, receipt=sealed).status_code == 201, "a key not read yet is read at once"
        assert running.feedback(**body, receipt=before).status_code == 201
        after = running.chat()["plaudit"]["receipt"]
        with pytest.raises(ReceiptInvalid):
            Receipts([subkey(load_secret(running.settings), "receipts")]).open(after)
        keys.rotate(0, time.time() + 7200)
        forgotten = until(lambda: running.feedback(**body, receipt=before).status_code == 401, 5)
        assert forgotten
        assert running.feedback(**body, receipt=after).status_code == 201, "the key that sealed until now still opens"
