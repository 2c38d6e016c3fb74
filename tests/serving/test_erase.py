"""One person's words, from the public API to the last byte of the data folder, and out of it."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from chat_upstream import ChatUpstream
from gateway_parts import Gateway, question, serving_app, until
from lora_files import publish, write_lora
from typer.testing import CliRunner

from feedback.events import Correction, Event, FeedbackAmended, FeedbackSet, Rating, Target
from feedback.join import Joiner
from feedback.log import TopicReader
from ops import turns
from ops.cli import app
from ops.learned_from import note_people
from ops.open_log import open_log_of, open_settings_log
from ops.registry import Registry
from ops.settings import load_settings
from serving.app import create_app
from trainer.inbox import Inbox

ALICE, BOB = "alice@example.com", "bob@example.com"
CANARY = "xylophone-canary-4711"


@pytest.fixture
def sealed(tmp_path: Path, upstream: ChatUpstream) -> Iterator[Gateway]:
    """A gateway on a log as the settings say: its texts are sealed."""
    settings = load_settings(data_dir=tmp_path, engine_urls=(upstream.url,), page="on")
    log = open_settings_log(settings)
    with serving_app(create_app(settings, log=log), settings.limits) as url:
        running = Gateway(settings, log, url, [])
        until(lambda: running.http.get("/readyz").status_code == 200, 20)
        yield running
        running.close()
    log.close()


def run(gateway: Gateway, *arguments: str) -> dict:
    done = CliRunner().invoke(app, [*arguments, "--data-dir", str(gateway.settings.data_dir), "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def holders(folder: Path, text: str) -> list[str]:
    """Files that hold the text, plainly or in base64 at any alignment."""
    wanted = [text.encode(), *(base64.b64encode(pad + text.encode())[4:-4] for pad in (b"...", b"..", b"."))]
    return [str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and any(w in p.read_bytes() for w in wanted)]


def talk(gateway: Gateway, user: str) -> FeedbackSet:
    """A chat and all that a user can say about it, each with the canary in it; the rating's fact."""
    answer = gateway.chat(**question(f"say {CANARY} {user[:3]}"), user=user)
    assert CANARY in answer["choices"][0]["message"]["content"]
    completion = gateway.completion(answer["plaudit"]["completion_id"])
    rated = {"type": "rating", "value": 1, "comment": f"I love {CANARY}", "receipt": answer["plaudit"]["receipt"]}
    assert gateway.feedback(**rated).status_code == 201
    fact = next(f for f in gateway.facts() if f.rater == completion.user)
    say(gateway, fact, f"{fact.feedback_id}-c", judgement=Correction(text=f"better: {CANARY}"))
    say(gateway, fact, f"{fact.feedback_id}-o", target=Target(completion_ids=("unknown",)), judgement=fact.judgement)
    amended = {"comment": f"rather {CANARY}"}
    data = FeedbackAmended(feedback_id="fa", target=fact.target, rater=fact.rater, kind="rating", changes=amended)
    gateway.log.append([Event(id=f"{fact.feedback_id}-a", time=2.0, project="default", key="k", data=data)])
    return fact


def say(gateway: Gateway, fact: FeedbackSet, name: str, **change: object) -> None:
    data = fact.model_copy(update={"feedback_id": name, **change})
    gateway.log.append([Event(id=name, time=1.0, project="default", key="k", data=data)])


def replay(gateway: Gateway) -> Joiner:
    joiner = Joiner("default")
    with open_log_of(gateway.settings) as log:
        for topic in ("completions", "feedback"):
            joiner.extend(TopicReader(log, topic).drain())
    return joiner


def test_an_erased_users_words_are_nowhere_and_replay_goes_on(sealed: Gateway):
    folder, alice, bob = sealed.settings.data_dir, talk(sealed, ALICE), talk(sealed, BOB)
    inbox = Inbox(sealed.log, "default")
    inbox.refresh()
    inbox.bury(now=1e9, hours=24)  # the orphans go to dead-letter
    assert len(sealed.events("dead-letter")) == 2
    before = replay(sealed).votes()
    assert {vote.rater for vote in before} == {alice.rater, bob.rater}
    assert all(CANARY in vote.completions[0].text.answer for vote in before)
    assert holders(folder, CANARY) == holders(folder, ALICE) == []
    with sqlite3.connect(sealed.settings.database_path) as connection:
        wrapped = dict(connection.execute("SELECT user, wrapped FROM text_keys"))

    erased = run(sealed, "erase-user", ALICE)

    assert (erased["user"], erased["keys"]) == (alice.rater, 1)
    assert run(sealed, "audit", "tail")[-1]["target"] == f"default/{alice.rater}"
    assert holders(folder, CANARY) == []
    stored = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert wrapped[bob.rater] in stored
    assert wrapped[alice.rater] not in stored
    after = replay(sealed)
    assert after.votes() == [vote for vote in before if vote.rater == bob.rater]
    # who had read her words before lets go of them, and comes to the same
    inbox.refresh()
    batch = inbox.batch({})
    assert list(batch.votes) == after.votes()
    assert not [prompt for prompt in batch.prompts if ALICE[:3] in prompt[-1].content]
    assert batch.people == {bob.rater}


def test_the_running_gateway_reads_nothing_of_an_erased_user_and_takes_what_they_say_anew(sealed: Gateway):
    fact = talk(sealed, ALICE)
    run(sealed, "erase-user", ALICE)
    until(lambda: not [event for event in sealed.events("completions") if event.data.text.answer])
    answer = sealed.chat(**question("say back again"), user=ALICE)
    assert sealed.completion(answer["plaudit"]["completion_id"]).text.answer.startswith("back again")
    rated = {"type": "rating", "value": -1, "comment": "hm", "receipt": answer["plaudit"]["receipt"]}
    assert sealed.feedback(**rated).status_code == 201
    (vote,) = replay(sealed).votes()
    assert (vote.rater, vote.judgement) == (fact.rater, Rating(value=-1, comment="hm"))


def test_only_the_user_of_the_project_named_is_erased(sealed: Gateway):
    talk(sealed, ALICE)
    assert run(sealed, "erase-user", ALICE, "--project", "other")["keys"] == 0
    assert run(sealed, "erase-user", "somebody else")["keys"] == 0
    assert replay(sealed).votes()
    assert run(sealed, "erase-user", ALICE)["keys"] == 1
    assert run(sealed, "erase-user", ALICE)["keys"] == 0
    assert not replay(sealed).votes()


def test_adapters_that_learned_from_the_erased_are_marked_and_so_are_their_children(sealed: Gateway, tmp_path: Path):
    alice = talk(sealed, ALICE).rater
    registry = Registry(sealed.settings.adapters_dir)
    taught = publish(registry, write_lora(tmp_path / "a", seed=1)).id
    child = publish(registry, write_lora(tmp_path / "b", seed=2), parent=taught).id
    clean = publish(registry, write_lora(tmp_path / "c", seed=3)).id
    unknown = publish(registry, write_lora(tmp_path / "d", seed=4)).id
    turn = turns.take(registry.turns("default"), 1)
    for adapter, people in ((taught, {alice, "x"}), (child, {"x"}), (clean, {"x"})):
        note_people(registry, adapter, people, turn)
    assert not any(row["tainted"] for row in run(sealed, "adapters", "list"))
    adapters = run(sealed, "erase-user", ALICE)["adapters"]
    assert adapters == {
        taught: f"learned from {alice}, since erased",
        child: f"made from {taught}: learned from {alice}, since erased",
        unknown: "not known whom it learned from",
    }
    assert {row["id"]: row["tainted"] for row in run(sealed, "adapters", "list") if row["tainted"]} == adapters
    assert run(sealed, "adapters", "show", clean)["tainted"] is None
    assert run(sealed, "adapters", "show", child)["tainted"] == adapters[child]


def test_text_keys_are_wrapped_anew(sealed: Gateway, monkeypatch: pytest.MonkeyPatch):
    talk(sealed, ALICE)
    monkeypatch.setenv("PLAUDIT_TEXT_KEY", "a new master key")
    assert run(sealed, "keys", "rotate-text") == {"rewrapped": 1}
    assert run(sealed, "keys", "rotate-text") == {"rewrapped": 0}
    settings = load_settings(data_dir=sealed.settings.data_dir)
    with open_log_of(settings) as log:
        (read,) = (record.event.data for record in TopicReader(log, "completions").drain())
    assert CANARY in read.text.answer
