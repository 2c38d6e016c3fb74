"""The learning curve of the reward model: each size by itself, on pairs of which one is better, beside words."""

from __future__ import annotations

from vote_log import settings_for

from ops.domain.people import gold
from ops.settings import SamplingSettings
from trainer.bench import curve


def test_each_size_is_a_model_of_its_own_tried_on_the_same_pairs(tmp_path, tiny_folder, tiny):
    settings = settings_for(tmp_path, tiny_folder).model_copy(update={"sampling": SamplingSettings(max_tokens=4)})
    told: list[str] = []
    options = curve.Options(sizes=(12, 24), seeds=(3,), people=4, pairs=40)
    report = curve.run(options, settings, lambda what, share: told.append(what))
    alone = curve.run(curve.Options(sizes=(24,), seeds=(3,), people=4, pairs=40), settings, lambda *_: None)
    assert [each["votes"] for each in report["raw"]] == [12, 24]
    assert len({each["n"] for each in report["raw"]}) == 1
    assert report["raw"][1] == alone["raw"][0]
    assert told == ["0% adversaries, seed 3", ""]
    assert not list((settings.data_dir / "bench").iterdir())


def test_every_held_out_pair_has_a_better_answer_which_its_label_names(tmp_path, tiny_folder, tiny):
    settings = settings_for(tmp_path, tiny_folder).model_copy(update={"sampling": SamplingSettings(max_tokens=6)})
    pairs = curve.gold_pairs(tiny, settings, 60, seed=0)
    assert 0 < len(pairs) < 60
    for pair in pairs:
        [question] = pair.prompt
        lead = gold(question.content, pair.answers[0]) - gold(question.content, pair.answers[1])
        assert lead != 0
        assert pair.label == ("a" if lead > 0 else "b")


def test_figures_are_means_of_the_seeds_beside_those_of_words():
    def raw(seed: int, accuracy: float, tfidf: float) -> dict[str, float]:
        return {"adversaries": 0.2, "seed": seed, "votes": 50, "accuracy": accuracy, "tfidf": tfidf}

    [figure] = curve.figures([raw(0, 0.8, 0.7), raw(1, 0.9, 0.8)])
    assert figure.name == "50 votes, 20% of the people adversaries"
    assert (round(figure.value, 6), round(figure.aim, 6), figure.met) == (0.85, 0.75, True)
