from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from vote_log import completion, events, pair, retraction, thumb

from feedback.events import (
    Correction,
    Event,
    FeedbackSet,
    Flag,
    Implicit,
    Message,
    Preference,
    Ranking,
    Rating,
    Score,
    Target,
)
from feedback.join import Joiner
from feedback.log import Position, Record
from trainer.examples import Example, believed, digest, divide, examples_of, lessons, prompt_hash, replayed, unseen, weighted


def votes_of(*facts):
    joiner = Joiner()
    for offset, event in enumerate(facts):
        joiner.add(Record(Position(event.topic, 0, offset), event))
    return joiner.votes()


def example(name: str, rater: str = "r", prompt: str = "q", weight: float = 1.0) -> Example:
    messages = (Message(role="user", content=prompt),)
    return Example(name, 0.0, rater, messages, prompt_hash(messages), ("yes",), (True,), "up", weight)


def test_a_vote_becomes_one_example_with_its_prompt_answers_and_label():
    a, b = completion("a", "why?", "because"), completion("b", "why?", "no idea")
    thumbs, pairs = examples_of(votes_of(a, b, thumb("f1", "a", "ann", -1, 5.0), pair("f2", "a", "b", "bob", "tie", 6.0)))
    assert (thumbs.answers, thumbs.label, thumbs.sign, thumbs.rater, thumbs.time) == (("because",), "down", -1, "ann", 5.0)
    assert (pairs.answers, pairs.label, pairs.sign) == (("because", "no idea"), "tie", 0)
    assert pairs.prompt == (Message(role="user", content="why?"),)


def test_a_retraction_is_no_vote_and_not_a_negative_one():
    asked, liked = completion("a", "why?", "because"), thumb("f1", "a", "ann", 1, 5.0)
    assert [e.label for e in examples_of(votes_of(asked, liked))] == ["up"]
    assert examples_of(votes_of(asked, liked, retraction("f2", "a", "ann", 6.0))) == []


def judged(name: str, judgement, *answers: str, **fields):
    """A vote of any kind on answers to one question."""
    shown = [completion(f"{name}-{n}", "why?", answer) for n, answer in enumerate(answers)]
    target = Target(completion_ids=tuple(f"{name}-{n}" for n in range(len(answers))))
    said = FeedbackSet(feedback_id=name, target=target, rater="ann", judgement=judgement, **fields)
    return votes_of(*shown, Event(id=name, time=5.0, project="default", key="conversation", data=said))


def test_every_kind_of_judgement_is_a_lesson_but_what_somebody_did_without_judging():
    [both] = examples_of(judged("f", Preference(value="both_good"), "yes", "no"))
    assert (both.label, both.is_pair, both.sign) == ("both_good", True, 0)
    [ranked] = examples_of(judged("f", Ranking(ranks=(2, 1)), "yes", "no"))
    assert (ranked.label, ranked.ranks, ranked.is_pair) == ("ranked", (2, 1), False)
    [scored] = examples_of(judged("f", Score(metric="resolved", value=1.0, boolean=True), "yes"))
    assert (scored.label, scored.metric, scored.value, scored.sign) == ("scored", "resolved", 1.0, 0)
    [flagged] = examples_of(judged("f", Flag(harms=("hate",)), "yes"))
    assert (flagged.label, flagged.is_thumb) == ("flagged", False)
    assert examples_of(judged("f", Implicit(action="copy"), "yes")) == []


def test_a_correction_is_better_than_what_it_corrects_and_stands_on_either_side():
    made = [example for n in range(20) for example in examples_of(judged(f"f{n}", Correction(text="because"), "dunno"))]
    assert {(e.label, e.answers) for e in made} == {("a", ("because", "dunno")), ("b", ("dunno", "because"))}
    assert not any(e.side_by_side for e in made)
    assert examples_of(judged("f", Correction(text="dunno"), "dunno")) == []


def test_a_correction_whose_text_is_erased_teaches_nothing():
    assert examples_of(judged("f", Correction(text=""), "dunno", sealed="gone")) == []


def test_nobody_learns_from_golden_items():
    [item] = examples_of(judged("f", Rating(value=1), "yes", source="golden"))
    division = divide([item, example("1")], 1 / 3)
    assert division.golden == (item,)
    assert len(division.reward) + len(division.judge) == 1


def test_an_answer_that_ended_badly_teaches_nothing():
    assert examples_of(votes_of(completion("a", "why?", "bec", outcome="aborted"), thumb("f1", "a", "ann", -1, 5.0))) == []


def test_a_pair_of_equal_answers_is_left_out():
    a, b = completion("a", "why?", "because"), completion("b", "why?", "because")
    assert examples_of(votes_of(a, b, pair("f", "a", "b", "ann", "a", 5.0))) == []


def test_an_answer_cut_at_its_token_limit_is_not_taught_as_ended():
    whole = completion("a", "why?", "because")
    cut = whole.model_copy(update={"data": whole.data.model_copy(update={"finish_reason": "length"})})
    rated = thumb("f1", "a", "ann", 1, 5.0)
    assert examples_of(votes_of(whole, rated))[0].ended == (True,)
    assert examples_of(votes_of(cut, rated))[0].ended == (False,)


def test_a_rarely_shown_arm_counts_more_but_at_most_tenfold():
    def seen_with(propensity: float) -> float:
        event = completion("a", "why?", "because")
        exposure = event.data.exposure.model_copy(update={"propensity": propensity})
        shown = event.model_copy(update={"data": event.data.model_copy(update={"exposure": exposure})})
        return examples_of(votes_of(shown, thumb("f1", "a", "ann", 1, 5.0)))[0].weight

    assert [seen_with(1.0), seen_with(0.25), seen_with(0.01)] == [1.0, 4.0, 10.0]


def test_the_examples_do_not_depend_on_the_order_in_which_the_log_is_read():
    records = [Record(Position(event.topic, 0, n), event) for n, event in enumerate(events(30))]
    forwards, backwards = Joiner(), Joiner()
    forwards.extend(records)
    backwards.extend(reversed(records))
    assert examples_of(forwards.votes()) == examples_of(backwards.votes())
    assert digest(examples_of(forwards.votes())) == digest(examples_of(backwards.votes()))


def test_a_rater_with_most_of_the_votes_is_cut_to_twice_an_even_share():
    # 4 raters, so nobody may have more than 2/4: half of the 9 that the mean of 1 makes
    shares = weighted([example(f"a{n}", "a") for n in range(6)] + [example(r, r) for r in "bcd"])
    assert sum(e.weight for e in shares if e.rater == "a") == pytest.approx(4.5)
    assert sum(e.weight for e in shares) == pytest.approx(9)


def test_among_many_raters_the_cap_is_one_per_cent():
    examples = [example(f"flood{n}", "flood") for n in range(100)] + [example(f"f{n}", f"r{n}") for n in range(299)]
    total = sum(e.weight for e in weighted(examples))
    assert sum(e.weight for e in weighted(examples) if e.rater == "flood") == pytest.approx(0.01 * total)


def test_among_many_keys_none_has_more_than_a_tenth():
    examples = [replace(example(f"f{n}", f"r{n}"), key_id="greedy" if n < 400 else f"k{n % 40}") for n in range(800)]
    shares = weighted(examples)
    assert {e.key_id for e in examples_of([keyed_vote()])} == {"k1"}
    assert sum(e.weight for e in shares if e.key_id == "greedy") == pytest.approx(80)


def keyed_vote():
    [vote] = votes_of(completion("a", "why?", "because"), thumb("f1", "a", "ann", 1, 5.0, key_id="k1"))
    return vote


def test_an_example_weighs_as_much_less_as_its_rater_is_new():
    facts = [completion(name, "why?", f"because {name}") for name in "ab"]
    facts += [thumb("f1", "a", "old", 1, 0.0), thumb("f2", "b", "old", 1, 5.0), thumb("f3", "b", "new", 1, 3 * 86_400.0)]
    old, _, new = believed(votes_of(*facts))
    # two votes of ten: 0.3 + 0.7 * 0.2, and one: 0.3 + 0.7 * 0.1, of an hour instead of three days
    assert old.weight / new.weight == pytest.approx(72 * 0.44 / 0.37)
    assert 0 < old.flip < 0.1  # they agree on b
    assert new.flip == pytest.approx(old.flip, abs=1e-6)
    assert [e.weight for e in examples_of(votes_of(*facts))] == [1.0, 1.0, 1.0]


def test_a_lone_rater_keeps_every_vote():
    assert [e.weight for e in weighted([example("1"), example("2")])] == [1.0, 1.0]
    assert weighted([]) == []


def test_judge_and_reward_model_never_share_a_rater_and_nobody_changes_sides_when_more_come():
    few = [example(f"f{n}", f"r{n % 40}", f"q{n}") for n in range(120)]
    many = few + [example(f"g{n}", f"s{n}", f"p{n}") for n in range(200)]
    for examples in (few, many):
        division = divide(examples, 1 / 3)
        assert division.by == "rater"
        assert {e.rater for e in division.reward}.isdisjoint(e.rater for e in division.judge)
        assert len(division.reward) + len(division.judge) == len(examples)
    assert {e.rater for e in divide(few, 1 / 3).judge} <= {e.rater for e in divide(many, 1 / 3).judge}
    assert 0.2 < len(divide(many, 1 / 3).judge) / len(many) < 0.47


def test_with_few_raters_the_questions_are_divided_instead():
    division = divide([example(f"f{n}", "me", f"q{n % 30}") for n in range(90)], 1 / 3)
    assert division.by == "prompt"
    assert division.judge
    assert {e.prompt_hash for e in division.reward}.isdisjoint(e.prompt_hash for e in division.judge)


def test_votes_are_held_out_whose_questions_were_never_learnt_from():
    learnt = [example("l", "a", "known")]
    others = [example("1", "b", "known"), example("2", "b", "new"), example("3", "b", "newer"), example("4", "b", "newest")]
    assert [e.feedback_id for e in unseen(others, learnt)] == ["2", "3", "4"]


def test_all_new_votes_and_a_bounded_draw_of_older_ones_are_learnt_from():
    examples = [example(f"f{n:03}") for n in range(100)]
    new = {f"f{n:03}" for n in range(90, 100)}
    drawn = lessons(examples, new, 20, seed=1)
    assert len(drawn) == 30
    assert new <= {e.feedback_id for e in drawn}
    assert drawn == lessons(examples, new, 20, seed=1) != lessons(examples, new, 20, seed=2)
    assert drawn == sorted(drawn, key=lambda e: e.feedback_id)


@pytest.mark.parametrize(("replay", "older"), [(0, 0), (5, 30), (40, 40), (400, 70)])
def test_half_of_the_lessons_are_older_ones_or_as_many_as_are_always_replayed(replay, older):
    examples = [example(f"f{n:03}") for n in range(100)]
    new = {f"f{n:03}" for n in range(70, 100)}
    assert len(lessons(examples, new, replay, seed=1)) == 30 + older


def test_what_is_replayed_has_its_share_of_every_kind_every_time_and_every_rater():
    # 100 votes: 60 thumbs and 40 pairs, over ten days, of two raters, of whom Ann gives three in four
    older = [
        replace(
            example(f"f{n:03}", "bob" if n % 4 == 3 else "ann"),
            time=float(n),
            **({} if n % 5 < 3 else {"answers": ("yes", "no"), "label": "a"}),
        )
        for n in range(100)
    ]
    shares = []
    for seed in range(20):
        drawn = replayed(older, 20, seed)
        assert len({e.feedback_id for e in drawn}) == 20
        assert sum(e.kind == "pair" for e in drawn) == 8
        for day in range(10):
            assert 1 <= sum(10 * day <= e.time < 10 * day + 10 for e in drawn) <= 3
        shares.append(sum(e.rater == "bob" for e in drawn))
        assert 3 <= shares[-1] <= 7
    assert replayed(older[::-1], 20, 7) == replayed(older, 20, 7)  # in whatever order the log was read
    chances = Counter(e.feedback_id for seed in range(2000) for e in replayed(older, 20, seed))
    assert len(chances) == 100
    assert max(chances.values()) < 1.35 * min(chances.values())  # each 400 times, within 3.6 standard errors of 18


def test_the_digest_tells_one_changed_label():
    examples = [example("1"), example("2")]
    assert digest(examples) != digest([examples[0], replace(examples[1], label="down")])


def test_the_digest_tells_what_was_ranked_scored_or_written_anew():
    one = replace(example("1"), label="ranked", answers=("x", "y"), ranks=(1, 2), metric="m", value=0.5)
    others = [replace(one, ranks=(2, 1)), replace(one, metric="n"), replace(one, value=0.6), replace(one, answers=("x", "z"))]
    assert len({digest([each]) for each in [one, *others]}) == 5
