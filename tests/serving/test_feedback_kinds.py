"""``POST /v1/feedback``: every kind there is, lists of them, second thoughts, and requests that come twice or late."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from chat_upstream import ChatUpstream
from gateway_parts import Gateway, error_of, question, serving_app, until

from feedback.events import Correction, Event, FeedbackSet, Flag, Implicit, Preference, Ranking, Rating, Score
from feedback.join import Joiner
from feedback.log import LogUnavailable, Position, TopicReader, refused
from feedback.sqlite_log import SqliteLog
from ops.settings import load_settings
from serving.app import create_app
from serving.keys import KeyStore


@pytest.fixture
def single(served: Gateway) -> dict[str, Any]:
    about: dict[str, Any] = served.chat(user="ada")["plaudit"]
    return about


@pytest.fixture
def pair(served: Gateway) -> dict[str, Any]:
    about: dict[str, Any] = served.chat(user="ada", n=2, compare=True)["plaudit"]
    return about


def standing(served: Gateway, about: dict[str, Any]) -> list[Any]:
    """What holds of these answers, by the log alone."""
    for id in about["completion_ids"]:
        served.completion(id)  # waits until it is in the log
    joiner = Joiner("default")
    for topic in ("completions", "feedback"):
        joiner.extend(TopicReader(served.log, topic).drain())
    return [vote.judgement for vote in joiner.votes() if set(vote.target.completion_ids) & set(about["completion_ids"])]


KINDS: list[tuple[dict[str, Any], Any]] = [
    (
        {"type": "rating", "value": 1, "comment": "good", "decision_ms": 900},
        Rating(value=1, comment="good", decision_ms=900),
    ),
    ({"type": "correction", "text": "It is 5.", "comment": "sum"}, Correction(text="It is 5.", comment="sum")),
    ({"type": "score", "metric": "resolved", "value": True}, Score(metric="resolved", value=1, boolean=True)),
    ({"type": "score", "metric": "csat", "value": 0.25}, Score(metric="csat", value=0.25)),
    ({"type": "flag", "harms": ["hate", "toxicity", "hate"]}, Flag(harms=("hate", "toxicity"))),
    ({"type": "implicit", "action": "copy"}, Implicit(action="copy")),
    ({"type": "implicit", "action": "dwell", "ms": 4200}, Implicit(action="dwell", ms=4200)),
]


@pytest.mark.parametrize(("body", "judgement"), KINDS)
def test_each_kind_about_one_answer_is_kept_as_said(
    served: Gateway, single: dict[str, Any], body: dict[str, Any], judgement: Any
):
    reply: Any = served.openai.post("/feedback", cast_to=object, body=body | {"receipt": single["receipt"]})
    fact = served.facts()[-1]
    assert isinstance(fact, FeedbackSet)
    assert (fact.feedback_id, fact.judgement) == (reply["id"], judgement)
    assert standing(served, single) == [judgement]


@pytest.mark.parametrize("value", ["a", "b", "tie", "both_bad", "both_good"])
def test_a_preference_may_be_for_either_none_or_both(served: Gateway, pair: dict[str, Any], value: str):
    assert served.feedback(type="preference", value=value, receipt=pair["receipt"]).status_code == 201
    assert standing(served, pair) == [Preference(value=value)]


def test_a_ranking_is_of_all_answers_that_came_together_and_may_have_ties(served: Gateway):
    about = served.chat(user="ada", n=3)["plaudit"]
    assert served.feedback(type="ranking", ranks=[2, 1, 2], receipt=about["receipt"]).status_code == 201
    fact = served.facts()[-1]
    assert isinstance(fact, FeedbackSet)
    assert fact.target.completion_ids == tuple(about["completion_ids"])
    assert standing(served, about) == [Ranking(ranks=(2, 1, 2))]
    for wrong, said in (([1, 2], "3 answers"), ([1, 3, 3], "without a gap"), ([0, 1, 2], "1 for the best")):
        error = error_of(served.feedback(type="ranking", ranks=wrong, receipt=about["receipt"]), 400)
        assert error["param"] == "ranks"
        assert said in error["message"]


def test_feedback_carries_the_key_that_asked_for_the_answer_or_gave_the_feedback(served: Gateway, single: dict[str, Any]):
    body = {"type": "rating", "value": 1}
    (key,) = [info for info in served.keys.list("default") if info.name == "tests"]
    assert served.feedback(**body, receipt=single["receipt"]).status_code == 201
    assert served.facts()[-1].key_id == key.id
    secret, other = served.keys.create("default", "app", "second application")
    headers = {"authorization": f"Bearer {secret}"}
    named = body | {"completion_id": single["completion_id"]}
    assert served.http.post("/v1/feedback", headers=headers, json=named).status_code == 201
    assert served.facts()[-1].key_id == other.id


def test_the_latest_of_a_kind_and_name_holds_and_kinds_stand_beside_each_other(served: Gateway, single: dict[str, Any]):
    said = [
        {"type": "rating", "value": 1},
        {"type": "score", "metric": "csat", "value": 0.5},
        {"type": "score", "metric": "resolved", "value": False},
        {"type": "score", "metric": "csat", "value": 1},
        {"type": "rating", "value": -1},
    ]
    for body in said:
        assert served.feedback(**body, receipt=single["receipt"]).status_code == 201
    assert standing(served, single) == [
        Score(metric="resolved", value=0, boolean=True),
        Score(metric="csat", value=1),
        Rating(value=-1),
    ]


def test_a_flaky_clients_late_retry_changes_nothing(served: Gateway, single: dict[str, Any]):
    for sequence, value in ((2, -1), (1, 1)):
        body = {"type": "rating", "value": value, "client_sequence": sequence, "receipt": single["receipt"]}
        assert served.feedback(**body).status_code == 201
    assert standing(served, single) == [Rating(value=-1)]


def test_an_amendment_changes_what_it_names_and_a_retraction_takes_all_of_it_back(served: Gateway, single: dict[str, Any]):
    about = {"receipt": single["receipt"]}
    assert served.feedback(type="rating", value=-1, comment="hm", **about).status_code == 201
    changes = {"value": -1, "tags": ["too_long"]}
    assert served.feedback(type="amend", kind="rating", changes=changes, **about).status_code == 201
    assert standing(served, single) == [Rating(value=-1, tags=("too_long",), comment="hm")]
    assert served.feedback(type="amend", kind="rating", changes={"comment": "far too long"}, **about).status_code == 201
    assert standing(served, single) == [Rating(value=-1, tags=("too_long",), comment="far too long")]
    assert served.feedback(type="score", metric="csat", value=0, **about).status_code == 201
    assert served.feedback(type="amend", kind="score", metric="csat", changes={"value": True}, **about).status_code == 201
    assert served.feedback(type="retract", kind="rating", **about).status_code == 201
    assert standing(served, single) == [Score(metric="csat", value=1, boolean=True)]
    assert served.feedback(type="retract", kind="score", metric="csat", **about).status_code == 201
    assert standing(served, single) == []


def test_a_score_may_be_called_name_and_an_action_is_named_as_it_was_said(served: Gateway, single: dict[str, Any]):
    about = {"receipt": single["receipt"]}
    for body in (
        {"type": "score", "name": "csat", "value": 0.5},
        {"type": "amend", "kind": "score", "name": "csat", "changes": {"value": 1}},
        {"type": "implicit", "action": "copy"},
        {"type": "implicit", "action": "stop"},
        {"type": "retract", "kind": "implicit", "action": "copy"},
    ):
        assert served.feedback(**body, **about).status_code == 201
    assert standing(served, single) == [Score(metric="csat", value=1), Implicit(action="stop")]
    assert served.feedback(type="retract", kind="implicit", name="stop", **about).status_code == 201
    assert standing(served, single) == [Score(metric="csat", value=1)]


@pytest.mark.parametrize(
    ("kind", "said", "changes", "holds"),
    [
        ("preference", {"value": "a"}, {"value": "tie"}, Preference(value="tie")),
        ("ranking", {"ranks": [1, 2]}, {"ranks": [1, 1]}, Ranking(ranks=(1, 1))),
    ],
)
def test_what_was_said_of_several_answers_can_be_amended_too(
    served: Gateway, pair: dict[str, Any], kind: str, said: dict[str, Any], changes: dict[str, Any], holds: Any
):
    assert served.feedback(type=kind, receipt=pair["receipt"], **said).status_code == 201
    assert served.feedback(type="amend", kind=kind, changes=changes, receipt=pair["receipt"]).status_code == 201
    assert standing(served, pair) == [holds]


@pytest.mark.parametrize("kind", ["preference", "ranking"])
@pytest.mark.parametrize("earlier", [{"type": "retract"}, {"type": "amend", "changes": {"comment": "hm"}}])
def test_who_takes_back_the_wrong_kind_is_told_of_kinds_and_of_nothing_that_votes(
    served: Gateway, single: dict[str, Any], kind: str, earlier: dict[str, Any]
):
    before = served.written()
    error = error_of(served.feedback(**earlier, kind=kind, receipt=single["receipt"]), 400)
    assert (error["param"], error["code"]) == ("kind", "wrong_feedback_type")
    assert error["message"].endswith(
        f": 'kind' is '{kind}': send the kind of what was said of it, 'rating', 'correction', 'score', 'flag' or 'implicit'."
    )
    assert served.written() == before


def test_who_takes_back_a_thumb_of_a_comparison_is_told_which_kind_it_has(served: Gateway, pair: dict[str, Any]):
    error = error_of(served.feedback(type="retract", kind="rating", receipt=pair["receipt"]), 400)
    assert error["param"] == "completion_id"
    assert error["message"].endswith("name its 'completion_id', or send kind 'preference'.")


@pytest.mark.parametrize("earlier", [{"type": "retract"}, {"type": "amend", "changes": {"value": 1}}])
def test_who_amends_or_takes_back_what_may_never_have_been_said_is_told_on_what_it_depends(
    served: Gateway, single: dict[str, Any], earlier: dict[str, Any]
):
    body = {**earlier, "kind": "score", "metric": "never_said", "receipt": single["receipt"]}
    told = "Takes effect only if a score 'never_said' of the same person and answer stands, which is not looked up."
    alone = served.feedback(**body)
    assert (alone.status_code, alone.json()["condition"]) == (201, told)
    vote = {"type": "rating", "value": 1, "receipt": single["receipt"]}
    listed, voted = served.http.post("/v1/feedback", json=[body, vote]).json()["data"]
    assert (listed["status"], listed["condition"]) == (201, told)
    assert "condition" not in voted
    assert standing(served, single) == [Rating(value=1)]


@pytest.mark.parametrize(("ranks", "param"), [([1, 3], "changes.ranks"), (["1", "2"], "changes.ranks[0]")])
def test_a_ranking_is_not_amended_to_what_is_none(served: Gateway, pair: dict[str, Any], ranks: list[Any], param: str):
    body = {"type": "amend", "kind": "ranking", "changes": {"ranks": ranks}, "receipt": pair["receipt"]}
    assert error_of(served.feedback(**body), 400)["param"] == param


def test_a_ranking_is_not_amended_to_another_number_of_answers(served: Gateway, pair: dict[str, Any]):
    body = {"type": "amend", "kind": "ranking", "changes": {"ranks": [1, 2, 3]}, "receipt": pair["receipt"]}
    assert error_of(served.feedback(**body), 400)["param"] == "changes.ranks"


def test_a_list_is_answered_with_an_outcome_for_each_and_one_wrong_entry_harms_no_other(
    served: Gateway, single: dict[str, Any], pair: dict[str, Any]
):
    before = served.written()
    entries = [
        {"type": "rating", "value": 1, "receipt": single["receipt"]},
        {"type": "rating", "value": 7, "receipt": single["receipt"]},
        {"type": "preference", "value": "b", "receipt": "nonsense"},
        {"type": "preference", "value": "b", "receipt": pair["receipt"]},
        "what?",
    ]
    reply = served.http.post("/v1/feedback", json=entries)
    assert reply.status_code == 207
    assert reply.json()["object"] == "list"
    outcomes = reply.json()["data"]
    assert [(o["index"], o["status"]) for o in outcomes] == [(0, 201), (1, 400), (2, 401), (3, 201), (4, 400)]
    assert [o["error"]["param"] for o in outcomes if o["status"] != 201] == ["value", "receipt", None]
    assert served.written() == before + 2
    assert {outcomes[0]["id"], outcomes[3]["id"]} == {event.id for event in served.events("feedback")[-2:]}


def test_a_list_repeated_under_its_idempotency_key_or_its_entries_keys_has_one_effect(served: Gateway, single: dict[str, Any]):
    before = served.written()
    about = {"receipt": single["receipt"]}
    entries = [{"type": "rating", "value": 1, **about}, {"type": "score", "metric": "csat", "value": 1, **about}]
    replies = [served.http.post("/v1/feedback", json=entries, headers={"idempotency-key": "list"}) for _ in range(2)]
    assert replies[0].json()["data"] == replies[1].json()["data"]
    assert served.written() == before + 2
    own = [{**entry, "idempotency_key": f"own {at}"} for at, entry in enumerate(entries)]
    with ThreadPoolExecutor(10) as pool:
        outcomes = list(pool.map(lambda _: served.http.post("/v1/feedback", json=own).json()["data"], range(10)))
    assert len({tuple(outcome["id"] for outcome in data) for data in outcomes}) == 1
    assert served.written() == before + 4


@pytest.mark.parametrize("body", [b"[]", b"[" * 500, b"[{]", b"[NaN]", b"[" + b"1," * 100 + b"1]"])
def test_a_list_that_is_none_or_too_long_is_refused_whole(served: Gateway, body: bytes):
    before = served.written()
    error_of(served.http.post("/v1/feedback", content=body, headers={"content-type": "application/json"}), 400)
    assert served.written() == before


@contextmanager
def over(log: SqliteLog, upstream: ChatUpstream) -> Iterator[httpx.Client]:
    """A client, with a key, of a gateway that is ready and writes to this log."""
    secret = "a secret for tests, long enough"
    settings = load_settings(data_dir=log.path.parent, engine_urls=(upstream.url,), secret=secret)
    with serving_app(create_app(settings, log=log)) as url, httpx.Client(base_url=url, timeout=15) as client:
        keys = KeyStore(settings.database_path)
        client.headers["authorization"] = f"Bearer {keys.create('default', 'app')[0]}"
        keys.close()
        until(lambda: client.get("/readyz").status_code == 200)
        yield client
    log.close()


class SometimesFull(SqliteLog):
    """The log of a disk that can be filled up and cleared."""

    full = False

    def submit(self, event: Event) -> Future[Position]:
        return refused(LogUnavailable("disk full")) if self.full else super().submit(event)


def test_a_list_of_which_nothing_could_be_kept_is_a_503(tmp_path: Path, upstream: ChatUpstream):
    log = SometimesFull(tmp_path / "log.db")
    with over(log, upstream) as client:
        receipt = client.post("/v1/chat/completions", json=question()).json()["plaudit"]["receipt"]
        entry = {"type": "rating", "value": 1, "receipt": receipt}
        log.full = True
        reply = client.post("/v1/feedback", json=[entry, entry])
        error_of(reply, 503)
        assert reply.headers["retry-after"]
        half = client.post("/v1/feedback", json=[entry, {"type": "rating", "value": 9, "receipt": receipt}])
        assert [outcome["status"] for outcome in half.json()["data"]] == [503, 400]
        log.full = False
        assert client.post("/v1/feedback", json=[entry]).json()["data"][0]["status"] == 201


class Slow(SqliteLog):
    """A log that writes answers down only when it is let."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.go_on = threading.Event()

    def append(self, events: Sequence[Event], timeout: float = 10.0) -> list[Position]:
        self.go_on.wait(20)
        return super().append(events, timeout)


def test_no_judgement_is_acknowledged_before_the_answer_it_is_about_is_in_the_log(tmp_path: Path, upstream: ChatUpstream):
    log = Slow(tmp_path / "log.db")
    with over(log, upstream) as client:
        about = client.post("/v1/chat/completions", json=question()).json()["plaudit"]
        with ThreadPoolExecutor(1) as pool:
            said = pool.submit(client.post, "/v1/feedback", json={"type": "rating", "value": 1, "receipt": about["receipt"]})
            with pytest.raises(TimeoutError):
                said.result(0.5)
            log.go_on.set()
            assert said.result(15).status_code == 201
        answer, vote = (TopicReader(log, topic).drain() for topic in ("completions", "feedback"))
        assert [record.event.data.completion_id for record in answer] == [about["completion_id"]]
        assert len(vote) == 1


def test_a_list_of_unknown_answers_is_refused_in_the_time_of_one(served: Gateway):
    entries = [{"type": "rating", "value": 1, "completion_id": f"chatcmpl-{number}"} for number in range(50)]
    reply = served.http.post("/v1/feedback", headers=served.bearer, json=entries, timeout=10)
    assert {outcome["status"] for outcome in reply.json()["data"]} == {404}


def test_an_answer_of_another_process_is_waited_for_a_moment(served: Gateway):
    """As with several workers: it is written down a little after it was given."""
    (shown,) = served.chat(user="ada")["plaudit"]["completion_ids"]
    answer = served.completion(shown).model_copy(update={"completion_id": "chatcmpl-elsewhere"})
    later = Event(id="chatcmpl-elsewhere", time=time.time(), project="default", key=answer.conversation, data=answer)
    threading.Timer(0.1, served.log.append, ([later],)).start()
    body = {"type": "rating", "value": 1, "completion_id": "chatcmpl-elsewhere"}
    assert served.http.post("/v1/feedback", headers=served.bearer, json=body).status_code == 201
