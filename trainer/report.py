"""How good a reward model is on votes it never saw, beside what knows nothing and what reads words only.

The votes are of raters whom it never learnt from (with few raters: of those, too), on prompts that it never saw, the newest
ones. `Later` is the same in time: what came since the last training, foretold by the model of then ("test, then train": Dawid
1984, doi:10.2307/2981683), so that no vote is kept from learning for the sake of a test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from feedback.raters.population import Population
from trainer.baselines import baseline, chances, majority_margins, tfidf_margins
from trainer.drift import nats_by_kind
from trainer.examples import Example, parted
from trainer.goals import GoalFigures, goal_figures
from trainer.measures import LengthBias, Measures, accuracy, length_bias, measures
from trainer.reward import RewardModel
from trainer.spread import Spread


@dataclass(frozen=True)
class Accuracy:
    """The share of ``n`` decided votes that were foretold."""

    n: int = 0
    value: float | None = None


@dataclass(frozen=True)
class Later:
    """Decided votes that came after all that the last commit's model knew, of others and on prompts that neither model learnt
    from: the share foretold by the model ``before`` and ``now``. No votes in a first cycle.
    """

    n: int = 0
    before: float | None = None
    now: float | None = None
    majority: float | None = None
    """Of whom the votes have taught that were not new, as many of them as were learnt again: to be held against ``before``."""
    tfidf: float | None = None


@dataclass(frozen=True)
class CurvePoint:
    """After so many ``votes`` of the round: the share of the held-out ones foretold, TF-IDF's, and the nats a decided vote."""

    votes: int
    accuracy: float | None
    tfidf: float | None
    nll: float | None


@dataclass(frozen=True)
class RewardReport:
    """Over ``n`` held-out decided votes (of pairs and thumbs); ties and other kinds only count in ``nll``."""

    votes: int
    """Votes learnt from, scores of goals' metrics aside."""
    n: int
    accuracy: float | None
    majority: float | None
    """The accuracy of whoever always says what most of the votes learnt from say: per kind, "a" or "b", "up" or "down"."""
    tfidf: float | None
    """That of a logistic regression on the words of the answers, taught the same votes."""
    nll: float | None
    """Nats a vote, all kinds; a model that knows nothing has ln 3 a pair and ln 2 a thumb."""
    nll_n: int
    nll_by_kind: dict[str, Spread] = field(default_factory=dict)
    """What later votes are held against, see `trainer.drift`."""
    measures: Measures = field(default_factory=Measures)
    """Accuracy, precision, recall, F1 and AUC by the score alone; NLL and ECE of what each was expected to say."""
    baselines: dict[str, Measures] = field(default_factory=dict)
    """"majority" and "tfidf"."""
    length: LengthBias = field(default_factory=LengthBias)
    baseline_lengths: dict[str, LengthBias] = field(default_factory=dict)
    """Of "majority" and "tfidf"."""
    golden: Accuracy = field(default_factory=Accuracy)
    """On golden items, which nobody learns from."""
    later: Later = field(default_factory=Later)
    flip: float = 0.0
    """Mean epsilon of the votes learnt from."""
    doubted: int = 0
    """Raters who say the opposite more often than not with a probability above `DOUBT`."""
    curve: tuple[CurvePoint, ...] = ()
    """Of the reward model, not of the judge; `trainer.vote_curve` makes it."""
    goals: dict[str, GoalFigures] = field(default_factory=dict)
    """By metric, of the operator's style goals; no other figure here has anything of them."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


DOUBT = 0.95

_BASELINES = {"majority": majority_margins, "tfidf": tfidf_margins}


def report(
    reward: RewardModel,
    learnt: Sequence[Example],
    held_out: Sequence[Example],
    golden: Sequence[Example] = (),
    before: Mapping[str, float] | None = None,
    people: Population | None = None,
    older: Sequence[Example] = (),
) -> RewardReport:
    """``before``: what `margins_of` gave the newest of the held-out votes before the model learnt from what is ``learnt``, of
    which ``older`` was known then.

    ``people``: what another model has found out about the raters of the held-out votes. Decided votes of whoever says the
    opposite more often than not are left out, as they would make a right model look wrong, and of the others each is expected to
    err as they do; without, and in ``nll``, all are strangers.
    """
    goals = _goals(reward, learnt, held_out)
    (learnt, _), (held_out, _) = parted(learnt, goals), parted(held_out, goals)
    flips = {} if people is None else people.flips
    scores = reward.score_examples(held_out)
    nats = reward.nll(held_out, scores)
    decided = [(e, score) for e, score in zip(held_out, scores, strict=True) if e.sign and flips.get(e.rater, 0.0) <= 0.5]
    tested = [example for example, _ in decided]
    margins = [reward.margin(example, score) for example, score in decided]
    expected = [reward.expected(example, score, flips.get(example.rater)) for example, score in decided]
    own = measures(margins, expected, [example.sign for example in tested])
    others = {name: ask(learnt, tested) for name, ask in _BASELINES.items()}
    words = {name: baseline(said, tested) for name, said in others.items()}
    doubts = reward.people.doubts.values() if reward.people is not None else ()
    return RewardReport(
        votes=len(learnt),
        n=len(tested),
        accuracy=own.accuracy,
        majority=words["majority"].accuracy,
        tfidf=words["tfidf"].accuracy,
        nll=sum(nats) / len(nats) if nats else None,
        nll_n=len(nats),
        nll_by_kind={kind: Spread.of(list(own.values())) for kind, own in nats_by_kind(reward, held_out, scores).items()},
        measures=own,
        baselines=words,
        length=_length(tested, margins, expected),
        baseline_lengths={name: _length(tested, said, chances(said)) for name, said in others.items()},
        golden=_golden(reward, golden),
        later=_later(older, tested, margins, before or {}),
        flip=float(reward.likelihood.flip),
        doubted=sum(doubt > DOUBT for doubt in doubts),
        goals=goals,
    )


def margins_of(reward: RewardModel, examples: Sequence[Example]) -> dict[str, float]:
    """By feedback id, of the decided ones among the examples: see `RewardModel.margin`."""
    decided = [example for example in examples if example.sign]
    scores = reward.score_examples(decided)
    return {e.feedback_id: reward.margin(e, score) for e, score in zip(decided, scores, strict=True)}


def _goals(reward: RewardModel, learnt: Sequence[Example], held_out: Sequence[Example]) -> dict[str, GoalFigures]:
    found = {}
    for metric in sorted({*reward.goals, *reward.left_out}):
        taught, tested = (parted(examples, {metric})[1] for examples in (learnt, held_out))
        if metric in reward.goals:
            found[metric] = goal_figures(reward.goals[metric], reward.read_first(tested), tested, taught)
        else:
            weight, reason = reward.left_out[metric]
            found[metric] = GoalFigures(weight, len(taught), reason)
    return found


def _golden(reward: RewardModel, golden: Sequence[Example]) -> Accuracy:
    margins = margins_of(reward, golden)
    signs = [example.sign for example in golden if example.sign]
    return Accuracy(len(signs), accuracy(list(margins.values()), signs))


def _later(older: Sequence[Example], tested: Sequence[Example], margins: Sequence[float], before: Mapping[str, float]) -> Later:
    both = [(e, before[e.feedback_id], now) for e, now in zip(tested, margins, strict=True) if e.feedback_id in before]
    if not both:
        return Later()
    votes = [vote for vote, _, _ in both]
    signs = [vote.sign for vote in votes]
    others = {name: accuracy(ask(older, votes), signs) for name, ask in _BASELINES.items()}
    then, now = (accuracy([each[place] for each in both], signs) for place in (1, 2))
    return Later(len(both), then, now, **others)


def _length(tested: Sequence[Example], margins: Sequence[float], expected: Sequence[float]) -> LengthBias:
    """Pairs if there are any, else thumbs: of a pair it is differences that count."""
    pairs = [place for place, example in enumerate(tested) if example.is_pair]
    places = pairs or range(len(tested))
    lengths = [float(len(tested[p].answers[0]) - (len(tested[p].answers[1]) if pairs else 0)) for p in places]
    return length_bias(lengths, [margins[p] for p in places], [expected[p] for p in places], [tested[p].sign for p in places])
