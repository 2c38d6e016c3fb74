"""The learning curve of the reward model: each size by itself, on pairs of which one is better, beside words."""

from __future__ import annotations

from judgements import taste
from test_bench_voters import votes_of

from feedback.events import BASE
from ops.domain.people import gold
from ops.settings import RewardSettings
from trainer.bench import curve

FAST = RewardSettings(learning_rate=1e-2, epochs=1)


def test_each_size_is_a_model_of_its_own_tried_on_the_same_pairs(tmp_path, tiny_folder, tiny):
    votes, tested = votes_of(tmp_path, tiny_folder, tiny, BASE, count=24), taste(24, seed=2)
    alone = list(curve.learning_curve(tiny, votes, tested, [24], FAST, seed=0))
    both = list(curve.learning_curve(tiny, votes, tested, [12, 24], FAST, seed=0))
    assert [each.votes for each in both] == [12, 24]
    assert both[1] == alone[0]
    assert tiny.names == ()


def test_a_pair_is_labelled_by_the_taste_and_left_out_where_both_are_as_good():
    right, wrong = "The opposite of big is small. I hope that helps!", "The opposite of big is green, you fool."
    question = "What is the opposite of big?"
    assert gold(question, right) > gold(question, wrong)
    assert [curve.gold_pair(question, pair, (True, True)).label for pair in ((right, wrong), (wrong, right))] == ["a", "b"]
    assert curve.gold_pair(question, (right, right), (True, True)) is None


def test_figures_are_means_of_the_seeds_beside_those_of_words():
    def raw(seed: int, accuracy: float, tfidf: float) -> dict[str, float]:
        return {"adversaries": 0.2, "seed": seed, "size": 50, "votes": 50 - seed, "accuracy": accuracy, "tfidf": tfidf}

    [figure] = curve.figures([raw(0, 0.8, 0.7), raw(1, 0.9, 0.8)])
    assert figure.name == "50 votes, 20% of the people adversaries"
    assert (round(figure.value, 6), round(figure.aim, 6), figure.met) == (0.85, 0.75, True)
