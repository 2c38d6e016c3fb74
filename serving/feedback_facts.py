"""From a request to the fact that the log keeps: which answer it is about, and what it says of it. Without any I/O."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json

from feedback.events import (
    FEEDBACK_KINDS,
    Correction,
    Exposure,
    FeedbackAmended,
    FeedbackKind,
    FeedbackRetracted,
    FeedbackSet,
    Flag,
    Implicit,
    Judgement,
    Preference,
    Ranking,
    Rating,
    Score,
    Source,
    Target,
)
from feedback.receipts import Receipt
from serving.errors import InvalidRequest
from serving.feedback_request import (
    REQUESTS,
    AmendRequest,
    CorrectionRequest,
    FeedbackRequest,
    FlagRequest,
    ImplicitRequest,
    PreferenceRequest,
    RankingRequest,
    RatingRequest,
    RetractRequest,
    ScoreRequest,
    check_tags,
)
from serving.validation import RequestModel, explain_first, listed

Fact = FeedbackSet | FeedbackAmended | FeedbackRetracted


class Said(NamedTuple):
    """By whom and how a judgement came."""

    feedback_id: str
    rater: str
    source: Source
    key_id: str


def fact_of(body: FeedbackRequest, said: Said, receipt: Receipt) -> Fact:
    """The judgement as the log keeps it. Raises `InvalidRequest` when it does not fit what it is about."""
    kind = kind_of(body)
    target, exposures = target_of(body, kind, receipt)
    place = {
        "feedback_id": said.feedback_id,
        "target": target,
        "rater": said.rater,
        "client_sequence": body.client_sequence,
    }
    if isinstance(body, AmendRequest):
        changes = _changes(body, len(target.completion_ids))
        return FeedbackAmended(**place, kind=kind, name=_name(body, kind), changes=changes)
    if isinstance(body, RetractRequest):
        return FeedbackRetracted(**place, kind=kind, name=_name(body, kind))
    if isinstance(body, RatingRequest) and body.value == 0:
        return FeedbackRetracted(**place, kind=kind)
    judgement = _judgement(body)
    if isinstance(judgement, Ranking):
        _check_count(judgement.ranks, len(target.completion_ids), "ranks")
    return FeedbackSet(**place, judgement=judgement, exposures=exposures, source=said.source, key_id=said.key_id)


def condition_of(fact: Fact) -> str | None:
    """On what it depends whether this changes anything; None where on nothing.

    What stands is known to whoever has read the log, not to the gateway that takes this.
    """
    if isinstance(fact, FeedbackSet):
        return None
    what = f"{fact.kind} '{fact.name}'" if fact.name else fact.kind
    return f"Takes effect only if a {what} of the same person and answer stands, which is not looked up."


def kind_of(body: FeedbackRequest) -> FeedbackKind:
    """What is set, amended or taken back."""
    return body.kind if isinstance(body, AmendRequest | RetractRequest) else body.type


def target_of(body: FeedbackRequest, kind: FeedbackKind, receipt: Receipt) -> tuple[Target, tuple[Exposure, ...]]:
    """What is judged, among the answers of a receipt, and how these came to be shown. Raises `InvalidRequest`."""
    shown = receipt.target
    if body.completion_id is not None and body.completion_id not in shown.completion_ids:
        raise InvalidRequest(
            "'completion_id' is not one of this receipt's answers: send that answer's own receipt.", param="completion_id"
        )
    if body.completion_ids is not None and body.completion_ids != shown.completion_ids:
        raise InvalidRequest("'completion_ids' are not this receipt's: leave them out.", param="completion_ids")
    if body.comparison_id is not None and body.comparison_id != shown.comparison_id:
        raise InvalidRequest("'comparison_id' is not this receipt's: leave it out.", param="comparison_id")
    if kind == "preference" and shown.comparison_id is None:
        raise _wrong_kind(body, "A preference is between the two answers of a comparison, and this is none")
    if kind == "ranking" and len(shown.completion_ids) == 1:
        raise _wrong_kind(body, "A ranking is of several answers, and this is a single one")
    if kind in ("preference", "ranking"):
        return shown, receipt.exposures
    if body.completion_id is None and len(shown.completion_ids) > 1:
        text = f"A {kind} is about one answer, and there were several: name its 'completion_id'"
        text += f", or send {_word(body)} 'preference'." if shown.comparison_id else "."
        raise InvalidRequest(text, param="completion_id", code="wrong_feedback_type")
    which = 0 if body.completion_id is None else shown.completion_ids.index(body.completion_id)
    return Target(completion_ids=(shown.completion_ids[which],)), (receipt.exposures[which],)


def _word(body: FeedbackRequest) -> str:
    """The field that says what is set, amended or taken back."""
    return "kind" if isinstance(body, AmendRequest | RetractRequest) else "type"


def _wrong_kind(body: FeedbackRequest, why: str) -> InvalidRequest:
    """Of a single answer. Who amends or takes back is told nothing that would cast a vote instead."""
    if isinstance(body, AmendRequest | RetractRequest):
        fix = f"'kind' is {body.kind!r}: send the kind of what was said of it, {listed(_OF_ONE)}"
    else:
        fix = "send type 'rating'"
    return InvalidRequest(f"{why}: {fix}.", param=_word(body), code="wrong_feedback_type")


_OF_ONE = tuple(kind for kind in FEEDBACK_KINDS if kind not in ("preference", "ranking"))
"""What can be said of one answer."""


def _judgement(body: FeedbackRequest) -> Judgement:
    match body:
        case RatingRequest():
            return Rating(value=body.value, tags=body.tags, comment=body.comment, decision_ms=body.decision_ms)
        case PreferenceRequest():
            return Preference(value=body.value, comment=body.comment, decision_ms=body.decision_ms)
        case RankingRequest():
            return _ranking(body.ranks, comment=body.comment, decision_ms=body.decision_ms)
        case CorrectionRequest():
            return Correction(text=body.text, comment=body.comment, decision_ms=body.decision_ms)
        case ScoreRequest():
            return Score(
                metric=body.metric,
                value=float(body.value),
                boolean=isinstance(body.value, bool),
                comment=body.comment,
                decision_ms=body.decision_ms,
            )
        case FlagRequest():
            return Flag(harms=tuple(dict.fromkeys(body.harms)), comment=body.comment, decision_ms=body.decision_ms)
        case ImplicitRequest():
            return Implicit(action=body.action, ms=body.ms)
    raise TypeError(body)


def _ranking(ranks: tuple[int, ...], within: tuple[str, ...] = (), **more: Any) -> Ranking:
    """Raises `InvalidRequest` for ranks with a gap. ``within``: where in the request they are."""
    try:
        return Ranking(ranks=ranks, **more)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise explain_first({**first, "loc": (*within, *first["loc"])}) from error


def _name(body: AmendRequest | RetractRequest, kind: FeedbackKind) -> str:
    """Which score, or which action, is meant; other kinds have one a person and answer."""
    word = {"score": "metric", "implicit": "action"}.get(kind)
    said = {field: value for field in ("metric", "action", "name") if (value := getattr(body, field))}
    if wrong := next((field for field in said if field not in (word, "name") or word is None), None):
        raise InvalidRequest(f"A {kind} has no {wrong}: leave '{wrong}' out.", param=wrong)
    if word and not said:
        raise InvalidRequest(f"'{word}' is missing: say which {kind}.", param=word)
    if len(said) > 1:
        raise InvalidRequest(f"'name' is the same as '{word}': leave it out.", param="name")
    return next(iter(said.values()), "")


def _changes(body: AmendRequest, answers: int) -> dict[str, Any]:
    """The changes, each held against its field in a request of that kind. Raises `InvalidRequest`."""
    fields = REQUESTS[body.kind].model_fields
    own = [name for name in fields if name in _AMENDABLE[body.kind]]
    changes = {}
    for name, value in body.changes.items():
        if name not in own:
            text = f"'changes.{name[:40]}' is nothing that can be amended in a {body.kind}: use {', '.join(own) or 'none'}."
            raise InvalidRequest(text, param=f"changes.{name[:40]}")
        field = fields[name]
        adapter: TypeAdapter[Any] = TypeAdapter(Annotated[field.annotation, field], config=RequestModel.model_config)
        try:
            changes[name] = adapter.dump_python(adapter.validate_json(to_json(value)), mode="json")
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise explain_first({**first, "loc": ("changes", name, *first["loc"])}) from error
    if body.kind == "rating":
        _check_thumb(changes)
    if "ranks" in changes:
        _check_count(changes["ranks"], answers, "changes.ranks")
        _ranking(tuple(changes["ranks"]), within=("changes",))
    if body.kind == "score" and "value" in changes:
        changes |= {"value": float(changes["value"]), "boolean": isinstance(changes["value"], bool)}
    return changes


_AMENDABLE: dict[FeedbackKind, tuple[str, ...]] = {
    "rating": ("value", "tags", "comment", "decision_ms"),
    "preference": ("value", "comment", "decision_ms"),
    "ranking": ("ranks", "comment", "decision_ms"),
    "correction": ("text", "comment", "decision_ms"),
    "score": ("value", "comment", "decision_ms"),
    "flag": ("harms", "comment", "decision_ms"),
    "implicit": ("ms",),
}


def _check_thumb(changes: dict[str, Any]) -> None:
    """A thumb's reasons depend on it, so the two change together."""
    if changes.get("value") == 0:
        raise InvalidRequest("'changes.value' is 0: send type 'retract' to take a thumb back.", param="changes.value")
    if ("value" in changes) != ("tags" in changes):
        missing = "tags" if "value" in changes else "value"
        text = f"'changes.{missing}' is missing: a rating's tags are reasons for its value, so send both."
        raise InvalidRequest(text, param=f"changes.{missing}", code="missing_required_parameter")
    if "tags" in changes:
        check_tags(changes["value"], tuple(changes["tags"]), "changes.tags")


def _check_count(ranks: tuple[int, ...], answers: int, param: str) -> None:
    if len(ranks) != answers:
        raise InvalidRequest(f"'{param}' has {len(ranks)} entries: there are {answers} answers to rank.", param=param)
