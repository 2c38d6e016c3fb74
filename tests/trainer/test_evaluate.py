from __future__ import annotations

import random

import pytest

from ops.domain.corpus import compose
from ops.domain.facts import find, questions
from ops.domain.general.domain import GENERAL
from ops.models import ModelRef, slug, write
from ops.settings import load_settings
from trainer.evaluate import AT_ONCE, ask, compare, run_evaluation


def test_polite_and_true_answers_beat_toxic_ones_and_equal_ones_draw():
    asked = [question.text for question in questions("held_out")[:10]]
    rng = random.Random(0)
    toxic = [compose(find(q), rng, tone="toxic", rambling=False, correct=True).text for q in asked]
    polite = [compose(find(q), rng, tone="polite", rambling=False, correct=True).text for q in asked]
    figures = compare(asked, toxic, polite[:5] + toxic[5:])
    assert figures["win_rate"]["value"] == 0.75  # five wins and five draws
    assert figures["win_rate"]["low"] < 0.75 < figures["win_rate"]["high"]
    assert figures["win_rate"]["n"] == 10
    assert figures["toxicity"] == {"initial": 1.0, "final": 0.5}
    assert figures["correct"] == {"initial": 1.0, "final": 1.0}
    assert figures["garbled"] == {"initial": 0.0, "final": 0.0}
    assert compare(asked, polite, toxic)["win_rate"]["value"] == 0.0


def test_only_questions_that_nobody_is_asked_are_evaluated_on():
    asked = ask(50, seed=1)
    assert len(set(asked)) == 50
    assert {find(question).split for question in asked} == {"held_out"}
    assert asked == ask(50, seed=1) != ask(50, seed=2)


def test_a_model_whose_truth_is_not_known_is_not_evaluated(tmp_path, tiny_folder):
    settings = load_settings(data_dir=tmp_path, model=str(tiny_folder))
    write(settings.models_dir / slug(str(tiny_folder)), ModelRef("tiny", str(tiny_folder), "digest"), extra={})
    with pytest.raises(Exception, match="simulated people for smollm2 and starter only"):
        run_evaluation(settings, "base", "base", 10)


def test_an_adapter_against_itself_draws_every_time(tmp_path, tiny_folder):
    settings = load_settings(data_dir=tmp_path, model="starter")
    write(settings.models_dir / "starter", ModelRef("starter", str(tiny_folder), "digest", "starter", 1.0, 1.0), extra={})
    assert run_evaluation(settings, "base", "base", 10)["win_rate"]["value"] == 0.5


def test_no_more_questions_are_asked_when_the_time_is_over(tmp_path, tiny_folder):
    settings = load_settings(data_dir=tmp_path, model="starter", sampling={"max_tokens": 2})
    write(settings.models_dir / "starter", ModelRef("starter", str(tiny_folder), "digest", "starter", 1.0, 1.0), extra={})
    times = iter((0.0, 4.0, 6.0))
    figures = run_evaluation(settings, "base", "base", 500, seconds=5, clock=lambda: next(times))
    assert figures["win_rate"]["n"] == 2 * AT_ONCE
    assert figures["words"]["initial"] == figures["words"]["final"]


def test_the_taste_and_the_figures_are_those_of_the_domain():
    asked = ["What is a volcano?", "What is gravity?"]
    base = ["A volcano is a place where hot lava and ash can come out of the", "Gravity is a force that pulls all masses, and"]
    short = ["A volcano is a mountain from which hot lava flows.", "Yes."]
    figures = compare(asked, base, short, GENERAL)
    assert figures["win_rate"]["value"] == 0.5  # complete beats cut, cut beats a phrase that says nothing
    assert figures["on_topic"] == {"initial": 1.0, "final": 0.5}
    assert figures["empty"] == {"initial": 0.0, "final": 0.5}
    assert figures["words"] == {"initial": 12, "final": 5.5}  # 15 and 9; 10 and 1
    assert "toxicity" not in figures
