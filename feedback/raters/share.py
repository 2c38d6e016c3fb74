"""A share of cases, with how sure it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any

from scipy.special import bdtr, ndtri


@dataclass(frozen=True)
class Share:
    """``hits`` of ``n`` cases."""

    hits: int = 0
    n: int = 0

    @classmethod
    def of(cls, cases: Iterable[bool]) -> Share:
        flags = list(cases)
        return cls(sum(flags), len(flags))

    @property
    def value(self) -> float | None:
        """None without a case."""
        return self.hits / self.n if self.n else None

    def interval(self, alpha: float = 0.05) -> tuple[float, float]:
        """Wilson's score interval (Wilson 1927, doi:10.1080/01621459.1927.10502953); (0, 1) without a case."""
        if not self.n:
            return 0.0, 1.0
        z = -float(ndtri(alpha / 2))
        share, spread = self.hits / self.n, z * z / self.n
        centre, half = share + spread / 2, z * sqrt(share * (1 - share) / self.n + spread / (4 * self.n))
        return max(0.0, (centre - half) / (1 + spread)), min(1.0, (centre + half) / (1 + spread))

    def p_even(self) -> float:
        """Two-sided exact p-value against "one half": the chance of a share as far from it or farther."""
        return min(1.0, 2 * float(bdtr(min(self.hits, self.n - self.hits), self.n, 0.5))) if self.n else 1.0

    def to_json(self) -> dict[str, Any]:
        low, high = self.interval()
        return asdict(self) | {"value": self.value, "low": low, "high": high}
