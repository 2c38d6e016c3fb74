"""Users' text keys in memory: for how long they may be believed, and what is forgotten when."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TypeVar

from feedback.seal import DataKey, Owner

_LOOK_S = 1.0
"""How long keys in memory are believed without a look at the erasures."""

_HELD_S = 300.0
"""How long they are while the database is away, for sealing alone: nobody reads what a key seals that was destroyed meanwhile."""

_RETRY_S = 1.0
"""While the database is away, it is asked again so often."""

_WRITERS = 2_000
_READ = 5_000
"""Keys that are kept in memory, for sealing and for opening: each takes half a kilobyte."""

_K = TypeVar("_K")


class KeyMemory:
    """What the database said of keys. Not thread-safe: its holder locks. ``clock`` in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._newest: OrderedDict[Owner, DataKey] = OrderedDict()
        self._found: OrderedDict[tuple[Owner, int], DataKey] = OrderedDict()
        self._erasures = -1
        self._looked = self._ask_again = float("-inf")
        self.away = False
        """The database did not answer when it was asked last."""

    @property
    def fresh(self) -> bool:
        """Whether somebody has looked just now."""
        return not self.away and self._clock() - self._looked <= _LOOK_S

    @property
    def seals(self) -> bool:
        """Whether the newest keys may be used: they are fresh, or the database has not been away for long."""
        return self.fresh or (self.away and self._clock() - self._looked <= _HELD_S)

    @property
    def due(self) -> bool:
        """Whether the database is away and should be asked again."""
        return self.away and self._clock() >= self._ask_again

    def looked(self, erasures: int) -> None:
        """The database has said how many were erased: if somebody was since the last look, all keys are forgotten."""
        if erasures != self._erasures:
            self.forget()
        self._erasures, self._looked, self.away = erasures, self._clock(), False

    def lost(self) -> None:
        """The database does not answer."""
        self.away, self._ask_again = True, self._clock() + _RETRY_S

    def forget(self) -> None:
        self._newest.clear()
        self._found.clear()

    def newest(self, owner: Owner) -> DataKey | None:
        return _recall(self._newest, owner)

    def found(self, want: tuple[Owner, int]) -> DataKey | None:
        return _recall(self._found, want)

    def keep_newest(self, keys: Mapping[Owner, DataKey]) -> None:
        _remember(self._newest, keys, _WRITERS)

    def keep_found(self, keys: Mapping[tuple[Owner, int], DataKey]) -> None:
        _remember(self._found, keys, _READ)


def _recall(memory: OrderedDict[_K, DataKey], name: _K) -> DataKey | None:
    key = memory.get(name)
    if key is not None:
        memory.move_to_end(name)
    return key


def _remember(memory: OrderedDict[_K, DataKey], keys: Mapping[_K, DataKey], most: int) -> None:
    memory.update(keys)
    while len(memory) > most:
        memory.popitem(last=False)
