"""What an annotator sends for a task, and what it says of the answers: validation and comparison, without any I/O."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from feedback.events import Correction, Flag, Harm, Judgement, Preference, Ranking, Rating, Score
from serving.errors import InvalidRequest
from serving.feedback_request import check_tags, not_blank
from serving.labeling.plan import StreamPlan
from serving.validation import RequestModel, explain, parse_by_type

SkipReason = Literal["no_expertise", "other_language", "unclear", "broken", "personal_data", "other"]
"""A closed set: a text of the annotator's own would be kept where no erasure finds it."""

HARMLESS = "harmless"
"""Metric of the judgement that an answer does no harm: a flag cannot say so."""

_MOST_MS = 86_400_000


def _whole_numbers_only(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("send a number")
    return value


class _Answer(RequestModel):
    decision_ms: float | None = Field(default=None, ge=0, le=_MOST_MS, description="As the annotator's own clock has it.")
    comment: str = Field(default="", max_length=4000)

    def digest(self) -> str:
        """One name for what was sent, to tell a repeated request from another."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


class _Thumb(RequestModel):
    value: Annotated[Literal[-1, 1], BeforeValidator(_whole_numbers_only)]
    tags: tuple[str, ...] = Field(default=(), max_length=8)

    @model_validator(mode="after")
    def _tags_fit_the_thumb(self) -> _Thumb:
        check_tags(self.value, self.tags, "tags")
        return self


class LabelRating(_Answer, _Thumb):
    type: Literal["rating"]


class LabelPreference(_Answer):
    """a is the answer shown first."""

    type: Literal["preference"]
    value: Literal["a", "b", "tie", "both_bad", "both_good"]


class LabelRanking(_Answer):
    """One rank for each answer as shown: 1 is the best, answers that tie share one."""

    type: Literal["ranking"]
    ranks: tuple[Annotated[int, Field(ge=1, le=16)], ...] = Field(min_length=2, max_length=16)


class LabelCorrection(_Answer):
    """What the answer should have been."""

    type: Literal["correction"]
    text: Annotated[str, AfterValidator(not_blank)] = Field(min_length=1, max_length=32_768)


class LabelScore(_Answer):
    type: Literal["score"]
    value: float = Field(ge=0, le=1)


class LabelFlag(_Answer):
    """Harm in an answer. In any stream this stands instead of its judgement; where flags are asked for, no harms: harmless."""

    type: Literal["flag"]
    harms: tuple[Harm, ...] = Field(max_length=len(get_args(Harm)))
    answers: tuple[Annotated[int, Field(ge=0, le=15)], ...] = Field(
        default=(0,), min_length=1, max_length=16, description="Which answers, as shown: 0 is the first."
    )


class LabelSkip(_Answer):
    """No judgement: somebody else is asked."""

    type: Literal["skip"]
    reason: SkipReason
    comment: Literal[""] = ""


class TurnRating(_Thumb):
    """A thumb on one answer of a conversation."""

    receipt: str = Field(min_length=1, description="As it came with the answer.")
    comment: str = Field(default="", max_length=4000)
    harms: tuple[Harm, ...] = Field(default=(), max_length=len(get_args(Harm)))


class LabelConversation(_Answer):
    """A thumb on every answer of the task's conversation."""

    type: Literal["conversation"]
    comment: Literal[""] = ""
    judgements: tuple[TurnRating, ...] = Field(min_length=1, max_length=50)


SingleAnswer = LabelRating | LabelPreference | LabelRanking | LabelCorrection | LabelScore
LabelAnswer = SingleAnswer | LabelFlag | LabelSkip | LabelConversation
KINDS: dict[str, type[Any]] = {kind.model_fields["type"].annotation.__args__[0]: kind for kind in get_args(LabelAnswer)}  # type: ignore[union-attr]


def parse_answer(raw: bytes) -> LabelAnswer:
    """The body of ``POST /v1/label/{task}``. Raises `InvalidRequest`."""
    answer: LabelAnswer = parse_by_type(KINDS, raw)
    return answer


def check_fits(answer: LabelAnswer, plan: StreamPlan, shown: int, *, live: bool) -> None:
    """Raise `InvalidRequest` for an answer to another question; ``shown`` answers were shown, or a conversation was had."""
    asked = "conversation" if live else plan.kind
    if answer.type not in (asked, "skip") and (answer.type != "flag" or live):
        also = "'skip'" if live else "'skip' or 'flag'"
        text = f"'type' is {answer.type!r}: this stream asks for {asked!r}; or send {also}."
        raise InvalidRequest(text, param="type", code="wrong_feedback_type")
    if isinstance(answer, LabelRanking) and len(answer.ranks) != shown:
        raise InvalidRequest(f"'ranks' has {len(answer.ranks)} entries: send one for each of {shown} answers.", param="ranks")
    if isinstance(answer, LabelFlag):
        if max(answer.answers) >= shown or len(set(answer.answers)) < len(answer.answers):
            raise InvalidRequest(f"'answers' names what was not shown: use 0 to {shown - 1}, each once.", param="answers")
        if plan.kind != "flag" and not answer.harms:
            raise InvalidRequest("'harms' is empty: name at least one.", param="harms")


def judgement_of(answer: SingleAnswer, plan: StreamPlan, decision_ms: float) -> Judgement:
    """What stands in the log, of the answers as shown. Raises `InvalidRequest`."""
    said = {"comment": answer.comment, "decision_ms": decision_ms}
    try:
        match answer:
            case LabelRating():
                return Rating(value=answer.value, tags=answer.tags, **said)
            case LabelPreference():
                return Preference(value=answer.value, **said)
            case LabelRanking():
                return Ranking(ranks=answer.ranks, **said)
            case LabelCorrection():
                return Correction(text=answer.text, **said)
            case LabelScore():
                return Score(metric=plan.metric, value=answer.value, **said)
    except ValidationError as error:
        raise explain(error) from error


def flags_of(answer: LabelFlag, decision_ms: float) -> list[tuple[int, Judgement]]:
    """For each of the answers named, as shown, what is said of it."""
    said = {"comment": answer.comment, "decision_ms": decision_ms}
    if not answer.harms:
        return [(which, Score(metric=HARMLESS, value=1.0, boolean=True, **said)) for which in answer.answers]
    return [(which, Flag(harms=answer.harms, **said)) for which in answer.answers]


def is_right(answer: LabelAnswer, right: Any, order: Sequence[int]) -> bool:
    """Whether an answer is the golden item's. ``order[k]`` is the place, in the item, of the answer shown k-th.

    Values and ranks must be the same, scores within 0.25; of harms, one must be named rightly, or none where there is none.
    """
    match answer:
        case LabelRating():
            return bool(answer.value == right)
        case LabelPreference():
            sides = {"a": order[0], "b": order[1]}
            return bool({"a": 0, "b": 1}.get(right, right) == sides.get(answer.value, answer.value))
        case LabelRanking():
            return [answer.ranks[order.index(place)] for place in range(len(order))] == right
        case LabelScore():
            return bool(abs(answer.value - right) <= 0.25)
        case LabelFlag() if isinstance(right, list):
            return bool(set(answer.harms) & set(right)) if right else not answer.harms
        case _:
            return False


def check_right_answer(plan: StreamPlan, right: Any, shown: int) -> Any:
    """The right answer of a golden item, in the order of its completions. Raises `InvalidRequest`."""
    field = {"rating": "value", "preference": "value", "ranking": "ranks", "score": "value", "flag": "harms"}.get(plan.kind)
    if field is None:
        raise InvalidRequest(f"A {plan.kind} has no right answer: leave 'right' out.", param="right")
    try:
        answer = KINDS[plan.kind].model_validate_json(json.dumps({"type": plan.kind, field: right}))
    except ValidationError as error:
        explained = explain(error)
        raise InvalidRequest(f"'right': {explained.message}", param="right") from error
    check_fits(answer, plan, shown, live=False)
    if isinstance(answer, LabelRanking):
        judgement_of(answer, plan, 0.0)
    return right
