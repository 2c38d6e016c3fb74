"""What somebody may say about an answer: the bodies of ``POST /v1/feedback``, one model a type."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, model_validator
from pydantic_core import from_json, to_json

from feedback.events import Action, FeedbackKind, Harm
from serving.errors import InvalidRequest
from serving.lookup import CAPACITY
from serving.validation import RequestModel, parse_by_type

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

MOST_AT_ONCE = 100
"""Entries of a list."""

_DAY_MS = 86_400_000
_LATEST = f"By id alone, only the last {CAPACITY} answers are found (a comparison counts as 3): send the receipt of older ones."


def _no_truth_value(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("send 1, -1, or 0 to take the thumb back")
    return value


def not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("it is blank: send what the answer should have been")
    return text


def _zero_to_one(value: Any) -> Any:
    if not isinstance(value, bool | int | float) or not 0 <= value <= 1:
        raise ValueError("send true or false, or a number from 0 (worst) to 1 (best)")
    return value


class _Feedback(RequestModel):
    """What every type may carry: about which answer, by whom."""

    receipt: str | None = Field(default=None, min_length=1)
    completion_id: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description=f"Which of the receipt's answers is meant; or, with a key and without a receipt, which answer. {_LATEST}",
    )
    completion_ids: tuple[str, ...] | None = Field(default=None, max_length=16, description="As they came with the answer.")
    comparison_id: str | None = Field(
        default=None, min_length=1, max_length=200, description=f"With a key and without a receipt: which comparison. {_LATEST}"
    )
    user: str | None = Field(default=None, min_length=1, max_length=512, description="With a key: whose judgement it is.")
    source: Literal["end_user", "simulated"] = "end_user"
    client_sequence: int | None = Field(
        default=None, ge=0, lt=2**53, description="Of one rater and answer: a lower one that arrives later changes nothing."
    )
    idempotency_key: str | None = Field(
        default=None, min_length=1, max_length=200, description="The same as the header, which goes before it; for lists."
    )


class _Judgement(_Feedback):
    comment: str = Field(default="", max_length=4000)
    decision_ms: float | None = Field(default=None, ge=0, le=_DAY_MS, description="From seeing the answer to judging it.")


class RatingRequest(_Judgement):
    """A thumb: 1 up, -1 down, 0 takes it back."""

    type: Literal["rating"]
    value: Annotated[Literal[-1, 0, 1], BeforeValidator(_no_truth_value)]
    tags: tuple[str, ...] = Field(default=(), max_length=8)

    @model_validator(mode="after")
    def _tags_fit_the_thumb(self) -> RatingRequest:
        check_tags(self.value, self.tags, "tags")
        return self


def check_tags(value: int, tags: tuple[str, ...], param: str) -> None:
    """Raise `InvalidRequest` for a tag that is no reason for this thumb."""
    allowed = TAGS[value]
    for tag in tags:
        if tag not in allowed:
            text = f"'{param}' has {tag[:40]!r}: with value {value} use {', '.join(allowed) or 'none'}."
            raise InvalidRequest(text, param=param)


class PreferenceRequest(_Judgement):
    """Which of two answers is better; a is the one shown first."""

    type: Literal["preference"]
    value: Literal["a", "b", "tie", "both_bad", "both_good"]


class RankingRequest(_Judgement):
    """All answers that came together, in order."""

    type: Literal["ranking"]
    ranks: tuple[int, ...] = Field(
        min_length=2, max_length=16, description="One for each answer, as they were shown: 1 is the best, equal ranks are ties."
    )


class CorrectionRequest(_Judgement):
    """What the answer should have been."""

    type: Literal["correction"]
    text: Annotated[str, AfterValidator(not_blank)] = Field(min_length=1, max_length=100_000)


class ScoreRequest(_Judgement):
    """A figure of the application's own, such as whether the answer resolved the case."""

    type: Literal["score"]
    metric: str = Field(
        pattern="^[a-z][a-z0-9_]{0,39}$",
        validation_alias=AliasChoices("metric", "name"),
        description="Which figure; each has its own value. `name` is taken too.",
    )
    value: Annotated[bool | Annotated[float, Field(ge=0, le=1)], BeforeValidator(_zero_to_one)] = Field(
        description="True or false, or from 0 (worst) to 1 (best)."
    )


class FlagRequest(_Judgement):
    """The answer does harm."""

    type: Literal["flag"]
    harms: tuple[Harm, ...] = Field(min_length=1, max_length=len(get_args(Harm)))


class ImplicitRequest(_Feedback):
    """What somebody did with the answer. Kept for analysis; it is no judgement."""

    type: Literal["implicit"]
    action: Action
    ms: float | None = Field(default=None, ge=0, le=_DAY_MS, description="With dwell: how long.")

    @model_validator(mode="after")
    def _dwelling_takes_time(self) -> ImplicitRequest:
        if self.action == "dwell" and self.ms is None:
            raise InvalidRequest("'ms' is missing: say how long they dwelt.", param="ms")
        if self.action != "dwell" and self.ms is not None:
            raise InvalidRequest("'ms' goes with action 'dwell': leave it out.", param="ms")
        return self


class _Earlier(_Feedback):
    """About what was said before."""

    kind: FeedbackKind
    metric: str = Field(default="", max_length=40, description="Of a score: which.")
    action: str = Field(default="", max_length=40, description="Of an implicit one: which.")
    name: str = Field(default="", max_length=40, description="The same as `metric` or `action`, whichever is meant.")


class AmendRequest(_Earlier):
    """Change some fields of what the same person said of the same answer before; all others stay."""

    type: Literal["amend"]
    changes: dict[str, Any] = Field(
        min_length=1, description="The fields, as in a request of that type; with a rating's `tags` also its `value`."
    )


class RetractRequest(_Earlier):
    """Take back what the same person said of the same answer."""

    type: Literal["retract"]


FeedbackRequest = (
    RatingRequest
    | PreferenceRequest
    | RankingRequest
    | CorrectionRequest
    | ScoreRequest
    | FlagRequest
    | ImplicitRequest
    | AmendRequest
    | RetractRequest
)
REQUESTS: dict[str, type[FeedbackRequest]] = {
    get_args(model.model_fields["type"].annotation)[0]: model for model in get_args(FeedbackRequest)
}
"""By what ``type`` says."""


def parse_feedback(raw: bytes, *, listed: bool = False) -> FeedbackRequest:
    """One body of ``POST /v1/feedback``, or with ``listed`` an entry of a list. Raises `InvalidRequest`."""
    alone = f"The body must be one JSON object, or a list of up to {MOST_AT_ONCE} of them."
    return parse_by_type(REQUESTS, raw, "Each entry must be one JSON object." if listed else alone)


def parse_list(raw: bytes) -> list[bytes] | None:
    """The bodies in a JSON list, each as JSON; None if it is no list. Raises `InvalidRequest`."""
    if not raw.lstrip().startswith(b"["):
        return None
    try:
        entries = from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidRequest(f"The body is not JSON: {error}.", code="invalid_json") from error
    if not 1 <= len(entries) <= MOST_AT_ONCE:
        raise InvalidRequest(f"The list has {len(entries)} entries: send 1 to {MOST_AT_ONCE} at once.", code="invalid_value")
    return [to_json(entry) for entry in entries]
