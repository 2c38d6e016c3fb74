"""What was said, as frozen values: every fact Plaudit keeps is one `Event`.

Fields are only ever added, with a default; readers ignore what they do not know. Facts are append-only: a changed
mind is a new `FeedbackSet` or a `FeedbackRetracted`, and state is last-writer-wins on (target, rater, kind).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

BASE = "base"
"""The adapter id of the base model itself, without any adapter: version 0 of every project."""

Topic = Literal["completions", "feedback", "control", "dead-letter"]
TOPICS: tuple[Topic, ...] = ("completions", "feedback", "control", "dead-letter")

Arm = Literal["champion", "control", "challenger"]
"""``control`` is the champion served to users who are analysed against the challenger's; ``champion`` to the rest."""

Outcome = Literal["ok", "error", "aborted", "timeout"]
Source = Literal["end_user", "annotator", "golden", "simulated"]
RolloutState = Literal["GATED", "CANARY", "RAMP", "HELD", "PROMOTED", "ROLLED_BACK", "EXPIRED", "REFUSED"]


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class ToolCall(Frozen):
    """A function that the model asks to be called. ``arguments`` is JSON as the model wrote it, valid or not."""

    id: str = ""
    name: str = ""
    arguments: str = ""


class Message(Frozen):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = Field(default=None, description="Of a tool's message: which call it answers.")


class CompletionText(Frozen):
    """All personal text of a completion, in one place, so that it can be sealed and erased as one."""

    messages: tuple[Message, ...]
    answer: str
    tool_calls: tuple[ToolCall, ...] = Field(default=(), description="What the answer calls, beside or instead of its text.")


class Exposure(Frozen):
    """Which adapter answered whom, why, and how likely that was. Copied into the receipt and so into feedback."""

    completion_id: str
    adapter: str = Field(description="Adapter id that really answered, or 'base'.")
    arm: Arm = "champion"
    assigned: Arm = "champion"
    rollout_id: str | None = None
    propensity: float = Field(default=1.0, gt=0, le=1, description="Probability of the assigned arm.")
    propensities: dict[Arm, float] = Field(default_factory=dict)
    bucket: float = Field(default=0.0, ge=0, lt=1, description="u of the unit under the rollout's salt.")
    fallback: str | None = Field(default=None, description="Why the served arm differs from the assigned one.")
    coin: float | None = Field(default=None, ge=0, lt=1, description="The toss that put a duel's two answers on their sides.")


class CompletionCreated(Frozen):
    """One answer (one choice). A comparison is two of these with one ``comparison_id``."""

    type: Literal["completion.created"] = "completion.created"
    completion_id: str
    comparison_id: str | None = None
    position: int = Field(default=0, ge=0, description="Display order: 0 is shown first (side a).")
    conversation: str
    user: str = Field(description="User hash (see feedback.ids.user_hash).")
    text: CompletionText
    exposure: Exposure
    sampling: dict[str, Any] = Field(default_factory=dict)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    finish_reason: str | None = None
    outcome: Outcome = "ok"
    first_token_ms: float | None = None
    latency_ms: float = 0.0
    prompt_hash: str = ""
    answer_hash: str = ""


class Rating(Frozen):
    kind: Literal["rating"] = "rating"
    value: Literal[-1, 1]
    tags: tuple[str, ...] = ()
    comment: str = ""


class Preference(Frozen):
    kind: Literal["preference"] = "preference"
    value: Literal["a", "b", "tie", "both_bad"] = Field(description="a is the answer shown first.")
    decision_ms: float | None = Field(default=None, ge=0)


Judgement = Annotated[Rating | Preference, Field(discriminator="kind")]
FeedbackKind = Literal["rating", "preference"]


class Target(Frozen):
    """What feedback is about: one completion, or the completions of a comparison in display order (a, b)."""

    completion_ids: tuple[str, ...] = Field(min_length=1, max_length=16)
    comparison_id: str | None = None

    @property
    def id(self) -> str:
        return self.comparison_id or self.completion_ids[0]


class FeedbackSet(Frozen):
    """Somebody's judgement of a target; the latest of one rater and kind for a target is the one that counts."""

    type: Literal["feedback.set"] = "feedback.set"
    feedback_id: str
    target: Target
    rater: str = Field(description="Rater hash.")
    judgement: Judgement
    exposures: tuple[Exposure, ...] = Field(default=(), description="As in the receipt, in the target's order.")
    source: Source = "end_user"
    client_sequence: int | None = None

    @model_validator(mode="after")
    def _kind_fits_target(self) -> FeedbackSet:
        sides = 2 if self.judgement.kind == "preference" else 1
        if len(self.target.completion_ids) != sides:
            raise ValueError(f"a {self.judgement.kind} is about {sides} completion(s), not {len(self.target.completion_ids)}")
        return self


class FeedbackRetracted(Frozen):
    type: Literal["feedback.retracted"] = "feedback.retracted"
    feedback_id: str
    target: Target
    rater: str
    kind: FeedbackKind
    client_sequence: int | None = None


class RolloutChanged(Frozen):
    """A project's whole deployment after one change; the latest on the control topic holds."""

    type: Literal["rollout.changed"] = "rollout.changed"
    rollout_id: str
    state: RolloutState
    previous: RolloutState | None = None
    champion: str = BASE
    challenger: str | None = None
    coverage: float = Field(default=0.0, ge=0, le=1)
    step: int = Field(default=0, ge=0, description="Index into the exposure steps of the settings.")
    salt: str = ""
    duels: bool = True
    reason: str = ""
    evidence: dict[str, float] = Field(default_factory=dict)
    promotions: int = Field(default=0, ge=0)
    rollouts: int = Field(default=0, ge=0)


class AdapterLive(Frozen):
    """A gateway can serve an adapter: loaded on every ready replica, and probed to differ from the base."""

    type: Literal["adapter.live"] = "adapter.live"
    adapter: str
    gateway: str
    published: float = Field(description="Unix time of the adapter's publication, from its manifest.")
    seconds: float = Field(description="From publication to the end of its probe.")
    reload: bool = Field(default=False, description="True when a gateway had announced it before.")


class AdapterRefused(Frozen):
    type: Literal["adapter.refused"] = "adapter.refused"
    adapter: str
    gateway: str
    reason: str


class DeadLetter(Frozen):
    type: Literal["dead-letter.added"] = "dead-letter.added"
    reason: str
    topic: str
    partition: int
    offset: int
    body: str


Data = Annotated[
    CompletionCreated | FeedbackSet | FeedbackRetracted | RolloutChanged | AdapterLive | AdapterRefused | DeadLetter,
    Field(discriminator="type"),
]

_TOPIC_OF: dict[str, Topic] = {
    "completion": "completions",
    "feedback": "feedback",
    "rollout": "control",
    "adapter": "control",
    "dead-letter": "dead-letter",
}


class Event(Frozen):
    """One fact. ``id`` is unique for ever: the log keeps one event per id."""

    id: str = Field(min_length=1, max_length=200)
    time: float = Field(description="Unix time in seconds by the writer's clock.")
    project: str
    key: str = Field(description="Partition key: the conversation; the project on the control topic.")
    data: Data

    @property
    def topic(self) -> Topic:
        return _TOPIC_OF[self.data.type.split(".")[0]]
