"""What somebody may say about an answer, and which answer they mean: validation, without any I/O."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from feedback.events import Exposure, FeedbackRetracted, FeedbackSet, Preference, Rating, Source, Target
from feedback.receipts import Receipt
from serving.errors import InvalidRequest
from serving.validation import RequestModel, parse

TAGS = {
    -1: (
        "not_matched",
        "inaccurate",
        "bad_style",
        "unjustified_refusal",
        "not_helpful",
        "unsafe",
        "too_long",
        "other",
    ),
    1: ("accurate_reliable", "creative_solution", "clear_well_written", "attention_to_detail"),
    0: (),
}
"""Reasons for a thumb down, for a thumb up, and for taking a thumb back."""


def _no_truth_value(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("send 1, -1, or 0 to take the thumb back")
    return value


class _Feedback(RequestModel):
    """What every kind of feedback may carry: about which answer, by whom."""

    receipt: str | None = Field(default=None, min_length=1)
    completion_id: str | None = Field(default=None, min_length=1, max_length=200)
    completion_ids: tuple[str, ...] | None = Field(default=None, max_length=16, description="As they came with the answer.")
    comparison_id: str | None = Field(default=None, min_length=1, max_length=200)
    user: str | None = Field(default=None, min_length=1, max_length=512, description="With a key: whose judgement it is.")
    source: Literal["end_user", "simulated"] = "end_user"
    client_sequence: int | None = Field(default=None, ge=0, lt=2**53)


class RatingRequest(_Feedback):
    """A thumb: 1 up, -1 down, 0 takes it back."""

    type: Literal["rating"]
    value: Annotated[Literal[-1, 0, 1], BeforeValidator(_no_truth_value)]
    tags: tuple[str, ...] = Field(default=(), max_length=8)
    comment: str = Field(default="", max_length=4000)

    @model_validator(mode="after")
    def _tags_fit_the_thumb(self) -> RatingRequest:
        allowed = TAGS[self.value]
        wrong = [tag for tag in self.tags if tag not in allowed]
        if wrong:
            raise InvalidRequest(
                f"'tags' has {wrong[0][:40]!r}: with value {self.value} use {', '.join(allowed) or 'none'}.", param="tags"
            )
        return self


class PreferenceRequest(_Feedback):
    """Which of two answers is better; a is the one shown first."""

    type: Literal["preference"]
    value: Literal["a", "b", "tie", "both_bad"]
    decision_ms: float | None = Field(default=None, ge=0, le=86_400_000)


FeedbackRequest = RatingRequest | PreferenceRequest
_KINDS: dict[str, type[RatingRequest] | type[PreferenceRequest]] = {"rating": RatingRequest, "preference": PreferenceRequest}


class _Envelope(RequestModel):
    model_config = RequestModel.model_config | {"extra": "ignore"}
    type: Any


def parse_feedback(raw: bytes) -> FeedbackRequest:
    """The body of ``POST /v1/feedback``. Raises `InvalidRequest`."""
    kind = parse(_Envelope, raw).type
    model = _KINDS.get(kind) if isinstance(kind, str) else None
    if model is None:
        text = f"'type' is {str(kind)[:40]!r}: this server takes {' and '.join(map(repr, _KINDS))}."
        raise InvalidRequest(text, param="type", code="unsupported_feedback_type")
    return parse(model, raw)


def target_of(body: FeedbackRequest, receipt: Receipt) -> tuple[Target, tuple[Exposure, ...]]:
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
    if isinstance(body, PreferenceRequest):
        if shown.comparison_id is None:
            text = "A preference is between the two answers of a comparison, and this is a single one: send type 'rating'."
            raise InvalidRequest(text, param="type", code="wrong_feedback_type")
        return shown, receipt.exposures
    if body.completion_id is None and len(shown.completion_ids) > 1:
        text = "A rating is about one answer, and there were several: name its 'completion_id'"
        text += ", or send type 'preference'." if shown.comparison_id else "."
        raise InvalidRequest(text, param="completion_id", code="wrong_feedback_type")
    which = 0 if body.completion_id is None else shown.completion_ids.index(body.completion_id)
    return Target(completion_ids=(shown.completion_ids[which],)), (receipt.exposures[which],)


def fact_of(
    body: FeedbackRequest, feedback_id: str, rater: str, source: Source, receipt: Receipt
) -> FeedbackSet | FeedbackRetracted:
    """The judgement as the log keeps it. Raises `InvalidRequest` when it does not fit what it is about."""
    target, exposures = target_of(body, receipt)
    sequence = body.client_sequence
    if isinstance(body, PreferenceRequest):
        judgement: Rating | Preference = Preference(value=body.value, decision_ms=body.decision_ms)
    elif body.value == 0:
        return FeedbackRetracted(feedback_id=feedback_id, target=target, rater=rater, kind="rating", client_sequence=sequence)
    else:
        judgement = Rating(value=body.value, tags=body.tags, comment=body.comment)
    return FeedbackSet(
        feedback_id=feedback_id,
        target=target,
        rater=rater,
        judgement=judgement,
        exposures=exposures,
        source=source,
        client_sequence=sequence,
    )
