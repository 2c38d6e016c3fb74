"""The models for which there are simulated people, and their domains."""

from __future__ import annotations

from ops.domain.domain import Domain
from ops.domain.general.domain import GENERAL
from ops.domain.starter import STARTER
from ops.errors import CommandError

DOMAINS = {"starter": STARTER, "smollm2": GENERAL}
"""By the setting ``model``."""


def domain_of(model: str) -> Domain:
    """Raises `CommandError` where nobody knows what to ask this model and how to judge it."""
    try:
        return DOMAINS[model]
    except KeyError:
        known = " and ".join(sorted(DOMAINS))
        raise CommandError(f"model {model!r}: there are simulated people for {known} only") from None
