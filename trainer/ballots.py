"""Examples as tensors, and what they cost: from the scores of all their answers to nats, whatever kind each one is of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from ops.settings import RewardSettings
from trainer.examples import Example
from trainer.likelihood import SIDES, Likelihood, binary_nats, heard

Text = tuple[str, str]
"""A prompt's hash and an answer."""


def flagged_texts(examples: Sequence[Example]) -> frozenset[Text]:
    """The answers that somebody has flagged."""
    return frozenset((example.prompt_hash, example.answers[0]) for example in examples if example.label == "flagged")


@dataclass(frozen=True)
class Ballots:
    """N examples whose answers are R rows of scores, in order. Index tensors are int64; ``rows`` points into the R rows,
    ``places`` into the N examples. K, wherever it appears, is the number of heads that score every row.
    """

    examples: tuple[Example, ...]
    weights: Tensor
    """(N,)"""
    flips: Tensor
    """(N,) epsilon of each one's rater."""
    starts: tuple[int, ...]
    """Each example's first row."""
    pairs: Tensor
    """(P, 4): place, row of the first answer, index into `SIDES` of what was said, 1 where the first was shown first."""
    quality: Tensor
    """(P,) 1 where both are good, -1 where both are bad, else 0."""
    thumbs: Tensor
    """(T, 3): place, row, number of the rater among those of ``raters`` (their count for a rater who is not there)."""
    targets: Tensor
    """(T,) 1 up, 0 down."""
    unflagged: Tensor
    """(U, 2): place, row of answers that were judged and not flagged; empty where nobody flags anything."""

    @classmethod
    def of(
        cls,
        examples: Sequence[Example],
        device: torch.device | str = "cpu",
        raters: Mapping[str, int] | None = None,
        flagged: frozenset[Text] = frozenset(),
    ) -> Ballots:
        raters = raters or {}
        starts = tuple(accumulate((len(example.answers) for example in examples), initial=0))[:-1]
        pairs, quality, thumbs, targets, unflagged = [], [], [], [], []
        for place, (example, start) in enumerate(zip(examples, starts, strict=True)):
            if example.is_pair:
                side = SIDES.index(example.label if example.label in SIDES else "tie")
                pairs.append((place, start, side, int(example.side_by_side)))
                quality.append({"both_good": 1.0, "both_bad": -1.0}.get(example.label, 0.0))
            elif example.is_thumb:
                thumbs.append((place, start, raters.get(example.rater, len(raters))))
                targets.append(float(example.label == "up"))
            if flagged and example.label != "flagged":
                rows = enumerate(example.answers, start)
                unflagged += [(place, row) for row, answer in rows if (example.prompt_hash, answer) not in flagged]
        return cls(
            tuple(examples),
            torch.tensor([example.weight for example in examples], device=device),
            torch.tensor([example.flip for example in examples], device=device),
            starts,
            torch.tensor(pairs, device=device).reshape(-1, 4),
            torch.tensor(quality, device=device),
            torch.tensor(thumbs, device=device).reshape(-1, 3),
            torch.tensor(targets, device=device),
            torch.tensor(unflagged, device=device, dtype=torch.long).reshape(-1, 2),
        )

    def nats(self, scores: Tensor, likelihood: Likelihood, settings: RewardSettings, offsets: Tensor | None = None) -> Tensor:
        """(N, K) what each example costs each head, by its kind's share: a pair 1, a thumb or a figure ``thumb_weight``,
        a ranking ``rank_weight``, a flag ``flag_weight``. scores: (R, K). ``offsets``: u of the raters, (one more than raters,).
        """
        nats = scores.new_zeros(len(self.examples), scores.shape[1])
        if len(self.pairs):
            nats = nats.index_add(0, self.pairs[:, 0], self._pair_nats(scores, likelihood, settings))
        if len(self.thumbs):
            places, rows, raters = self.thumbs.unbind(1)
            logits = likelihood.thumbs(scores[rows])
            logits = logits if offsets is None else logits + offsets[raters][:, None]
            thumb = binary_nats(logits, self.targets[:, None], self.flips[places][:, None])
            nats = nats.index_add(0, places, settings.thumb_weight * thumb)
        if len(self.unflagged):
            places, rows = self.unflagged.unbind(1)
            silence = -torch.nn.functional.logsigmoid(-likelihood.flags(scores[rows]))
            nats = nats.index_add(0, places, settings.flag_weight * silence)
        others = [
            (place, self._other_nats(place, scores, likelihood, settings))
            for place, example in enumerate(self.examples)
            if not example.is_pair and not example.is_thumb
        ]
        if others:
            where = torch.tensor([place for place, _ in others], device=scores.device)
            nats = nats.index_add(0, where, torch.stack([nat for _, nat in others]))
        return nats

    def _pair_nats(self, scores: Tensor, likelihood: Likelihood, settings: RewardSettings) -> Tensor:
        """(P, K). Both good or both bad is a tie, and two thumbs of half a thumb's weight each. (s_a + s_b)² centres scores."""
        places, first, sides, shown = self.pairs.unbind(1)
        a, b = scores[first], scores[first + 1]
        logs = likelihood.pairs(a - b, shown[:, None].to(scores))
        sides, flips = sides[:, None, None].expand(-1, logs.shape[1], 1), self.flips[places][:, None]
        nats = -heard(logs.gather(2, sides)[..., 0], logs.gather(2, 2 - sides)[..., 0], flips)
        alike = self.quality != 0
        if alike.any():
            both, good = torch.stack([a, b])[:, alike], (self.quality[alike] > 0).to(scores)[:, None]
            thumbs = binary_nats(likelihood.thumbs(both), good, flips[alike]).sum(0)
            nats = nats.index_add(0, alike.nonzero()[:, 0], settings.thumb_weight * 0.5 * thumbs)
        return nats + settings.score_penalty * (a + b) ** 2

    def _other_nats(self, place: int, scores: Tensor, likelihood: Likelihood, settings: RewardSettings) -> Tensor:
        """(K,)"""
        example, flip = self.examples[place], self.flips[place]
        own = scores[self.starts[place] : self.starts[place] + len(example.answers)]
        if example.label == "ranked":
            most = max(example.ranks) + 1
            upside_down = tuple(most - rank for rank in example.ranks)
            said, opposite = likelihood.ranking(own, example.ranks), likelihood.ranking(own, upside_down)
            return -settings.rank_weight * heard(said, opposite, flip.expand_as(said))
        if example.label == "scored":
            logits = likelihood.figure(example.metric, own[0])
            return settings.thumb_weight * binary_nats(logits, own.new_tensor(example.value), flip)
        return settings.flag_weight * binary_nats(likelihood.flags(own[0]), own.new_tensor(1.0), flip)
