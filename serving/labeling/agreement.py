"""How far a stream's annotators agree, and what is so by all of them: alpha, kappa with the majority, Dawid-Skene.

Judgements are read from the log: what was amended or taken back since counts as it stands now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from pydantic import BaseModel, ConfigDict, Field

from feedback.events import Flag, Preference, Ranking, Rating, Score
from feedback.join import Joiner, Vote
from feedback.log import EventLog, OffsetOutOfRange, TopicReader
from feedback.raters.agreement import Level, alpha
from feedback.raters.consensus import Labelled, consensus
from feedback.raters.kappa import majorities, with_majority
from feedback.raters.labels import Item as LabelItem
from feedback.raters.labels import Label, grouped, units_of
from serving.labeling.answers import HARMLESS
from serving.labeling.plan import StreamPlan
from serving.labeling.statistics import task_rows
from serving.labeling.streams import Item, Stream, Streams

SMOOTHING = 0.1
"""Of the consensus: few labels a rater must not make a confusion impossible."""

_LEVELS: Mapping[str, Level] = {"score": "interval"}
_WORDS: Mapping[str, Mapping[float, str]] = {
    "rating": {1.0: "1", -1.0: "-1"},
    "preference": {1.0: "first", -1.0: "second", 0.0: "tie"},
    "flag": {1.0: "harmful", 0.0: "harmless"},
}


class ItemConsensus(BaseModel):
    """What an item is, most probably."""

    model_config = ConfigDict(frozen=True)

    item: str
    completion_ids: tuple[str, ...] = Field(description="Of a pair or ranking: in the item's own order.")
    label: str
    probability: float
    raters: int


class RaterAgreement(BaseModel):
    """One rater beside the majority of at least two others. None where it is not defined."""

    model_config = ConfigDict(frozen=True)

    rater: str
    judged: int
    shared: int = Field(description="Items that have such a majority.")
    agreed: float | None
    kappa: float | None


class Agreement(BaseModel):
    model_config = ConfigDict(frozen=True)

    stream: str
    name: str
    kind: str
    judgements: int
    items: int
    overlapping: int = Field(description="Items that at least two have judged.")
    alpha: float | None = Field(description="Krippendorff's; None where it is not defined.")
    raters: tuple[RaterAgreement, ...]
    consensus: tuple[ItemConsensus, ...] = Field(description="None for scores, which are no classes: take their mean.")


def agreement(streams: Streams, stream: Stream, log: EventLog) -> Agreement:
    """Of everything judged in the stream, golden items included. Reads the log once. Raises `LogError`."""
    items = {item.id: item for item in streams.items(stream.id) if item.places}
    tasks = {row.id: items[row.item] for row in task_rows(streams.engine, stream.id) if row.item in items}
    labels, words = _labels(_votes(log, items.values()), tasks, stream.plan)
    others = majorities(labels)
    by_rater: dict[str, list[Label]] = grouped(labels, lambda label: label.rater)
    units = units_of(labels)
    return Agreement(
        stream=stream.id,
        name=stream.name,
        kind=stream.plan.kind,
        judgements=len(labels),
        items=len(units),
        overlapping=sum(len(unit) > 1 for unit in units),
        alpha=alpha(units, _LEVELS.get(stream.plan.kind, "nominal")),
        raters=tuple(_rater(rater, mine, others) for rater, mine in sorted(by_rater.items())),
        consensus=() if stream.plan.kind == "score" else tuple(_consensus(labels, words, items)),
    )


def _rater(rater: str, mine: Sequence[Label], others: Mapping[tuple[LabelItem, str], float]) -> RaterAgreement:
    beside = with_majority(mine, others)
    return RaterAgreement(rater=rater, judged=len(mine), shared=beside.agreed.n, agreed=beside.agreed.value, kappa=beside.kappa)


def _consensus(labels: Sequence[Label], words: Mapping[float, str], items: Mapping[str, Item]) -> Iterable[ItemConsensus]:
    if not labels:
        return
    said = [Labelled(label.item.contents[0], label.rater, words[label.value]) for label in labels]
    found = consensus(said, smoothing=SMOOTHING)
    raters = grouped(labels, lambda label: label.item.contents[0])
    for item in found.items:
        word, probability = found.label(item)
        places = items[str(item)].places
        yield ItemConsensus(
            item=str(item),
            completion_ids=tuple(place.completion_id for place in places),
            label=word,
            probability=probability,
            raters=len(raters[str(item)]),
        )


def _votes(log: EventLog, items: Iterable[Item]) -> list[Vote]:
    """What stands about the items' answers."""
    places = [place for item in items for place in item.places]
    wanted = {place.completion_id for place in places}
    joiner = Joiner()
    for place in places:
        with suppress(OffsetOutOfRange):  # older than the log: no judgement of it stands any more
            joiner.extend(log.read("completions", place.partition, place.offset, 1))
    reader = TopicReader(log, "feedback")
    while records := reader.poll():
        joiner.extend(r for r in records if wanted & set(getattr(getattr(r.event.data, "target", None), "completion_ids", ())))
    return joiner.votes()


def _labels(votes: Iterable[Vote], tasks: Mapping[str, Item], plan: StreamPlan) -> tuple[list[Label], dict[float, str]]:
    """The judgements of the stream's own kind, as numbers, and what the numbers are called."""
    words, rankings = dict(_WORDS.get(plan.kind, {})), dict[tuple[int, ...], float]()
    labels = []
    for vote in votes:
        item = tasks.get(vote.task)
        value = None if item is None else _value(vote, item, plan, rankings)
        if item is not None and value is not None:
            name = LabelItem(plan.kind, plan.metric, (item.id,))  # type: ignore[arg-type]  # rankings and flags too
            labels.append(Label(name, vote.rater, value, vote.time, vote.source, vote.stream, vote.feedback_id))
    words |= {number: " ".join(map(str, ranks)) for ranks, number in rankings.items()}
    return labels, words


def _value(vote: Vote, item: Item, plan: StreamPlan, rankings: dict[tuple[int, ...], float]) -> float | None:
    """In the item's own order; None for what the stream does not ask for."""
    order = [place.completion_id for place in item.places]
    match vote.judgement:
        case Rating(value=thumb) if plan.kind == "rating":
            return float(thumb)
        case Preference(value=side) if plan.kind == "preference":
            turned = vote.target.completion_ids[0] != order[0]
            return {"a": 1.0, "b": -1.0}.get(side, 0.0) * (-1 if turned else 1) + 0.0
        case Ranking(ranks=ranks) if plan.kind == "ranking":
            shown = dict(zip(vote.target.completion_ids, ranks, strict=True))
            return rankings.setdefault(tuple(shown[name] for name in order), float(len(rankings)))
        case Score(metric=metric, value=value) if plan.kind == "score" and metric == plan.metric:
            return value
        case Score(metric=metric) if plan.kind == "flag" and metric == HARMLESS:
            return 0.0
        case Flag() if plan.kind == "flag":
            return 1.0
        case _:
            return None
