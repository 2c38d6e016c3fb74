"""Each format's rows, as their data sets have them, and what is made of them."""

from __future__ import annotations

from typing import Any

import pytest

from feedback.importers import FORMATS
from feedback.importers.record import Imported, RowRefused


def read(format: str, row: Any) -> Imported:
    return FORMATS[format](row)


def said(row: Imported) -> list[tuple[tuple[int, ...], str, tuple[str, ...]]]:
    """Sides, kind with value, tags of each verdict."""
    return [(v.sides, getattr(v.judgement, "value", v.judgement.kind), v.judgement.tags) for v in row.verdicts]


def turns(row: Imported) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in row.prompt]


def hh(chosen: str, rejected: str) -> dict[str, str]:
    return {"chosen": chosen, "rejected": rejected}


def ratings(*values: Any) -> dict[str, Any]:
    return {f"aspect{number}": {"Rating": value, "Rationale": "so"} for number, value in enumerate(values)}


def ultra(*completions: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    return {
        "source": "flan",
        "instruction": "Why?",
        "completions": [{"model": f"m{i}", "response": text, "annotations": a} for i, (text, a) in enumerate(completions)],
    }


def binarized(**changes: Any) -> dict[str, Any]:
    question = {"role": "user", "content": "Why?"}
    return {
        "prompt": "Why?",
        "prompt_id": "x",
        "chosen": [question, {"role": "assistant", "content": "Because."}],
        "rejected": [question, {"role": "assistant", "content": "No."}],
        "score_chosen": 8.5,
        "score_rejected": 4.0,
    } | changes


def steer(**changes: Any) -> dict[str, Any]:
    context = [{"role": "user", "content": "Why?"}]
    return {"domain": "general", "context": context, "response1": "Yes.", "response2": "No.", "overall_preference": -2} | changes


def pku(**changes: Any) -> dict[str, Any]:
    return {
        "prompt": "How?",
        "response_0": "So.",
        "response_1": "Never.",
        "is_response_0_safe": False,
        "is_response_1_safe": True,
        "response_0_harm_category": {"Violence": True, "Drugs": True, "Cybercrime": True, "Privacy Violation": False},
        "response_1_harm_category": {"Violence": False},
        "better_response_id": 0,
        "safer_response_id": 1,
    } | changes


def battle(**changes: Any) -> dict[str, Any]:
    question = {"role": "user", "content": "Why?"}
    return {
        "question_id": "q1",
        "model_a": "ant",
        "model_b": "bee",
        "winner": "model_b",
        "judge": "arena_user_1",
        "conversation_a": [question, {"role": "assistant", "content": "Yes."}],
        "conversation_b": [question, {"role": "assistant", "content": "No."}],
    } | changes


def wide(**changes: Any) -> dict[str, Any]:
    return {
        "id": 30192,
        "model_a": "ant",
        "model_b": "bee",
        "prompt": '["Why?"]',
        "response_a": '["Yes."]',
        "response_b": '["No."]',
        "winner_model_a": 1,
        "winner_model_b": 0,
        "winner_tie": 0,
    } | changes


GOOD: dict[str, Any] = {
    "hh-rlhf": hh("\n\nHuman: Why?\n\nAssistant: Yes.", "\n\nHuman: Why?\n\nAssistant: No."),
    "ultrafeedback": ultra(("Yes.", ratings("5")), ("No.", ratings("1"))),
    "ultrafeedback-binarized": binarized(),
    "helpsteer3": steer(),
    "pku-saferlhf": pku(),
    "arena": battle(),
}


def test_hh_transcripts_are_split_at_the_last_assistant_turn_of_their_common_beginning():
    begun = "\n\nHuman: Hi?\n\nAssistant: Hello.\n\nHuman: Why?\n\nAssistant:"
    row = read("hh-rlhf", hh(f"{begun} I see.\nWell.", f"{begun} I do not."))
    assert turns(row) == [("user", "Hi?"), ("assistant", "Hello."), ("user", "Why?")]
    assert row.answers == ("I see.\nWell.", "I do not.")  # "I" is common too, and stays with the answers
    assert said(row) == [((0, 1), "a", ())]
    assert not row.sides_known


def test_an_hh_transcript_that_is_the_beginning_of_the_other_has_an_empty_answer():
    with pytest.raises(RowRefused, match="an answer is empty"):
        read("hh-rlhf", hh("\n\nHuman: Why?\n\nAssistant:", "\n\nHuman: Why?\n\nAssistant: So."))


def test_ultrafeedback_gives_all_pairs_by_the_mean_of_what_was_rated():
    """Means 3, 4 (of one rating), 3: the first and the third tie."""
    row = read("ultrafeedback", ultra(("A", ratings("2", "4")), ("B", ratings("4", "N/A")), ("C", ratings("3", "3"))))
    assert said(row) == [((0, 1), "b", ()), ((0, 2), "tie", ()), ((1, 2), "a", ())]
    assert (row.answers, row.models) == (("A", "B", "C"), ("m0", "m1", "m2"))
    assert not row.sides_known


def test_ultrafeedback_answers_of_the_same_text_are_no_pair():
    row = read("ultrafeedback", ultra(("A", ratings("2")), ("A ", ratings("4")), ("C", ratings("3"))))
    assert [sides for sides, *_ in said(row)] == [(0, 2), (1, 2)]


def test_binarized_ultrafeedback_has_its_answers_in_the_last_turns():
    row = read("ultrafeedback-binarized", binarized())
    assert (turns(row), row.answers, said(row)) == ([("user", "Why?")], ("Because.", "No."), [((0, 1), "a", ())])
    assert not row.sides_known


@pytest.mark.parametrize(("score", "value"), [(-3, "a"), (-1, "a"), (0, "tie"), (1, "b"), (3, "b")])
def test_helpsteer3_prefers_the_first_answer_below_zero(score, value):
    row = read("helpsteer3", steer(overall_preference=score))
    assert said(row) == [((0, 1), value, ())]
    assert row.sides_known


def test_pku_gives_two_peoples_preferences_and_flags_what_is_not_safe():
    row = read("pku-saferlhf", pku())
    assert said(row) == [((0, 1), "a", ("helpfulness",)), ((0, 1), "b", ("safety",)), ((0,), "flag", ("safety",))]
    assert [verdict.by for verdict in row.verdicts] == ["", "safety", "safety"]
    assert row.verdicts[2].judgement.harms == ("illegal", "violence")  # of Violence, Drugs, Cybercrime


def test_pku_rows_of_the_first_release_have_no_harm_categories():
    row = read("pku-saferlhf", {k: v for k, v in pku(is_response_1_safe=False).items() if "category" not in k})
    assert [verdict.judgement.harms for verdict in row.verdicts[2:]] == [("other",), ("other",)]
    assert [verdict.sides for verdict in row.verdicts[2:]] == [(0,), (1,)]


@pytest.mark.parametrize(
    ("winner", "value"),
    [("model_a", "a"), ("model_b", "b"), ("tie", "tie"), ("tie (bothbad)", "both_bad"), ("both_bad", "both_bad")],
)
def test_arena_winners_in_all_their_spellings(winner, value):
    row = read("arena", battle(winner=winner))
    assert (said(row), row.answers) == ([((0, 1), value, ())], ("Yes.", "No."))
    assert (row.models, row.rater, row.row_id) == (("ant", "bee"), "arena_user_1", "q1")


def test_arena_turns_may_come_in_parts_of_text():
    part = {"type": "text", "text": "Yes.", "image": None, "mimeType": None}
    conversation = [{"role": "user", "content": [part | {"text": "Why?"}]}, {"role": "assistant", "content": [part]}]
    row = read("arena", battle(conversation_a=conversation, judge=None, evaluation_session_id="s9"))
    assert (row.answers, row.rater) == (("Yes.", "No."), "s9")


def test_arena_lists_may_come_as_json_texts_with_a_column_for_each_winner():
    answers = {"prompt": '["Hi", "Why?"]', "response_a": '["Hello", "Yes."]', "response_b": '["Hello", "No."]'}
    row = read("arena", wide(winner_model_a=0, winner_tie=1, **answers))
    assert turns(row) == [("user", "Hi"), ("assistant", "Hello"), ("user", "Why?")]
    assert (row.answers, said(row), row.row_id) == (("Yes.", "No."), [((0, 1), "tie", ())], "30192")


def _turn(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


REFUSED = [
    ("hh-rlhf", hh("\n\nHuman: a\n\nAssistant: b", "\n\nHuman: c\n\nAssistant: d"), "no common beginning"),
    ("hh-rlhf", hh("\n\nHuman: a\n\nAssistant: b\n\nHuman: c", "\n\nHuman: a\n\nAssistant: d"), "goes on with further turns"),
    ("hh-rlhf", hh("\n\nHuman: a\n\nAssistant: b\n\nAssistant: c", "\n\nHuman: a\n\nAssistant: d"), "goes on with further turns"),
    ("hh-rlhf", hh("\n\nHuman: a\n\nAssistant: b", "\n\nHuman: a\n\nAssistant: b "), "the answers are the same"),
    ("hh-rlhf", hh("Hm\n\nHuman: a\n\nAssistant: b", "Hm\n\nHuman: a\n\nAssistant: c"), "does not begin with a turn"),
    ("hh-rlhf", hh("\n\nHuman: \n\nAssistant: b", "\n\nHuman: \n\nAssistant: c"), "does not end with a question"),
    ("hh-rlhf", hh("\n\nHuman: \ud800\n\nAssistant: b", ""), "column 'chosen': is no valid Unicode"),
    ("ultrafeedback", ultra(("A", ratings("1"))), "less than two answers"),
    ("ultrafeedback", ultra(("A", ratings("1")), (" ", ratings("2"))), "an answer is empty"),
    ("ultrafeedback", ultra(("A", ratings("1")), ("B", ratings("N/A"))), "an answer is not rated"),
    ("ultrafeedback", ultra(("A", ratings("1")), ("B", ratings("good"))), "a rating is not from 1 to 5"),
    ("ultrafeedback", ultra(("A", ratings("1")), ("B", ratings("6"))), "a rating is not from 1 to 5"),
    ("ultrafeedback", ultra(("A", ratings("1")), ("A", ratings("2"))), "the answers are the same"),
    ("ultrafeedback-binarized", binarized(score_rejected=8.5), "the scores are equal"),
    ("ultrafeedback-binarized", binarized(score_rejected=9.0), "the chosen answer has the lower score"),
    ("ultrafeedback-binarized", binarized(score_chosen=float("nan")), "column 'score_chosen'"),
    ("ultrafeedback-binarized", binarized(chosen=[_turn("user", "Who?"), _turn("assistant", "I.")]), "different conversations"),
    ("ultrafeedback-binarized", binarized(chosen=[_turn("user", "Why?"), _turn("user", "I.")]), "the last turn is no answer"),
    ("ultrafeedback-binarized", binarized(prompt="Who?"), "the prompt is not in the conversation"),
    ("helpsteer3", steer(overall_preference=4), "column 'overall_preference'"),
    ("helpsteer3", steer(overall_preference=None), "column 'overall_preference'"),
    ("helpsteer3", steer(context=[]), "does not end with a question"),
    ("helpsteer3", steer(context=[_turn("narrator", "Why?")]), "a turn has an unknown role"),
    ("helpsteer3", steer(response2="Yes. "), "the answers are the same"),
    ("pku-saferlhf", pku(better_response_id=2), "column 'better_response_id'"),
    ("pku-saferlhf", pku(is_response_0_safe=None), "column 'is_response_0_safe'"),
    ("pku-saferlhf", pku(response_0_harm_category={"Boredom": True}), "a harm category is unknown"),
    ("arena", battle(winner="model_c"), "the winner is unknown"),
    ("arena", battle(conversation_a=[_turn("user", "Who?"), _turn("assistant", "I.")]), "different conversations"),
    ("arena", battle(conversation_a=[_turn("user", "Why?")]), "the last turn is no answer"),
    ("arena", battle(conversation_b=[]), "the last turn is no answer"),
    ("arena", battle(conversation_a=[_turn("user", [{"type": "image"}]), _turn("assistant", "I.")]), "more than text"),
    ("arena", wide(winner_tie=1), "the winner is unknown"),
    ("arena", wide(winner_model_a=0), "the winner is unknown"),
    ("arena", wide(response_a="[null]"), "column 'response_a' is no JSON list of texts"),
    ("arena", wide(response_a='["\\ud83d"]'), "column 'response_a' is no JSON list of texts"),
    ("arena", wide(response_a="Yes."), "column 'response_a' is no JSON list of texts"),
    ("arena", wide(response_b="[]"), "there is not one answer to each question"),
]


@pytest.mark.parametrize(("format", "row", "reason"), REFUSED, ids=[f"{f}: {reason}" for f, _, reason in REFUSED])
def test_a_row_that_says_nothing_usable_is_refused_by_name(format, row, reason):
    with pytest.raises(RowRefused) as refusal:
        read(format, row)
    assert reason in refusal.value.reason


@pytest.mark.parametrize("format", FORMATS)
def test_every_column_that_an_importer_needs_is_missed_by_name_and_no_other_matters(format):
    good = GOOD[format]
    expected = read(format, good)
    assert read(format, good | {"another": {"column": 1}}) == expected
    missed = []
    for column in good:
        try:
            read(format, {name: value for name, value in good.items() if name != column})
        except RowRefused as refusal:
            missed.append((column, refusal.reason))
    assert len(missed) >= 2
    assert missed == [(column, f"column {column!r} is missing") for column, _ in missed]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("row", [None, 7, "text", [], {}])
def test_what_is_no_row_at_all_is_refused(format, row):
    with pytest.raises(RowRefused):
        read(format, row)
