"""Learning curves: figures worked by hand, people who vote reversed, and the loop itself on votes that are in the log."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ops.bench.curves import Run, curves, interval
from ops.bench.learning import MODEL, Options, reached_text, run
from ops.cli.bench import app
from ops.domain.people import Adversary, crowd
from ops.settings import Settings, load_settings


def a_run(seed: int, *rates: float, cpu_s: float = 60.0) -> Run:
    def figures(rate: float) -> dict[str, float]:
        names = ("toxicity", "correct", "garbled", "polite", "rambling", "distinct_2", "kl")
        return {"win_rate": rate, **dict.fromkeys(names, 0.25)}

    rounds = [{"votes": 200 * n, "cpu_s": cpu_s, "champion": figures(rate)} for n, rate in enumerate(rates, start=1)]
    return Run("rloo", 0.0, seed, figures(0.5), rounds, {"gold 4": {"win_rate": 0.8 + seed / 10}})


def test_a_curve_is_the_mean_over_seeds_with_students_interval():
    [curve] = curves([a_run(0, 0.7, 0.8), a_run(1, 0.8, 0.84)])
    assert [point["votes"] for point in curve["points"]] == [0, 200, 400]
    first = curve["points"][1]
    assert first["win_rate"]["mean"] == pytest.approx(0.75)
    # two values 0.1 apart: standard error 0.05, and Student's factor for one degree of freedom is 12.706
    assert first["win_rate"]["low"] == pytest.approx(0.75 - 12.706 * 0.05, abs=1e-4)
    assert (first["win_rate"]["least"], first["cpu_minutes"]["mean"]) == (0.7, 1.0)
    assert curve["points"][2]["cpu_minutes"]["mean"] == 2.0
    assert curve["best_of"]["gold 4"]["mean"] == pytest.approx(0.85)


def test_one_seed_has_no_interval():
    assert all(map(math.isnan, interval([0.7])))


def test_a_win_rate_is_reached_in_the_first_round_that_has_it_and_seeds_that_never_do_are_counted():
    [curve] = curves([a_run(0, 0.71, 0.81), a_run(1, 0.69, 0.7), a_run(2, 0.72, 0.82)])
    assert curve["reached"]["0.7"] == {"n": 3, "votes": 200, "minutes": 1.0}
    assert curve["reached"]["0.8"] == {"n": 2, "votes": 400, "minutes": 2.0}
    assert reached_text(curve["reached"]["0.8"], seeds=3) == "400 votes, 2.0 min, in 2 of 3 seeds"
    [never] = curves([a_run(0, 0.6)])
    assert reached_text(never["reached"]["0.8"], seeds=1) == "not reached"


def test_runs_are_every_combination_and_the_last_round_may_be_shorter():
    options = Options(votes=500, votes_per_round=200, seeds=(0, 1), algorithms=("rloo", "dpo"), adversaries=(0.0, 0.2))
    assert options.rounds == 3
    assert len(options.runs) == 8
    assert options.runs[:2] == [("rloo", 0.0, 0), ("rloo", 0.0, 1)]


def test_adversaries_are_the_share_asked_for_and_say_the_opposite_of_the_people_they_replace():
    honest, mixed = crowd(40, seed=3), crowd(40, seed=3, adversaries=0.2)
    against = [n for n, person in enumerate(mixed) if isinstance(person, Adversary)]
    assert len(against) == 8
    assert [p.name for p in mixed] == [p.name for p in honest]
    question = "What is the capital of France?"
    polite, rude = "Of course! The capital of France is Paris.", "Ugh, not again. It is Rome."
    said = {(honest[n].prefer(question, polite, rude), mixed[n].prefer(question, polite, rude)) for n in against}
    assert ("a", "b") in said
    assert said <= {("a", "b"), ("b", "a"), ("tie", "tie"), ("both_bad", "both_bad")}
    thumbs = {(honest[n].thumb(question, polite), mixed[n].thumb(question, polite)) for n in against}
    assert thumbs <= {(1, -1), (-1, 1), (None, None)}
    rest = random.Random(0).choice([n for n in range(40) if n not in against])
    assert honest[rest].prefer(question, polite, rude) == mixed[rest].prefer(question, polite, rude)


def test_each_run_has_a_folder_of_its_own_and_is_kept_when_it_ends(tmp_path, monkeypatch):
    monkeypatch.setenv("PLAUDIT_TRAIN__PPO__STEPS", "7")
    asked: list[tuple[Path, str, float, bool]] = []

    def measured(settings: Settings, *, adversaries: float, best_of: bool, on_round: Any, **rest: Any) -> dict[str, Any]:
        assert list(settings.data_dir.iterdir()) == []
        asked.append((settings.data_dir, settings.train.algorithm, adversaries, best_of))
        scripted = a_run(settings.seed, 0.123456)
        for each in scripted.rounds:
            on_round(each)
        return {"start": scripted.start, "rounds": list(scripted.rounds), "best_of": {}}

    monkeypatch.setattr("ops.bench.learning.load", lambda where: {"trainer.bench.learning:run": measured}[where])
    kept: list[int] = []
    options = Options(votes=200, seeds=(5,), algorithms=("rloo", "ppo"), adversaries=(0.0, 0.2))
    told: list[tuple[str, float]] = []
    settings = load_settings(data_dir=tmp_path, model=MODEL)
    report = run(options, settings, lambda what, share: told.append((what, share)), lambda found: kept.append(len(found["runs"])))
    assert [each[1:] for each in asked] == [("rloo", 0.0, True), ("ppo", 0.0, False), ("rloo", 0.2, False), ("ppo", 0.2, False)]
    assert len({folder for folder, *_ in asked}) == 4
    assert not any(folder.exists() for folder, *_ in asked)
    assert kept == [1, 2, 3, 4]
    assert told[0] == ("rloo, 0% adversaries, seed 5", 1.0)
    assert {name: config["ppo"]["steps"] for name, config in report["configs"].items()} == {"rloo": 7, "ppo": 7}
    assert report["runs"][0]["rounds"][0]["champion"]["win_rate"] == 0.1235


@pytest.mark.parametrize("wrong", ["2", "-0.1", "0,x"])
def test_shares_of_adversaries_are_from_0_to_1(wrong):
    done = CliRunner().invoke(app, ["learning", "--adversaries", wrong])
    assert "--adversaries=" in str(done.exception)


def test_an_algorithm_that_there_is_not_is_named_with_those_that_there_are():
    done = CliRunner().invoke(app, ["learning", "--algorithm", "rloo,grpo"])
    assert str(done.exception) == "--algorithm='rloo,grpo': write some of ppo, rloo, dpo, kto, sft with commas between"
