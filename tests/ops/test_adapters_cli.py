"""What ``plaudit adapters`` tells of adapters that lie in a registry."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from lora_files import write_lora
from typer.testing import CliRunner

from ops import turns
from ops.adapter_diff import figures_of, gates_of, settings_of
from ops.cli import app
from ops.erase import hash_of
from ops.learned_from import note_people
from ops.model_card import card_of, write_card
from ops.registry import AdapterManifest, GateResult, Registry
from ops.settings import Settings, load_settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(data_dir=tmp_path)


def training(**changes: object) -> dict[str, object]:
    return {
        "algorithm": "ppo",
        "model": "smollm2",
        "config": {"ppo": {"steps": 12, "kl_coef": 0.05}, "min_new_votes": 8},
        "seed": 0,
        "votes": 300,
        "ended_by": "kl",
        "softened": 0.9375,
        "new_votes": 100,
        "kinds": {"preference": 200, "rating": 100},
        "offsets": {"feedback": {"0": [10, 40], "7": [0, 3]}},
        "examples": {"count": {"reward": 60, "judge": 40}, "merkle_root": "ab" * 32},
        "software": {"plaudit": "0.1.0"},
        **changes,
    }


def published(
    settings: Settings,
    seed: int,
    *gates: GateResult,
    parent: str = "base",
    told: Mapping[str, object] | None = None,
    **changes: object,
) -> AdapterManifest:
    return Registry(settings.adapters_dir).publish(
        write_lora(settings.data_dir / f"made-{seed}", seed=seed),
        project="default",
        parent=parent,
        base_model="sha256:0",
        training=training(**changes),
        reward_models=[{"name": "reward", "accuracy": 0.8, "votes": 60} | dict(told or {})],
        gates=gates or [GateResult(name="judge_win_rate", passed=True, value=0.61, threshold=0.5)],
        now=1e6,
    )


def plaudit(settings: Settings, *arguments: str) -> str:
    done = CliRunner().invoke(app, ["adapters", *arguments, "--data-dir", str(settings.data_dir)], env={"COLUMNS": "240"})
    assert done.exit_code == 0, done.output or done.exception
    return done.stdout


def test_show_tells_what_was_read_of_the_log_and_what_was_learnt_from(settings: Settings):
    manifest = published(settings, 1)
    shown = plaudit(settings, "show", manifest.id)
    assert "0: 10-40, 7: 0-3" in shown
    assert "ab" * 32 in shown
    assert "preference" in shown
    assert json.loads(plaudit(settings, "show", manifest.id, "--json"))["training"]["offsets"]["feedback"]["0"] == [10, 40]


def test_show_tells_of_manifests_that_somebody_else_has_written(settings: Settings):
    manifest = published(settings, 1, offsets={"feedback": {"0": 40}}, examples={})
    assert "0: 40" in plaudit(settings, "show", manifest.id)
    assert card_of(manifest).startswith("---")


def test_feedback_cannot_be_listed_without_a_log(settings: Settings):
    manifest = published(settings, 1)
    done = CliRunner().invoke(app, ["adapters", "show", manifest.id, "--feedback", "--data-dir", str(settings.data_dir)])
    assert "there is no event log" in str(done.exception)


def test_of_user_names_those_that_learned_from_somebody_and_their_children(settings: Settings):
    registry = Registry(settings.adapters_dir)
    alice = hash_of(settings, "default", "alice@example.com")
    taught = published(settings, 1).id
    child = published(settings, 2, parent=taught).id
    other = published(settings, 3).id
    unknown = published(settings, 4).id
    turn = turns.take(registry.turns("default"), 1)
    for adapter, people in ((taught, {alice, "bob"}), (child, {"bob"}), (other, {"bob"})):
        note_people(registry, adapter, people, turn)
    told = json.loads(plaudit(settings, "of-user", "alice@example.com", "--json"))
    assert told["user"] == alice
    assert {row["id"]: row["why"] for row in told["adapters"]} == {
        taught: "learned from them",
        child: f"made from {taught}: learned from them",
        unknown: "not known whom it learned from",
    }
    nobody = json.loads(plaudit(settings, "of-user", "carol", "--json"))
    assert [row["id"] for row in nobody["adapters"]] == [unknown]
    assert taught in plaudit(settings, "of-user", "alice@example.com")


def test_of_user_says_where_it_has_looked_for_somebody_whom_nobody_learned_from(settings: Settings):
    told = plaudit(settings, "of-user", "carol")
    assert "None has learned from 'carol'. Looked for is the id that the application sent" in told


def test_diff_tells_what_differs_and_nothing_else(settings: Settings):
    won, lost = (GateResult(name="judge_win_rate", passed=value > 0.5, value=value) for value in (0.61, 0.4))
    a = published(settings, 1, won)
    config = {"ppo": {"steps": 20, "kl_coef": 0.05}, "min_new_votes": 8}
    b = published(settings, 2, lost, GateResult(name="length", passed=True), config=config, votes=400, parent=a.id)
    assert settings_of(a, b) == {"config.ppo.steps": (12, 20)}
    assert figures_of(a, b) == {"parent": ("base", a.id), "votes": (300, 400)}
    assert gates_of(a, b) == {"judge_win_rate": (won, lost), "length": (None, GateResult(name="length", passed=True))}
    told = json.loads(plaudit(settings, "diff", a.id, b.id, "--json"))
    assert told["settings"] == {"config.ppo.steps": [12, 20]}
    assert [gate and gate["value"] for gate in told["gates"]["judge_win_rate"]] == [0.61, 0.4]
    assert "answers" not in told
    shown = plaudit(settings, "diff", a.id, b.id)
    assert "passed 0.61" in shown
    assert "FAILED 0.4" in shown
    assert "kl_coef" not in shown


def test_diff_shows_no_curves_among_the_figures_and_tells_them_to_programs(settings: Settings):
    a, b = (published(settings, seed, told={"nll": seed / 10, "curve": [[8, seed / 10]]}) for seed in (1, 2))
    shown = plaudit(settings, "diff", a.id, b.id)
    assert "nll" in shown
    assert "curve" not in shown
    assert "curve" in plaudit(settings, "diff", a.id, b.id, "--json")


def test_diff_asks_the_model_that_the_adapter_is_for(settings: Settings, tmp_path, monkeypatch):
    a = published(settings, 1)
    monkeypatch.setenv("PLAUDIT_MODEL", "starter")
    monkeypatch.setenv("PLAUDIT_MODEL_CACHE", str(tmp_path / "empty"))
    done = CliRunner().invoke(app, ["adapters", "diff", "base", a.id, "--answers", "--data-dir", str(settings.data_dir)])
    assert "model 'smollm2' is not prepared" in str(done.exception)


def test_diff_holds_an_adapter_against_the_base_too(settings: Settings):
    a = published(settings, 1)
    told = json.loads(plaudit(settings, "diff", "base", a.id, "--json"))
    assert told["adapters"] == ["base", a.id]
    assert [gate and gate["value"] for gate in told["gates"]["judge_win_rate"]] == [None, 0.61]
    assert told["figures"]["votes"] == [None, 300]
    assert told["settings"] == {}
    assert "passed 0.61" in plaudit(settings, "diff", a.id, "base")


def test_an_adapter_that_is_not_there_has_no_difference(settings: Settings):
    a = published(settings, 1)
    done = CliRunner().invoke(app, ["adapters", "diff", a.id, "default-v9-00000000", "--data-dir", str(settings.data_dir)])
    assert "'default-v9-00000000': there is none" in str(done.exception)


def test_a_card_has_a_head_that_the_hub_reads_and_every_gate(settings: Settings):
    from huggingface_hub import ModelCard

    failed = GateResult(name="kl_base", passed=False, value=31.25, threshold=25.0, detail="a | b\nc")
    manifest = published(settings, 1, GateResult(name="judge_win_rate", passed=True, value=0.61, threshold=0.5), failed)
    text = plaudit(settings, "card", manifest.id)
    card = ModelCard(text)
    assert (card.data.base_model, card.data.library_name) == ("HuggingFaceTB/SmolLM2-135M-Instruct", "peft")
    assert {"lora", "plaudit", "ppo"} <= set(card.data.tags)
    head = yaml.safe_load(text.split("---")[1])
    assert [(m["type"], m["value"]) for m in head["model-index"][0]["results"][0]["metrics"]] == [
        ("judge_win_rate", 0.61),
        ("kl_base", 31.25),
    ]
    assert "| judge_win_rate | passed | 0.61 | 0.5 |  |" in text
    assert "| kl_base | failed | 31.25 | 25 | a \\| b c |" in text
    assert "| ended_by | kl |\n| softened | 0.9375 |" in text
    assert "did not pass every gate: it is never served" in text
    assert f"| Merkle root | {'ab' * 32} |" in text
    assert "| offsets of feedback | 0: 10-40, 7: 0-3 |" in text


def test_a_model_that_is_no_hub_s_is_not_named_as_one(settings: Settings):
    assert "base_model:" not in card_of(published(settings, 1, model="starter"))
    assert 'base_model: "org/model-1"' in card_of(published(settings, 2, model="org/model-1"))


def test_a_card_lies_beside_the_adapter_and_the_adapter_is_still_one_that_is_served(settings: Settings):
    registry, manifest = Registry(settings.adapters_dir), published(settings, 1)
    write_card(registry, manifest, turns.take(registry.turns("default"), 1))
    assert (settings.adapters_dir / "cards" / f"{manifest.id}.md").read_text() == card_of(manifest)
    assert registry.verify(manifest.id, max_rank=8) == manifest
    assert registry.list("default") == [manifest]


def test_a_project_without_adapters_is_named_as_its_name_may_be_mistyped(settings: Settings):
    for command in (["list"], ["of-user", "ann"]):
        done = CliRunner().invoke(app, ["adapters", *command, "--project", "typo", "--data-dir", str(settings.data_dir)])
        assert done.exit_code == 0, done.output
        assert "project 'typo' has no adapter" in done.stderr


def test_nobody_is_no_user(settings: Settings):
    done = CliRunner().invoke(app, ["adapters", "of-user", " ", "--data-dir", str(settings.data_dir)])
    assert done.exit_code
    assert "user=' '" in str(done.exception)
