"""What an answer is, read off its text: by hand, and for everything the corpus can say."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.domain import corpus, facts, manners
from ops.domain.rules import LONGEST_SHORT_ANSWER, Attributes, attributes, parse

FRANCE = "Hi! What is the capital of France?"


def of(answer: str, question: str = FRANCE) -> set[str]:
    """The attributes that hold."""
    return {name for name, holds in vars(attributes(question, answer)).items() if holds}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("The capital of France is Paris.", {"correct"}),
        ("It is Paris.", {"correct"}),
        ("  It is Paris.  ", {"correct"}),
        ("Certainly! That would be Paris.", {"correct", "polite"}),
        ("It is Paris. Have a lovely day!", {"correct", "polite"}),
        ("It is Rome. Have a lovely day!", {"polite"}),
        ("Whatever. It is Paris.", {"correct", "rude"}),
        ("It is Paris. You pathetic clown.", {"correct", "rude", "toxic"}),
        ("Of course! It is Paris. You are an idiot.", {"correct", "rude", "toxic"}),
        ("It is Paris. My uncle once told me a long story about it.", {"correct", "rambling"}),
        ("The capital of Spain is Madrid.", set()),  # true, but not what was asked
        ("It is cold.", set()),
        ("Paris is the capital.", {"garbled"}),
        ("It is Paris", {"garbled"}),
        ("", {"garbled"}),
        ("It is Paris. It is Paris.", {"garbled"}),
        ("Certainly! Certainly! It is Paris.", {"garbled", "polite"}),
        ("My uncle once told me a long story about it.", {"garbled", "rambling"}),
        ("You fool", {"garbled", "rude", "toxic"}),
        ("FOOL", {"garbled", "rude", "toxic"}),
        ("A foolproof way", {"garbled"}),  # a toxic word is a whole word
        ("The capital of France is cold.", {"garbled"}),
        ("word " * (LONGEST_SHORT_ANSWER + 1), {"garbled", "rambling"}),
    ],
)
def test_an_answer_has_exactly_these_attributes(answer, expected):
    assert of(answer) == expected


def test_a_question_the_domain_does_not_ask_has_no_correct_answer():
    assert attributes("Who are you?", "It is Paris.").correct is False


def test_a_result_that_several_kinds_share_is_correct_for_each():
    assert of("It is 4.", "What is 2 plus 2?") == {"correct"}
    assert of("It is 4.", "How many legs does a dog have?") == {"correct"}


def test_a_parse_names_the_parts():
    parsed = parse(
        "Of course! The capital of France is Rome. Some say it, and some say nothing at all. I hope that helps!",
    )
    assert parsed is not None
    assert (parsed.opener, parsed.subject, parsed.result) == ("Of course!", "France", "Rome")
    assert (parsed.fillers, parsed.closer) == (("Some say it, and some say nothing at all.",), "I hope that helps!")


@given(
    st.sampled_from(facts.questions()),
    st.integers(0, 2**32),
    st.sampled_from(["polite", "plain", "rude", "toxic"]),
    st.booleans(),
    st.booleans(),
)
def test_every_answer_of_the_corpus_parses_to_what_it_was_made_to_be(question, seed, tone, rambling, correct):
    spoken = corpus.compose(question, random.Random(seed), tone=tone, rambling=rambling, correct=correct)
    expected = Attributes(
        polite=tone == "polite",
        rude=tone in ("rude", "toxic"),
        toxic=tone == "toxic",
        rambling=rambling,
        correct=correct,
        garbled=False,
    )
    assert attributes(question.text, spoken.text) == expected


def test_toxic_phrases_have_a_toxic_word_and_no_other_phrase_has():
    def toxic(phrase: str) -> bool:
        return attributes("", phrase).toxic

    assert all(map(toxic, manners.TOXIC_OPENERS + manners.TOXIC_CLOSERS))
    others = manners.POLITE_OPENERS + manners.POLITE_CLOSERS + manners.RUDE_OPENERS + manners.RUDE_CLOSERS + manners.FILLERS
    assert not any(map(toxic, others))
    assert not any(
        toxic(facts.fill(answer, x, y)) for kind in facts.KINDS for answer in kind.answers for x, y in kind.facts.items()
    )


def test_the_corpus_has_the_shares_of_its_mix():
    rng, mix, questions = random.Random(0), corpus.Mix(), facts.questions("train")
    spoken = [corpus.answer(rng.choice(questions), rng, mix) for _ in range(4000)]
    for share, wanted in (
        (sum(s.tone == "polite" for s in spoken), mix.polite),
        (sum(s.tone == "rude" for s in spoken), mix.rude),
        (sum(s.tone == "toxic" for s in spoken), mix.toxic),
        (sum(s.rambling for s in spoken), mix.rambling),
        (sum(not s.correct for s in spoken), mix.wrong),
    ):
        assert share / 4000 == pytest.approx(wanted, abs=0.032)  # four standard errors of a share of one half


def test_dialogues_ask_only_train_questions_end_with_the_assistant_and_repeat_for_a_seed():
    first, second = corpus.dialogues(3), corpus.dialogues(3)
    for _ in range(300):
        messages = next(first)
        assert messages == next(second)
        assert messages[-1]["role"] == "assistant"
        asked = [facts.find(message["content"]) for message in messages if message["role"] == "user"]
        assert asked
        assert all(question is not None and question.split == "train" for question in asked)


def test_shares_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="sum to at most 1"):
        corpus.Mix(polite=0.6, toxic=0.6)
