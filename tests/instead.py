"""Stand-ins that are somebody else but for what a test wants otherwise."""

from __future__ import annotations

from typing import Any


class Instead:
    """``inner``, with these attributes in place of its own: ``Instead(log, append=fails)``."""

    def __init__(self, inner: Any, **attributes: Any) -> None:
        self._inner = inner
        vars(self).update(attributes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
