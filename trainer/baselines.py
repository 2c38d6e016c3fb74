"""What a reward model has to beat: whoever knows nothing, and whoever reads words only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix, hstack, vstack
from scipy.special import expit, logit
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from trainer.examples import Example
from trainer.measures import Measures, measures


def majority_margins(learnt: Sequence[Example], tested: Sequence[Example]) -> list[float]:
    """The logit of the share of "a" among pairs, and of "up" among thumbs, of the votes learnt from."""
    ups: Counter[bool] = Counter(example.is_pair for example in learnt if example.sign > 0)
    downs: Counter[bool] = Counter(example.is_pair for example in learnt if example.sign < 0)
    share = {kind: (ups[kind] + 1) / (ups[kind] + downs[kind] + 2) for kind in (True, False)}
    return [float(logit(share[example.is_pair])) for example in tested]


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


def baseline(margins: Sequence[float], tested: Sequence[Example]) -> Measures:
    return measures(margins, chances(margins), [example.sign for example in tested])


def chances(margins: Sequence[float]) -> list[float]:
    """Both baselines' margins are log-odds."""
    return [float(expit(margin)) for margin in margins]
