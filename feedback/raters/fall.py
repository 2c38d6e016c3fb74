"""Has a rater suddenly become worse? Sequential change detection on right-or-wrong outcomes, with a bounded rate of false alarms.

A CUSUM e-detector (Shin, Ramdas & Rinaldo 2022, arXiv:2203.03532): after each outcome x of a rater

    C = max(C, 1) * f_q(x) / f_p(x),

with p the least chance of being right that their record so far speaks for and q one of lower odds. While the true chance is
p or more, an outcome multiplies C by at most 1 on average, so C first reaches A after A outcomes or more on average: that
is the rate of false alarms, whatever the record. Where C falls to 1 the record is taken anew; a rise of C begins at the
most probable place of a fall.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from scipy.special import betaincinv

from feedback.raters.share import Share

OUTCOMES_PER_FALSE_ALARM = 10_000.0
"""A: the mean number of outcomes until an unchanged rater is taken for one who fell is at least this."""

ODDS_RATIOS = (4.0, 12.0, 40.0)
"""The falls that are looked for: so many times lower odds of being right. Their evidence is averaged."""

QUANTILE = 0.05
"""Of the record's posterior: the chance p is so low that a lucky beginning raises no alarm later."""

_RIGHT, _WRONG = 2.0, 1.0
"""What a rater is taken to have got right and wrong before anything is known of them."""


@dataclass(frozen=True)
class Fall:
    """A fall that was detected. Outcomes are numbered from 0."""

    start: int
    """The first outcome after the most probable place of the fall."""
    alarm: int
    """The outcome at which the evidence sufficed."""
    before: Share
    """Right outcomes before ``start``."""
    after: Share
    """And from then on, up to the alarm."""
    evidence: float
    """The averaged C at the alarm."""


@dataclass
class _Detector:
    """C for one odds ratio."""

    ratio: float
    evidence: float = 1.0
    start: int = 0
    chances: tuple[float, float] = (0.0, 0.0)
    """p and q."""

    def take(self, right: bool, hits: int, n: int) -> None:
        """One more outcome, after ``hits`` right ones of ``n``."""
        if self.evidence <= 1:
            self.evidence, self.start, self.chances = 1.0, n, _chances(hits, n, self.ratio)
        before, after = self.chances
        self.evidence *= after / before if right else (1 - after) / (1 - before)


@lru_cache(maxsize=65_536)
def _chances(hits: int, n: int, ratio: float) -> tuple[float, float]:
    before = float(betaincinv(_RIGHT + hits, _WRONG + n - hits, QUANTILE))
    odds = before / (1 - before) / ratio
    return before, odds / (1 + odds)


def fall_of(outcomes: Iterable[bool], outcomes_per_false_alarm: float = OUTCOMES_PER_FALSE_ALARM) -> Fall | None:
    """The first fall of which there is evidence enough, None if there is none. ``outcomes`` are in order of time."""
    detectors = [_Detector(ratio) for ratio in ODDS_RATIOS]
    seen: list[bool] = []
    hits = 0
    for right in outcomes:
        for detector in detectors:
            detector.take(right, hits, len(seen))
        seen.append(right)
        hits += right
        evidence = sum(detector.evidence for detector in detectors) / len(detectors)
        if evidence >= outcomes_per_false_alarm:
            return _fall(seen, max(detectors, key=lambda detector: detector.evidence).start, evidence)
    return None


def _fall(seen: Sequence[bool], start: int, evidence: float) -> Fall:
    return Fall(start, len(seen) - 1, Share.of(seen[:start]), Share.of(seen[start:]), evidence)
