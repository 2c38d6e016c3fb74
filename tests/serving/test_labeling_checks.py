"""Verdicts on code in a stream's answers, as judgements in the log beside people's."""

from __future__ import annotations

from pathlib import Path

from label_world import world

from feedback.events import CompletionText
from feedback.join import Joiner
from feedback.log import TopicReader
from serving.labeling.checks import check_stream
from serving.labeling.places import find_places


def test_code_is_checked_beside_the_human_label_and_checking_again_adds_nothing(tmp_path: Path):
    with world(tmp_path) as w:
        answers = {
            "right": "```python\ndef double(x): return 2 * x\n```",
            "wrong": "```python\ndef double(x): return x\n```",
            "broken": "```python\ndef double(x: return x\n```",
            "prose": "no code",
            "evasive": "I would rather not.",
        }
        for name, text in answers.items():
            w.answered(name, text=CompletionText(messages=(), answer=text))
        stream = w.stream(source={"rule": "listed"})
        for name, found in find_places(w.log, list(answers)).items():
            tests = None if name == "prose" else "assert double(2) == 4"
            assert w.streams.add(stream, [found.place], tests=tests) is not None
        while w.next(stream) is not None:
            w.thumb(stream, -1)
        for _ in range(2):
            checked = {one.completion_id: one for one in check_stream(w.streams, stream, w.log)}
            assert {id: (one.parses, one.outcome) for id, one in checked.items()} == {
                "right": (True, "passed"),
                "wrong": (True, "failed"),
                "broken": (False, None),
                "evasive": (False, "failed"),
            }
            assert checked["broken"].detail.startswith("line 1: ")
            assert checked["evasive"].detail == "no code in the answer"
        joiner = Joiner()
        for topic in ("completions", "feedback"):
            joiner.extend(TopicReader(w.log, topic).drain())
        votes = {(v.target.id, v.rater[:10], v.judgement.name, v.judgement.value, v.source) for v in joiner.votes()}
        assert {vote for vote in votes if vote[1] == "code-check"} == {
            ("right", "code-check", "code_parses", 1.0, "imported"),
            ("right", "code-check", "tests_passed", 1.0, "imported"),
            ("wrong", "code-check", "code_parses", 1.0, "imported"),
            ("wrong", "code-check", "tests_passed", 0.0, "imported"),
            ("broken", "code-check", "code_parses", 0.0, "imported"),
            ("evasive", "code-check", "tests_passed", 0.0, "imported"),
        }
        assert len(votes) == 6 + 5, "people's five thumbs stand"
        assert len(w.facts()) == 11
