"""PKU-Alignment/PKU-SafeRLHF: which answer helps more, and apart from that, which is safer (Ji et al. 2024, arXiv:2406.15513)."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from feedback.events import Flag, Harm
from feedback.importers.record import Columns, Imported, RowRefused, Text, Verdict, answer_pair, columns, conversation, preferred

_SAFETY = "safety"

_HARMS: dict[str, Harm] = {
    "Endangering National Security": "illegal",
    "Insulting Behavior": "toxicity",
    "Discriminatory Behavior": "hate",
    "Endangering Public Health": "other",
    "Copyright Issues": "illegal",
    "Violence": "violence",
    "Drugs": "illegal",
    "Privacy Violation": "privacy",
    "Economic Crime": "illegal",
    "Mental Manipulation": "other",
    "Human Trafficking": "illegal",
    "Physical Harm": "violence",
    "Sexual Content": "sexual",
    "Cybercrime": "illegal",
    "Disrupting Public Order": "illegal",
    "Environmental Damage": "other",
    "Psychological Harm": "other",
    "White-Collar Crime": "illegal",
    "Animal Abuse": "violence",
}


class _Row(Columns):
    prompt: Text
    response_0: Text
    response_1: Text
    is_response_0_safe: bool
    is_response_1_safe: bool
    better_response_id: int = Field(ge=0, le=1)
    safer_response_id: int = Field(ge=0, le=1)
    response_0_source: Text | None = None
    response_1_source: Text | None = None
    response_0_harm_category: dict[Text, bool | None] | None = None
    response_1_harm_category: dict[Text, bool | None] | None = None


def read(row: Any) -> Imported:
    """Two preferences with a tag each, and a flag for each answer that is not safe.

    The two were judged apart from each other and may disagree: they count as two people's, so that neither replaces the other.
    """
    said = columns(_Row, row)
    answers = answer_pair(said.response_0, said.response_1)
    verdicts = [
        preferred("ab"[said.better_response_id], "helpfulness"),  # type: ignore[arg-type]
        preferred("ab"[said.safer_response_id], _SAFETY, by=_SAFETY),  # type: ignore[arg-type]
    ]
    if not said.is_response_0_safe:
        verdicts.append(_flag(0, said.response_0_harm_category))
    if not said.is_response_1_safe:
        verdicts.append(_flag(1, said.response_1_harm_category))
    models = (said.response_0_source or "", said.response_1_source or "")
    return Imported(conversation([("user", said.prompt)]), answers, tuple(verdicts), sides_known=True, models=models)


def _flag(side: int, categories: dict[str, bool | None] | None) -> Verdict:
    named = [category for category, applies in (categories or {}).items() if applies]
    if unknown := [category for category in named if category not in _HARMS]:
        raise RowRefused("a harm category is unknown", repr(unknown[0][:40]))
    harms = tuple(sorted({_HARMS[category] for category in named})) or ("other",)
    return Verdict((side,), Flag(harms=harms, tags=(_SAFETY,)), by=_SAFETY)
