"""How good a reward model is on votes it never saw, beside what knows nothing and what reads words only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix, hstack, vstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from trainer.examples import Example
from trainer.reward import RewardModel


@dataclass(frozen=True)
class RewardReport:
    """Shares of ``n`` held-out votes that were foretold; ties and both-bad have no right answer and only count in ``nll``."""

    votes: int
    """Votes learnt from."""
    n: int
    accuracy: float | None
    majority: float | None
    """The share for whoever always says what most of the votes learnt from say: per kind, "a" or "b", "up" or "down"."""
    tfidf: float | None
    """The share for a logistic regression on the words of the answers, taught the same votes."""
    nll: float | None
    """Nats a vote, all kinds; a model that knows nothing has ln 3 a pair and ln 2 a thumb."""
    nll_n: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def report(reward: RewardModel, learnt: Sequence[Example], held_out: Sequence[Example]) -> RewardReport:
    scores = reward.score_examples(held_out)
    nats = reward.nll(held_out, scores)
    decided = [(example, score) for example, score in zip(held_out, scores, strict=True) if example.sign]
    tested = [example for example, _ in decided]
    margins = [_margin(reward, example, score) for example, score in decided]
    return RewardReport(
        votes=len(learnt),
        n=len(tested),
        accuracy=accuracy(margins, tested),
        majority=accuracy(majority_margins(learnt, tested), tested),
        tfidf=accuracy(tfidf_margins(learnt, tested), tested),
        nll=sum(nats) / len(nats) if nats else None,
        nll_n=len(nats),
    )


@torch.no_grad()
def _margin(reward: RewardModel, example: Example, score: Tensor) -> float:
    """Positive where the model expects "a" or "up"; position bias is not used, a thumb's offset has to be."""
    if example.is_pair:
        return float(score[0] - score[1])
    return float(reward.likelihood.thumbs(score.to(reward.head.weight.device))[0])


def accuracy(margins: Sequence[float], examples: Sequence[Example]) -> float | None:
    """The share of margins with the sign of their example; a margin of 0 is half right. None without examples."""
    if not examples:
        return None
    right = [0.5 if margin == 0 else float((margin > 0) == (e.sign > 0)) for margin, e in zip(margins, examples, strict=True)]
    return sum(right) / len(right)


def majority_margins(learnt: Sequence[Example], tested: Sequence[Example]) -> list[float]:
    balance: Counter[bool] = Counter()
    for example in learnt:
        balance[example.is_pair] += example.sign
    return [float(balance[example.is_pair]) for example in tested]


def tfidf_margins(learnt: Sequence[Example], tested: Sequence[Example]) -> list[float]:
    """Words and pairs of words of the answers; a pair is the difference of its two, mirrored too, so that order is no cue."""
    decided = [example for example in learnt if example.sign]
    labels = np.array([example.sign for example in decided])
    if len(set(labels.tolist())) < 2 or not tested:
        return [0.0] * len(tested)
    words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b|[?!]", sublinear_tf=True)
    try:
        words.fit([answer for example in decided for answer in example.answers])
    except ValueError:  # scikit-learn's "empty vocabulary": no answer has a word
        return [0.0] * len(tested)
    features = _features(words, decided)
    mirrored = np.array([example.is_pair for example in decided])
    both = vstack([features, -features[mirrored]]).tocsr()
    model = LogisticRegression(C=10.0, fit_intercept=False, max_iter=1000).fit(both, np.append(labels, -labels[mirrored]))
    return [float(margin) for margin in model.decision_function(_features(words, tested))]


def _features(words: TfidfVectorizer, examples: Sequence[Example]) -> csr_matrix:
    """(B, V + 1): the first answer's words less the second's; the last column is a thumb's own intercept."""
    first = words.transform([example.answers[0] for example in examples])
    second = words.transform([example.answers[1] if example.is_pair else "" for example in examples])
    intercept = csr_matrix([[0.0 if example.is_pair else 1.0] for example in examples])
    return hstack([first - second, intercept]).tocsr()
