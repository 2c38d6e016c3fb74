"""Items from logged answers, by rule: the newest, so many at random, or a share of them."""

from __future__ import annotations

import hashlib
import random
from collections import OrderedDict
from collections.abc import Iterable, Iterator

from feedback.log import EventLog, Record, TopicReader
from serving.labeling.places import Found, Place, about, found_in, newest_first
from serving.labeling.plan import Logged, StreamPlan

Offsets = dict[int, int]
"""By partition of the topic of completions."""

_OPEN_GROUPS = 1000
"""Requests whose answers are being put together: those of one are written one after the other, nearly."""


def draw(
    log: EventLog, stream: str, project: str, plan: StreamPlan, want: int, drawn: Offsets, taken: set[str]
) -> tuple[list[tuple[Place, ...]], Offsets]:
    """At most ``want`` new items, and how far the log has been drawn from. Raises `LogError`.

    ``taken`` are the items there are, as `about` names them. What is drawn at random depends on the stream's id and the log
    alone. The rule 'random' looks at the whole log each time, the others only at what is new.
    """
    source = plan.source
    if not isinstance(source, Logged) or want <= 0:
        return [], drawn
    ends = {p: log.end("completions", p) for p in range(log.partitions("completions"))}
    if source.rule == "newest":
        records: Iterable[Record] = newest_first(log, drawn)
    else:
        records = _oldest_first(log, drawn if source.rule == "share" else {})
    fresh = (item for item in _items(records, project, plan, source.adapter) if about(item) not in taken)
    if source.rule == "random":
        return _reservoir(fresh, want, random.Random(f"{stream}\0{len(taken)}")), drawn
    if source.rule == "share":
        fresh = (item for item in fresh if _uniform(stream, item) < source.share)
    items = []
    for item in fresh:
        items.append(item)
        if len(items) == want:
            break
    return items, ends


def _oldest_first(log: EventLog, offsets: Offsets) -> Iterator[Record]:
    reader = TopicReader(log, "completions", dict(offsets))
    while records := reader.poll():
        yield from records


def _items(records: Iterable[Record], project: str, plan: StreamPlan, adapter: str | None) -> Iterator[tuple[Place, ...]]:
    """Answers of the project as items of as many answers as the kind of judgement is about."""
    fewest, most = plan.answers
    answers = (found for record in records if (found := found_in(record)) is not None and found.project == project)
    for group in _groups(answers, most) if most > 1 else ((answer,) for answer in answers):
        if len(group) >= fewest and (adapter is None or any(a.completion.exposure.adapter == adapter for a in group)):
            yield tuple(answer.place for answer in sorted(group, key=lambda a: (a.completion.position, a.place.completion_id)))


def _groups(answers: Iterable[Found], most: int) -> Iterator[tuple[Found, ...]]:
    """Answers to one request, put together."""
    open_groups: OrderedDict[tuple[str, str | None], list[Found]] = OrderedDict()
    for answer in answers:
        request = (answer.question, answer.completion.comparison_id)
        group = open_groups.setdefault(request, [])
        group.append(answer)
        if len(group) == most:
            yield tuple(open_groups.pop(request))
        elif len(open_groups) > _OPEN_GROUPS:
            yield tuple(open_groups.popitem(last=False)[1])
    for group in open_groups.values():
        yield tuple(group)


def _reservoir(items: Iterable[tuple[Place, ...]], want: int, chance: random.Random) -> list[tuple[Place, ...]]:
    """So many of them, each set as likely as any other (Vitter 1985, algorithm R)."""
    kept: list[tuple[Place, ...]] = []
    for seen, item in enumerate(items):
        if seen < want:
            kept.append(item)
        elif (place := chance.randrange(seen + 1)) < want:
            kept[place] = item
    return kept


def _uniform(stream: str, item: tuple[Place, ...]) -> float:
    """The same number in [0, 1) for a stream and an item, whoever draws."""
    digest = hashlib.sha256(f"{stream}\0{about(item)}".encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56
