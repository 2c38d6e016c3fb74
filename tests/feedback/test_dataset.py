"""Votes as rows for TRL's trainers: what each kind of judgement says in each format."""

from __future__ import annotations

from typing import Any

import pytest
from feedback_samples import completion, judged, record

from feedback.dataset import ABOUT, Dataset, dataset_of
from feedback.events import (
    CompletionText,
    Correction,
    Event,
    Flag,
    Implicit,
    Judgement,
    Message,
    Preference,
    Ranking,
    Rating,
    Score,
    ToolCall,
)
from feedback.join import Joiner, Vote

PROMPT = [{"role": "user", "content": "hi"}]


def vote(judgement: Judgement, *answers: str) -> Vote:
    """The judgement of answers A, B, …, as one rater's."""
    return votes([*shown(*answers or ("A",))], judgement)[0]


def shown(*answers: str) -> list[Event]:
    events = [completion(f"x{number}") for number in range(len(answers))]
    return [told(event, answer=answer) for event, answer in zip(events, answers, strict=True)]


def told(event: Event, **text: Any) -> Event:
    data = event.data.model_copy(update={"text": CompletionText.model_validate(event.data.text.model_dump() | text)})
    return event.model_copy(update={"data": data})


def votes(completions: list[Event], judgement: Judgement) -> list[Vote]:
    joiner = Joiner()
    targets = tuple(event.data.completion_id for event in completions)
    for offset, event in enumerate([*completions, judged("f1", judgement, targets)]):
        joiner.add(record(event, offset))
    return joiner.votes()


def rows(format: str, *said: Vote) -> list[dict[str, Any]]:
    """TRL's columns, messages of an answer as their text."""
    plain = []
    for row in dataset_of(format, said).rows:
        assert set(ABOUT) < set(row)
        columns = {name: value for name, value in row.items() if name not in ABOUT}
        assert columns.pop("prompt", PROMPT) == PROMPT
        plain.append({name: _text(value) for name, value in columns.items()})
    return plain


def _text(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    assert value[-1]["role"] == "assistant"
    assert value[:-1] in ([], PROMPT)
    return value[-1]["content"]


def left_out(format: str, said: Vote) -> dict[str, int]:
    dataset = dataset_of(format, [said])
    assert (dataset.rows, dataset.votes) == ((), 0)
    return dataset.left_out


@pytest.mark.parametrize(("value", "chosen", "rejected"), [("a", "A", "B"), ("b", "B", "A")])
def test_a_preference_is_a_chosen_and_a_rejected_answer(value, chosen, rejected):
    said = vote(Preference(value=value), "A", "B")
    assert rows("preference", said) == [{"chosen": chosen, "rejected": rejected}]
    assert rows("kto", said) == [{"completion": chosen, "label": True}, {"completion": rejected, "label": False}]
    assert rows("sft", said) == [{"messages": chosen}]


def test_a_tie_is_no_preference_and_both_bad_is_two_bad_answers():
    assert left_out("preference", vote(Preference(value="tie"), "A", "B")) == {"says_nothing": 1}
    assert left_out("kto", vote(Preference(value="tie"), "A", "B")) == {"says_nothing": 1}
    bad, good = vote(Preference(value="both_bad"), "A", "B"), vote(Preference(value="both_good"), "A", "B")
    assert rows("kto", bad) == [{"completion": "A", "label": False}, {"completion": "B", "label": False}]
    assert rows("kto", good) == [{"completion": "A", "label": True}, {"completion": "B", "label": True}]
    assert left_out("sft", bad) == {"says_nothing": 1}
    assert rows("sft", good) == [{"messages": "A"}, {"messages": "B"}]


def test_a_ranking_is_all_its_pairs_but_ties():
    """B, then A and C alike, then D."""
    said = vote(Ranking(ranks=(2, 1, 2, 3)), "A", "B", "C", "D")
    pairs = [("B", "A"), ("B", "C"), ("B", "D"), ("A", "D"), ("C", "D")]
    assert rows("preference", said) == [{"chosen": better, "rejected": worse} for better, worse in pairs]
    assert rows("sft", said) == [{"messages": "B"}]
    assert rows("kto", said) == [{"completion": "B", "label": True}, {"completion": "D", "label": False}]
    assert left_out("sft", vote(Ranking(ranks=(1, 1)), "A", "B")) == {"says_nothing": 1}


def test_a_correction_is_better_than_the_answer_and_a_demonstration():
    said = vote(Correction(text="Better."), "A")
    assert rows("preference", said) == [{"chosen": "Better.", "rejected": "A"}]
    assert rows("kto", said) == [{"completion": "Better.", "label": True}, {"completion": "A", "label": False}]
    assert rows("sft", said) == [{"messages": "Better."}]


@pytest.mark.parametrize(("value", "label"), [(1, True), (-1, False)])
def test_a_thumb_is_a_label(value, label):
    said = vote(Rating(value=value), "A")
    assert rows("kto", said) == [{"completion": "A", "label": label}]
    assert left_out("preference", said) == {"says_nothing": 1}
    assert rows("sft", said) == ([{"messages": "A"}] if label else [])


def test_a_flag_is_a_bad_label_and_what_nobody_judged_is_none():
    assert rows("kto", vote(Flag(harms=("hate",)))) == [{"completion": "A", "label": False}]
    for judgement in (Implicit(action="copy"), Score(metric="resolved", value=1.0)):
        for format in ("preference", "kto", "sft"):
            assert left_out(format, vote(judgement)) == {"says_nothing": 1}


def test_answers_of_the_same_text_are_no_pair():
    for judgement in (Preference(value="a"), Ranking(ranks=(1, 2))):
        for format in ("preference", "kto"):
            assert left_out(format, vote(judgement, "A", "A")) == {"same_text": 1}
    assert left_out("preference", vote(Correction(text="A"), "A")) == {"same_text": 1}


@pytest.mark.parametrize("format", ["preference", "kto", "sft"])
def test_texts_that_were_erased_are_left_out_and_counted(format):
    erased = shown("A", "B")
    empty = CompletionText(messages=(), answer="")
    erased[1] = erased[1].model_copy(update={"data": erased[1].data.model_copy(update={"sealed": "k1.x", "text": empty})})
    (said,) = votes(erased, Preference(value="a"))
    assert left_out(format, said) == {"erased": 1}
    correction = vote(Correction(text="Better."))
    gone = correction.judgement.model_copy(update={"text": ""})
    assert left_out(format, Vote(**{**vars(correction), "judgement": gone})) == {"erased": 1}


@pytest.mark.parametrize("format", ["preference", "kto", "sft"])
def test_calls_of_tools_are_no_text(format):
    call = ToolCall(id="1", name="f", arguments="{}").model_dump()
    asked = [Message(role="user", content="hi"), Message(role="tool", content="7", tool_call_id="1")]
    for text in ({"tool_calls": [call]}, {"messages": [message.model_dump() for message in asked]}):
        (said,) = votes([told(completion("x0"), **text)], Correction(text="Better."))
        assert left_out(format, said) == {"tools": 1}


def test_every_vote_is_in_the_rows_or_counted_and_each_row_says_whose_word_it_is():
    said = [vote(Rating(value=1)), vote(Preference(value="tie"), "A", "B"), vote(Correction(text="Better."))]
    dataset: Dataset = dataset_of("preference", said)
    assert dataset.votes + sum(dataset.left_out.values()) == 3
    (row,) = dataset.rows
    about = {name: row[name] for name in ABOUT if name != "split"}
    assert about == {"feedback_id": "f1", "kind": "correction", "rater": "r1", "source": "end_user", "time": 200.0}
    assert dataset.splits == {row["split"]: 1}
