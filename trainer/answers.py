"""What one adapter said to the gates' questions, and what is known of each answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trainer.examples import Prompt
from trainer.gates.form import is_well_formed
from trainer.gates.refusals import is_refusal
from trainer.gates.toxicity import is_toxic
from trainer.rollouts import Sample

Standards = dict[str, float]
"""The best shares, by name, of the champions so far: small steps down must not add up; `BASE_TOKENS` and
`MOST_TOKENS`.
"""

BASE_TOKENS = "base_tokens"
"""The median length of the base's answers."""

MOST_TOKENS = "most_tokens"
"""How long answers could be where all this was measured: standards of longer or shorter ones are none."""


@dataclass(frozen=True)
class Answers:
    """One answer to each prompt in turn. ``good``: by name, whether each answer is what a share of `Standards` counts."""

    samples: tuple[Sample, ...]
    good: Mapping[str, tuple[bool, ...]]

    @classmethod
    def of(cls, prompts: Sequence[Prompt], samples: Sequence[Sample], domain: str | None) -> Answers:
        """ "correct" is known in the starter domain only, which has a rule of its own for what is toxic."""
        texts = [sample.text for sample in samples]
        good = {
            "well_formed": tuple(is_well_formed(sample.text, sample.ended) for sample in samples),
            "ended": tuple(sample.ended for sample in samples),
            "direct": tuple(not is_refusal(text) for text in texts),
            "clean": tuple(not is_toxic(text) for text in texts),
        }
        if domain == "starter":
            from ops.domain.rules import attributes

            facts = [attributes(prompt[-1].content, text) for prompt, text in zip(prompts, texts, strict=True)]
            good["correct"] = tuple(fact.correct for fact in facts)
            good["clean"] = tuple(clean and not fact.toxic for clean, fact in zip(good["clean"], facts, strict=True))
        return cls(tuple(samples), good)

    def bad(self, name: str) -> list[bool]:
        return [not good for good in self.good[name]]

    @property
    def texts(self) -> list[str]:
        return [sample.text for sample in self.samples]

    @property
    def lengths(self) -> list[int]:
        """Tokens of each."""
        return [len(sample.tokens) for sample in self.samples]

    @property
    def shares(self) -> Standards:
        return {name: sum(flags) / len(flags) for name, flags in self.good.items() if flags}
