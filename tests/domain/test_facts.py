"""The starter domain's questions and their splits."""

from __future__ import annotations

from ops.domain import facts


def test_there_are_thousands_of_distinct_questions_and_enough_in_every_split():
    texts = [question.text for question in facts.questions()]
    assert len(set(texts)) == len(texts) > 8000
    assert len(facts.questions("train")) > 4000
    assert len(facts.questions("gate")) >= 1024
    assert len(facts.questions("held_out")) >= 1000


def test_no_bare_question_is_in_two_splits_and_every_question_is_in_one():
    bare = {split: {question.bare for question in facts.questions(split)} for split in ("train", "gate", "held_out")}
    assert not bare["train"] & bare["gate"]
    assert not bare["train"] & bare["held_out"]
    assert not bare["gate"] & bare["held_out"]
    assert sum(len(facts.questions(split)) for split in bare) == len(facts.questions())


def test_greeting_and_thanks_do_not_move_a_question_to_another_split():
    plain = facts.find("What is the capital of France?")
    assert plain is not None
    for wrapped in ("Hi! What is the capital of France?", "What is the capital of France? Thanks."):
        question = facts.find(wrapped)
        assert question is not None
        assert question.split == plain.split


def test_the_split_of_a_question_is_its_hash_modulo_a_hundred():
    assert facts.split_of("question 0") == "train"  # SHA-256 mod 100 = 24
    assert facts.split_of("question 1") == "held_out"  # SHA-256 mod 100 = 92
    assert facts.split_of("question 2") == "train"  # SHA-256 mod 100 = 56
    assert facts.split_of("question 3") == "held_out"  # SHA-256 mod 100 = 96
    assert facts.split_of("question 7") == "gate"  # SHA-256 mod 100 = 73
    assert facts.split_of("question 11") == "gate"  # SHA-256 mod 100 = 74


def test_a_question_finds_its_truth_and_a_foreign_one_finds_nothing():
    question = facts.find(" One more thing. How much is 3 plus 4? ")
    assert question is not None
    assert (question.subject, question.truth, question.kind.name) == ("3 plus 4", "7", "sum")
    assert facts.find("Who are you?") is None


def test_every_kind_can_be_answered_wrongly():
    assert all(len(kind.choices) >= 2 for kind in facts.KINDS)
