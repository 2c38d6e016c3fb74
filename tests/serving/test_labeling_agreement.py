"""Agreement of a stream's annotators, from the log: figures worked by hand, orders of display undone."""

from __future__ import annotations

import pytest
from label_world import World, annotator, completion

from feedback.events import Event, FeedbackRetracted, Target
from serving.labeling.agreement import agreement


def judge(w: World, stream, who: str, said: dict[str, dict]) -> None:
    """Everything there is for ``who``: ``said`` names a body by the first answer's id."""
    while (handed := w.next(stream, who)) is not None:
        w.say(handed, who, **said[min(found.place.completion_id for found in handed.shown)])


def thumbs(*values: int) -> dict[str, dict]:
    return {f"x{n}": {"type": "rating", "value": value} for n, value in enumerate(values)}


def test_alpha_kappa_and_consensus_of_three_raters(w: World):
    w.answered("x0", "x1", "x2", "x3")
    stream = w.stream(overlap=3)
    for who, values in (("ann", (1, 1, -1, -1)), ("bob", (1, 1, -1, -1)), ("cid", (1, -1, -1, -1))):
        judge(w, stream, who, thumbs(*values))
    found = agreement(w.streams, stream, w.log)
    assert (found.judgements, found.items, found.overlapping) == (12, 4, 4)
    # observed: x1's ordered pairs that differ, 4 of 6, weigh 1/2 each: 2 coincidences of 12.
    # expected: 5 ups and 7 downs, 2 * 5 * 7 / 11. alpha = 1 - 2 / (70 / 11) = 1 - 22 / 70
    assert found.alpha == pytest.approx(1 - 22 / 70)
    rows = {row.rater: row for row in found.raters}
    cid = rows[w.desk.rater(annotator("cid"), "default")]
    # beside ann's and bob's majority + + - -, cid says + - - -: 3 of 4; by chance (1 * 2 + 3 * 2) / 16 = 1/2
    assert (cid.shared, cid.agreed, cid.kappa) == (4, 0.75, pytest.approx((0.75 - 0.5) / 0.5))
    ann = rows[w.desk.rater(annotator("ann"), "default")]
    assert (ann.shared, ann.agreed, ann.kappa) == (3, 1.0, 1.0)  # bob and cid are divided on x1
    said = {one.completion_ids[0]: one.label for one in found.consensus}
    assert said == {"x0": "1", "x1": "1", "x2": "-1", "x3": "-1"}
    assert all(one.probability > 0.8 and one.raters == 3 for one in found.consensus)


def test_pairs_agree_in_whatever_order_they_were_shown(w: World):
    for n in range(2):
        w.log.append([completion(f"x{n}", question=f"q{n}", comparison=f"cmp_{n}")])
        w.log.append([completion(f"y{n}", question=f"q{n}", comparison=f"cmp_{n}", position=1)])
    stream = w.stream(kind="preference", overlap=2)
    for who, coin in (("ann", 0.0), ("bob", 0.9)):
        for better in ("x0", "y1"):
            w.coins = [0.0, 0.0, coin]
            handed = w.task(stream, who)
            first = handed.shown[0].place.completion_id
            assert (first[0] == "y") == (coin > 0.5)
            wanted = better if better[1] == first[1] else {"x0": "y1", "y1": "x0"}[better]
            w.say(handed, who, type="preference", value="a" if first == wanted else "b")
    found = agreement(w.streams, stream, w.log)
    assert (found.judgements, found.overlapping, found.alpha) == (4, 2, 1.0)
    assert {one.completion_ids[0]: one.label for one in found.consensus} == {"x0": "first", "x1": "second"}


def test_what_was_taken_back_skipped_or_flagged_is_no_judgement(w: World):
    w.answered("x0", "x1", "x2", "x3")
    stream = w.stream(overlap=2)
    said = thumbs(1, 1, 1, 1) | {
        "x1": {"type": "skip", "reason": "unclear"},
        "x2": {"type": "flag", "harms": ["hate"]},
    }
    judge(w, stream, "ann", said)
    rater = w.desk.rater(annotator("ann"), "default")
    back = FeedbackRetracted(feedback_id="fb_1", target=Target(completion_ids=("x3",)), rater=rater, kind="rating")
    w.log.append([Event(id="fb_1", time=5.0, project="default", key="of x3", data=back)])
    found = agreement(w.streams, stream, w.log)
    assert [one.completion_ids for one in found.consensus] == [("x0",)]
    assert (found.judgements, found.alpha) == (1, None)


def test_scores_rankings_and_flags_agree_too(w: World):
    w.answered("x0", "x1", question="q")
    scores = w.stream("scores", kind="score", metric="m", overlap=2)
    ranked, flags = w.stream("ranked", kind="ranking", overlap=2), w.stream("flags", kind="flag", overlap=2)
    for who in ("ann", "bob"):
        judge(w, scores, who, {"x0": {"type": "score", "value": 0.2}, "x1": {"type": "score", "value": 0.8}})
        judge(w, ranked, who, {"x0": {"type": "ranking", "ranks": [1, 2]}})
        judge(w, flags, who, {"x0": {"type": "flag", "harms": ["hate"]}, "x1": {"type": "flag", "harms": []}})
    found = {stream.name: agreement(w.streams, stream, w.log) for stream in (scores, ranked, flags)}
    assert (found["scores"].alpha, found["scores"].consensus) == (1.0, ())
    assert [(one.label, one.raters) for one in found["ranked"].consensus] == [("1 2", 2)]
    assert {one.completion_ids[0]: one.label for one in found["flags"].consensus} == {"x0": "harmful", "x1": "harmless"}


def test_a_stream_without_a_judgement_has_no_agreement(w: World):
    found = agreement(w.streams, w.stream(), w.log)
    assert (found.judgements, found.alpha, found.raters, found.consensus) == (0, None, (), ())
