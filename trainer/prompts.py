"""What people have asked, newest last, to roll out on; imported prompts fill only the room that people's own leave.

What is kept depends on the log's records alone, not on the order in which its partitions were read: a trainer that starts
again has the same prompts in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from feedback.events import CompletionCreated
from feedback.importers.facts import ADAPTER as IMPORTED
from feedback.log import Position, Record
from feedback.seal import erased
from trainer.examples import Prompt, prompt_hash

T = TypeVar("T")

MAX_PROMPTS = 4096
"""The newest distinct ones that are kept."""


class Asked(NamedTuple):
    """A prompt, and the completion that asked it last, whose text is in the prompt alone."""

    prompt: Prompt
    record: Record


class Prompts:
    def __init__(self) -> None:
        self._own: dict[str, Asked] = {}
        self._imported: dict[str, Asked] = {}

    def add(self, completion: CompletionCreated, record: Record) -> None:
        """Take what was asked, if it can be asked again: its tools are not known here, and what failed is no example."""
        prompt = completion.text.messages
        if completion.outcome != "ok" or not prompt or any(message.role == "tool" or message.tool_calls for message in prompt):
            return
        known = self._imported if completion.exposure.adapter == IMPORTED else self._own
        key = prompt_hash(prompt)
        asked = Asked(prompt, Record(record.position, erased(record.event)))
        if key not in known or _age(asked) > _age(known[key]):
            known[key] = asked
        if len(known) > 2 * MAX_PROMPTS:
            for old in sorted(known, key=lambda each: _age(known[each]))[:-MAX_PROMPTS]:
                del known[old]

    def forget(self, covers: Callable[[Record], bool]) -> None:
        """Drop the prompts of completions that ``covers`` says yes to."""
        for known in (self._own, self._imported):
            for key in [key for key, asked in known.items() if covers(asked.record)]:
                del known[key]

    def newest(self) -> tuple[Asked, ...]:
        """At most `MAX_PROMPTS`, oldest first."""
        own, imported = (tuple(sorted(known.values(), key=_age)[-MAX_PROMPTS:]) for known in (self._own, self._imported))
        return prompts_of(own, imported, MAX_PROMPTS)


def _age(asked: Asked) -> tuple[float, Position]:
    return asked.record.event.time, asked.record.position


def prompts_of(own: Sequence[T], imported: Sequence[T], most: int) -> tuple[T, ...]:
    """People's own prompts, and before them the newest imported ones that there is room for. Each is given oldest first."""
    room = max(0, most - len(own))
    return (*imported[max(0, len(imported) - room) :], *own)
