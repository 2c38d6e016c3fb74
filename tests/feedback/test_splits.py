"""Held-out votes: by rater, prompt and time, each vote by itself."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import get_args

from feedback_samples import rating

from feedback.events import CompletionCreated, CompletionText, Event, Exposure, Message
from feedback.join import Joiner, Vote
from feedback.log import Position, Record
from feedback.splits import Split, split_of


def asked(name: str, question: str) -> Event:
    data = CompletionCreated(
        completion_id=name,
        conversation="c1",
        user="u1",
        text=CompletionText(messages=(Message(role="user", content=question),), answer="So."),
        exposure=Exposure(completion_id=name, adapter="base"),
    )
    return Event(id=f"e-{name}", time=100.0, project="p", key="c1", data=data)


def crowd(votes: int, raters: int, prompts: int, *, source: str = "end_user") -> list[Vote]:
    """Everybody votes on all prompts in turn, in one partition."""
    joiner = Joiner()
    for number in range(votes):
        event = rating(f"f{number}", f"x{number}", rater=f"r{number % raters}", time=float(number))
        event = event.model_copy(update={"data": event.data.model_copy(update={"source": source})})
        joiner.add(Record(Position("feedback", 0, number), event))
        joiner.add(Record(Position("completions", 0, number), asked(f"x{number}", f"Why {number % prompts}?")))
    return joiner.votes()


def question(vote: Vote) -> str:
    return vote.completions[0].text.messages[0].content


def test_nobody_and_no_prompt_of_the_test_votes_is_met_in_training():
    votes = crowd(4000, raters=97, prompts=89)
    parts: dict[str, list[Vote]] = defaultdict(list)
    for vote in votes:
        parts[split_of(vote)].append(vote)
    assert set(parts) == set(get_args(Split))
    trained_raters, trained_prompts = ({of(v) for v in parts["train"]} for of in (lambda v: v.rater, question))
    for vote in parts["test"]:
        assert vote.rater not in trained_raters
        assert question(vote) not in trained_prompts
    assert all(vote.rater not in trained_raters for vote in parts["test_rater"])
    assert all(question(vote) not in trained_prompts for vote in parts["test_prompt"])


def test_a_tenth_of_each_is_held_out():
    """Of 3 000 raters with a prompt each: 0.9 · 0.9 · 0.9 = 73 % train, 8 % later, 9 % each for rater and prompt, 1 % test."""
    shares = Counter(split_of(vote) for vote in crowd(3000, raters=3000, prompts=3000))
    expected = {"train": 0.729, "test_time": 0.081, "test_rater": 0.09, "test_prompt": 0.09, "test": 0.01}
    for split, share in expected.items():
        assert abs(shares[split] / 3000 - share) < 4 * (share * (1 - share) / 3000) ** 0.5, split


def test_more_votes_move_no_earlier_one():
    few, many = crowd(150, raters=40, prompts=30), crowd(600, raters=40, prompts=30)
    assert [split_of(vote) for vote in many[:150]] == [split_of(vote) for vote in few]


def test_a_votes_split_is_the_same_in_every_version():
    """Else an adapter would be tested on what it had learnt from. The names are those that the hash had held out at first."""
    votes = crowd(600, raters=40, prompts=30)
    assert {vote.rater for vote in votes if split_of(vote) in ("test", "test_rater")} == {"r3", "r7", "r13", "r19", "r33"}
    prompts = {question(vote) for vote in votes if split_of(vote) in ("test", "test_prompt")}
    assert prompts == {"Why 0?", "Why 7?"}


def test_what_is_held_out_in_time_comes_after_the_others_of_its_block():
    votes = [vote for vote in crowd(200, raters=40, prompts=30) if split_of(vote) in ("train", "test_time")]
    for block in range(10):
        times = {split: [v.time for v in votes if v.time // 20 == block and split_of(v) == split] for split in get_args(Split)}
        assert max(times["train"]) < min(times["test_time"], default=1e9)
    assert {vote.time % 20 for vote in votes if split_of(vote) == "test_time"} == {18.0, 19.0}


def test_imported_votes_are_not_held_out_in_time():
    assert "test_time" not in {split_of(vote) for vote in crowd(400, raters=40, prompts=30, source="imported")}
