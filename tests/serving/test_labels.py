"""Labeling over HTTP: annotators' routes, operators' routes, and a conversation of an annotator with the model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from chat_upstream import ChatUpstream
from gateway_parts import Gateway, error_of, gateway, question, serving_app, until

from feedback.events import FeedbackSet
from feedback.log import LogUnavailable
from serving.admin import create_admin_app
from serving.keys import ALL_PROJECTS


class Program:
    """A gateway, its admin port, and keys for annotators and an operator."""

    def __init__(self, served: Gateway, admin: str) -> None:
        self.served = served
        self.annotators = {name: self._key("annotator", name) for name in ("ann", "bob")}
        self._operator = {"authorization": f"Bearer {served.keys.create(ALL_PROJECTS, 'operator')[0]}"}
        self._admin = admin

    def _key(self, role: Any, name: str) -> dict[str, str]:
        return {"authorization": f"Bearer {self.served.keys.create('default', role, name)[0]}"}

    def operate(self, method: str, path: str, body: Any = None) -> httpx.Response:
        return httpx.request(method, self._admin + "/admin/v1" + path, headers=self._operator, json=body, timeout=15)

    def stream(self, name: str, **plan: Any) -> dict[str, Any]:
        reply = self.operate("POST", "/projects/default/labels", {"name": name, "kind": "rating"} | plan)
        assert reply.status_code == 201, reply.text
        made: dict[str, Any] = reply.json()
        return made

    def next(self, stream: str, who: str = "ann") -> httpx.Response:
        return self.served.http.get("/v1/label/next", params={"stream": stream}, headers=self.annotators[who])

    def answer(self, task: str, who: str = "ann", **body: Any) -> httpx.Response:
        return self.served.http.post(f"/v1/label/{task}", json=body, headers=self.annotators[who])

    def answered(self, text: str, **more: Any) -> list[str]:
        """The ids of what the model answered, once it is in the log."""
        ids: list[str] = self.served.chat(**question(text), **more)["plaudit"]["completion_ids"]
        for id in ids:
            self.served.completion(id)
        return ids

    def facts(self) -> list[FeedbackSet]:
        return [fact for fact in self.served.facts() if isinstance(fact, FeedbackSet)]


class _NothingLive:
    def is_live(self, adapter: str) -> bool:
        return False


@pytest.fixture(scope="module")
def program(_upstream: ChatUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with gateway(Path(tmp_path_factory.mktemp("data")), _upstream) as running:
        admin = create_admin_app(running.settings, running.keys, None, running.log, _NothingLive())  # type: ignore[arg-type]
        with serving_app(admin) as url:
            yield Program(running, url)


def test_a_stream_is_made_from_the_log_worked_on_and_closed(program: Program):
    (first,), (second,) = program.answered("say one"), program.answered("say two")
    made = program.stream("work", guideline="Be fair.", overlap=2, lease_s=600)
    assert (made["items"], made["golden_items"], made["plan"]["overlap"]) == (2, 0, 2)
    reply = program.next("work")
    task = reply.json()
    assert reply.status_code == 200
    assert (task["object"], task["kind"], task["guideline"], task["name"]) == ("label.task", "rating", "Be fair.", "work")
    assert task["lease_until"] - task["handed_out"] == 600
    assert {(task["messages"][-1]["content"], task["answers"][0]["content"])} < {("say one", "one"), ("say two", "two")}
    assert len(task["answers"]) == 1
    kept = program.answer(task["id"], type="rating", value=-1, tags=["inaccurate"], decision_ms=0)
    assert kept.status_code == 201
    assert kept.json()["id"] == task["id"]
    (fact,) = program.facts()
    assert [fact.feedback_id] == kept.json()["feedback"]
    assert (fact.source, fact.stream, fact.task, fact.judgement.decision_ms) == ("annotator", made["id"], task["id"], 0)
    assert fact.target.completion_ids[0] in (first, second)
    (event,) = program.served.events("feedback")
    assert event.key == program.served.completion(fact.target.completion_ids[0]).conversation, "it shares its partition"
    shown = program.operate("GET", f"/labels/{made['id']}").json()
    assert (shown["figures"]["answered"], shown["raters"], shown["complete"]) == (1, 1, 0)
    (rater,) = program.operate("GET", f"/labels/{made['id']}/raters").json()["data"]
    assert (rater["rater"], rater["admitted"], rater["figures"]["answered"]) == (fact.rater, True, 1)
    assert program.operate("POST", f"/labels/{made['id']}/close").json()["closed"] is not None
    assert program.next("work").status_code == 204
    streams = program.served.http.get("/v1/label/streams", headers=program.annotators["ann"]).json()["data"]
    assert [(s["name"], s["open"], s["admitted"]) for s in streams] == [("work", False, True)]


def test_a_thumb_without_and_with_a_task_is_the_same_persons(program: Program):
    (id,) = program.answered("say three")
    stream = program.stream("same", source={"rule": "listed"})
    assert program.operate("POST", f"/labels/{stream['id']}/items", {"items": [{"completion_ids": [id]}]}).json() == {"added": 1}
    task = program.next(stream["id"]).json()
    program.answer(task["id"], type="rating", value=1)
    body = {"type": "rating", "value": -1, "completion_id": id}
    assert program.served.http.post("/v1/feedback", json=body, headers=program.annotators["ann"]).status_code == 201
    assert len({fact.rater for fact in program.facts() if fact.target.id == id}) == 1


def test_golden_items_are_added_by_operators_and_count_for_the_entry_test(program: Program):
    (good,), (bad,) = program.answered("say good"), program.answered("say bad")
    stream = program.stream("test", source={"rule": "listed"}, entry_test={"items": 1, "share": 1.0})
    assert program.operate("GET", f"/labels/{stream['id']}").json()["missing_golden"] == 1
    items = [{"completion_ids": [good], "right": 1}, {"completion_ids": [bad]}]
    assert program.operate("POST", f"/labels/{stream['id']}/items", {"items": items}).json() == {"added": 2}
    assert program.operate("POST", f"/labels/{stream['id']}/items", {"items": items}).json() == {"added": 0}
    golden, real = (program.next("test", who).json() for who in ("ann", "bob"))
    assert set(golden) == set(real)
    assert program.answer(golden["id"], "ann", type="rating", value=1).status_code == 201
    assert program.answer(real["id"], "bob", type="rating", value=-1).status_code == 201
    assert program.next("test", "ann").json()["answers"] == [{"content": "bad", "tool_calls": []}]
    assert error_of(program.next("test", "bob"), 403)["code"] == "entry_test_failed"
    said = sorted((fact.source, fact.judgement.value) for fact in program.facts() if fact.target.id == good)
    assert said == [("annotator", -1), ("annotator", 1), ("golden", 1)]
    changed = program.operate("POST", f"/labels/{stream['id']}/items", {"items": [{"completion_ids": [good], "right": -1}]})
    assert error_of(changed, 409)["code"] == "item_exists"


WRONG_ITEMS: list[tuple[dict[str, Any], int, str]] = [
    ({"completion_ids": ["chatcmpl-none"]}, 404, "items[0].completion_ids"),
    ({"completion_ids": []}, 400, "items[0].completion_ids"),
    ({"completion_ids": ["{one}", "{two}"]}, 400, "items[0].completion_ids"),
    ({"completion_ids": ["{one}"], "right": 2}, 400, "right"),
    ({"completion_ids": ["{one}"], "right": "yes"}, 400, "right"),
]


@pytest.mark.parametrize(("item", "status", "param"), WRONG_ITEMS)
def test_items_that_cannot_be_judged_are_refused_and_none_is_added(program: Program, item: Any, status: int, param: str):
    named = {"{one}": program.answered("say a")[0], "{two}": program.answered("say b")[0]}
    item = item | {"completion_ids": [named.get(id, id) for id in item["completion_ids"]]}
    name = f"wrong-{len(program.operate('GET', '/projects/default/labels').json()['data'])}"
    stream = program.stream(name, source={"rule": "listed"})
    reply = program.operate("POST", f"/labels/{stream['id']}/items", {"items": [item]})
    assert error_of(reply, status)["param"] == param
    assert program.operate("GET", f"/labels/{stream['id']}").json()["items"] == 0


WRONG_STREAMS: list[tuple[dict[str, Any], int, str | None]] = [
    ({"kind": "thumb"}, 400, "kind"),
    ({"name": "No Name"}, 400, "name"),
    ({"kind": "score"}, 400, "metric"),
    ({"metric": "resolved"}, 400, "metric"),
    ({"source": {"rule": "live"}, "overlap": 2}, 400, "overlap"),
    ({"source": {"rule": "best"}}, 400, "source"),
    ({"overlap": 0}, 400, "overlap"),
    ({"golden_rate": 0.9}, 400, "golden_rate"),
    ({"stars": 5}, 400, "stars"),
]


@pytest.mark.parametrize(("more", "status", "param"), WRONG_STREAMS)
def test_a_stream_that_cannot_be_is_refused_by_field(program: Program, more: Any, status: int, param: str | None):
    before = program.operate("GET", "/projects/default/labels").json()
    body = {"name": "never", "kind": "rating"} | more
    error = error_of(program.operate("POST", "/projects/default/labels", body), status)
    assert (error["param"], "None" in error["message"]) == (param, False)
    assert program.operate("GET", "/projects/default/labels").json() == before


def test_a_streams_name_is_taken_once(program: Program):
    program.stream("once", source={"rule": "listed"})
    body = {"name": "once", "kind": "rating"}
    assert error_of(program.operate("POST", "/projects/default/labels", body), 409)["code"] == "stream_exists"


def test_what_is_unknown_is_told(program: Program):
    assert error_of(program.next("nothing"), 404)["param"] == "stream"
    assert error_of(program.next(""), 400)["param"] == "stream"
    assert error_of(program.answer("task_none", type="rating", value=1), 404)["code"] == "unknown_task"
    assert error_of(program.operate("GET", "/labels/stream_none"), 404)["param"] == "stream"


def test_201_means_on_disk_and_without_the_log_nothing_is_taken_and_the_task_stays_open(program: Program):
    (id,) = program.answered("say durable")
    stream = program.stream("durable", source={"rule": "listed"})
    program.operate("POST", f"/labels/{stream['id']}/items", {"items": [{"completion_ids": [id]}]})
    task = program.next("durable").json()
    before = len(program.facts())
    program.served.log.broken = LogUnavailable("the disk is full")
    try:
        reply = program.answer(task["id"], type="rating", value=1)
    finally:
        program.served.log.broken = None
    assert error_of(reply, 503)["code"] == "log_unavailable"
    assert reply.headers["retry-after"] == "1"
    assert len(program.facts()) == before
    assert program.next("durable").json()["id"] == task["id"]
    assert program.answer(task["id"], type="rating", value=1).status_code == 201
    assert len(program.facts()) == before + 1


def test_a_limited_key_is_counted_also_here(program: Program):
    from serving.keys import KeyLimits

    secret = program.served.keys.create("default", "annotator", limits=KeyLimits(requests_per_min=1))[0]
    headers = {"authorization": f"Bearer {secret}"}
    first = program.served.http.get("/v1/label/next?stream=once", headers=headers)
    assert (first.status_code, first.headers["x-ratelimit-remaining-requests"]) == (204, "0")
    assert error_of(program.served.http.get("/v1/label/streams", headers=headers), 429)["code"] == "rate_limit_exceeded"


def test_an_annotator_converses_with_the_model_in_a_task_and_rates_every_answer(program: Program):
    program.stream("talk", source={"rule": "live", "topics": ["cats"], "turns": 2}, quota=1)
    task = program.next("talk").json()
    assert (task["kind"], task["topic"], task["turns"], task["answers"]) == ("conversation", "cats", 2, [])
    chat = "/v1/chat/completions"

    def ask(text: str, conversation: str | None) -> httpx.Response:
        body = question(text) | ({} if conversation is None else {"conversation": conversation})
        return program.served.http.post(chat, json=body, headers=program.annotators["ann"])

    error_of(ask("say hi", None), 403)
    error_of(ask("say hi", "my own"), 403)
    answers = [ask(text, task["id"]).json() for text in ("say hi", "say ho")]
    until(lambda: len([c for c in program.served.events("completions") if c.key == task["id"]]) == 2)
    receipts = [answer["plaudit"]["receipt"] for answer in answers]
    said = [{"receipt": receipt, "value": 1} for receipt in receipts]
    error_of(program.answer(task["id"], type="rating", value=1), 400)
    broken = [{"receipt": "broken", "value": 1}, said[1]]
    for place, judgements in enumerate((broken, broken[::-1])):
        error = error_of(program.answer(task["id"], type="conversation", judgements=judgements), 401)
        assert (error["param"], error["code"]) == (f"judgements[{place}].receipt", "receipt_invalid")
        assert error["message"].startswith(f"'judgements[{place}].receipt' is not valid: send it exactly")
    reply = program.answer(task["id"], type="conversation", judgements=said)
    assert reply.status_code == 201, reply.text
    facts = [fact for fact in program.facts() if fact.task == task["id"]]
    assert {fact.target.id for fact in facts} == {answer["id"] for answer in answers}
    assert program.next("talk", "bob").status_code == 204
    error_of(ask("say more", task["id"]), 403)
