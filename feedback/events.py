"""What was said, as frozen values: every fact Plaudit keeps is one `Event`.

Fields are only ever added, with a default; readers ignore what they do not know. Facts are append-only: a changed
mind is a new `FeedbackSet`, a `FeedbackAmended` or a `FeedbackRetracted`, and state is last-writer-wins on (target, rater,
kind, name).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

BASE = "base"
"""The adapter id of the base model itself, without any adapter: version 0 of every project."""

Topic = Literal["completions", "feedback", "control", "dead-letter"]
TOPICS: tuple[Topic, ...] = ("completions", "feedback", "control", "dead-letter")

Arm = Literal["champion", "control", "challenger"]
"""``control`` is the champion served to users who are analysed against the challenger's; ``champion`` to the rest."""

Outcome = Literal["ok", "error", "aborted", "timeout"]
Source = Literal["end_user", "annotator", "golden", "simulated", "imported"]
Harm = Literal["toxicity", "hate", "sexual", "violence", "self_harm", "privacy", "misinformation", "illegal", "other"]
Action = Literal["copy", "regenerate", "stop", "edit", "dwell"]
RaterState = Literal["active", "paused"]
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
    sealed: str = Field(default="", description="The text as it is stored (see feedback.seal). Once read: its key is destroyed.")
    exposure: Exposure
    sampling: dict[str, Any] = Field(default_factory=dict)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    finish_reason: str | None = None
    outcome: Outcome = "ok"
    first_token_ms: float | None = None
    latency_ms: float = 0.0
    prompt_hash: str = Field(default="", description="Left empty, as is the next: by a plain hash, erased text could be guessed.")
    answer_hash: str = ""


class _Judged(Frozen):
    """What every kind of judgement may carry beside what it says."""

    tags: tuple[str, ...] = ()
    comment: str = Field(default="", description="Personal text: sealed and erased with its rater.")
    decision_ms: float | None = Field(default=None, ge=0, description="From seeing the answer, or the task, to judging it.")

    @property
    def name(self) -> str:
        """What tells apart judgements of one kind by one rater on one target, beside the kind."""
        return ""


class Rating(_Judged):
    kind: Literal["rating"] = "rating"
    value: Literal[-1, 1]


class Preference(_Judged):
    kind: Literal["preference"] = "preference"
    value: Literal["a", "b", "tie", "both_bad", "both_good"] = Field(description="a is the answer shown first.")


class Ranking(_Judged):
    """All answers of a target in order. ``ranks`` has one entry for each: 1 is the best, equal ranks are ties."""

    kind: Literal["ranking"] = "ranking"
    ranks: tuple[int, ...] = Field(min_length=2, max_length=16)

    @field_validator("ranks")
    @classmethod
    def _no_gaps(cls, ranks: tuple[int, ...]) -> tuple[int, ...]:
        if set(ranks) != set(range(1, len(set(ranks)) + 1)):
            raise ValueError("use 1 for the best, 2 for the next, and so on without a gap; answers that tie share a rank")
        return ranks


class Correction(_Judged):
    """What the answer should have been: better than it, and a demonstration for fine-tuning."""

    kind: Literal["correction"] = "correction"
    text: str = Field(description="Personal text: sealed and erased with its rater. Empty only where it is sealed.")


class Score(_Judged):
    """A figure of the application's own, such as "resolved": 0 is the worst, 1 the best."""

    kind: Literal["score"] = "score"
    metric: str = Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")
    value: float = Field(ge=0, le=1)
    boolean: bool = Field(default=False, description="It was given as true or false.")

    @property
    def name(self) -> str:
        return self.metric


class Flag(_Judged):
    """An answer that does harm, of the kinds named."""

    kind: Literal["flag"] = "flag"
    harms: tuple[Harm, ...] = Field(min_length=1, max_length=len(get_args(Harm)))


class Implicit(_Judged):
    """What somebody did with an answer, without judging it. Never a label by itself."""

    kind: Literal["implicit"] = "implicit"
    action: Action
    ms: float | None = Field(default=None, ge=0, description="How long they dwelt on it.")

    @property
    def name(self) -> str:
        return self.action


Judgement = Annotated[
    Rating | Preference | Ranking | Correction | Score | Flag | Implicit,
    Field(discriminator="kind"),
]
FeedbackKind = Literal["rating", "preference", "ranking", "correction", "score", "flag", "implicit"]
FEEDBACK_KINDS: tuple[FeedbackKind, ...] = get_args(FeedbackKind)


class Target(Frozen):
    """What feedback is about: one completion, or the completions of a comparison in display order (a, b)."""

    completion_ids: tuple[str, ...] = Field(min_length=1, max_length=16)
    comparison_id: str | None = None

    @property
    def id(self) -> str:
        return self.comparison_id or self.completion_ids[0]


class FeedbackSet(Frozen):
    """Somebody's judgement of a target; the latest of one rater, kind and name for a target is the one that counts."""

    type: Literal["feedback.set"] = "feedback.set"
    feedback_id: str
    target: Target
    rater: str = Field(description="Rater hash.")
    judgement: Judgement
    sealed: str = Field(default="", description="The judgement's text as it is stored. Once read: its key is destroyed.")
    exposures: tuple[Exposure, ...] = Field(default=(), description="As in the receipt, in the target's order.")
    source: Source = "end_user"
    key_id: str = Field(default="", description="The API key it came with, if any: no key may outweigh the others.")
    stream: str = Field(default="", description="The labeling stream whose task it answers, if any.")
    task: str = ""
    client_sequence: int | None = None

    @model_validator(mode="after")
    def _kind_fits_target(self) -> FeedbackSet:
        judgement = self.judgement
        sides = len(judgement.ranks) if isinstance(judgement, Ranking) else 2 if judgement.kind == "preference" else 1
        if len(self.target.completion_ids) != sides:
            raise ValueError(f"a {self.judgement.kind} is about {sides} completion(s), not {len(self.target.completion_ids)}")
        return self

    @model_validator(mode="after")
    def _corrections_say_something(self) -> FeedbackSet:
        if isinstance(self.judgement, Correction) and not self.judgement.text and not self.sealed:
            raise ValueError("text='': say what the answer should have been")
        return self


class FeedbackRetracted(Frozen):
    type: Literal["feedback.retracted"] = "feedback.retracted"
    feedback_id: str
    target: Target
    rater: str
    kind: FeedbackKind
    name: str = Field(default="", description="As `Judgement.name`.")
    client_sequence: int | None = None


class FeedbackAmended(Frozen):
    """Some fields of a rater's standing judgement of one kind, anew: its comment, for example. Without one it says nothing."""

    type: Literal["feedback.amended"] = "feedback.amended"
    feedback_id: str
    target: Target
    rater: str
    kind: FeedbackKind
    name: str = ""
    changes: dict[str, Any]
    sealed: str = ""
    client_sequence: int | None = None


class UserErased(Frozen):
    """Somebody is erased: what they wrote can be read no more, and nothing they said before this counts."""

    type: Literal["user.erased"] = "user.erased"
    user: str = Field(description="User or rater hash.")
    ends: dict[Topic, dict[int, int]] = Field(
        default_factory=dict, description="By topic and partition: below these offsets is before, whatever an event's time says."
    )


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


class RaterChanged(Frozen):
    """A rater's whole standing after one change; the latest on the control topic holds (see `feedback.raters.standing`)."""

    type: Literal["rater.changed"] = "rater.changed"
    rater: str = Field(description="Rater hash.")
    state: RaterState
    change: int = Field(ge=1, description="1 for the rater's first change, and so on.")
    by: Literal["watch", "operator"]
    reason: str
    since: float = Field(description="Unix time after which the rater's votes are in doubt, or were until they were reviewed.")
    dropped: tuple[tuple[float, float], ...] = Field(
        default=(), description="Votes after the first and up to the second of two Unix times never count."
    )
    evidence: dict[str, float] = Field(default_factory=dict)


class DeadLetter(Frozen):
    type: Literal["dead-letter.added"] = "dead-letter.added"
    reason: str
    topic: str
    partition: int
    offset: int
    body: str


Data = Annotated[
    CompletionCreated
    | FeedbackSet
    | FeedbackAmended
    | FeedbackRetracted
    | UserErased
    | RolloutChanged
    | AdapterLive
    | AdapterRefused
    | RaterChanged
    | DeadLetter,
    Field(discriminator="type"),
]


class Unrecognized(Frozen):
    """An event of a newer version of Plaudit, of a type or kind that this one does not know. Readers leave it alone."""

    type: str
    unrecognized: Literal[True]


_TOPIC_OF: dict[str, Topic] = {
    "completion": "completions",
    "feedback": "feedback",
    "user": "feedback",
    "rollout": "control",
    "adapter": "control",
    "rater": "control",
    "dead-letter": "dead-letter",
}


class Event(Frozen):
    """One fact. ``id`` is unique for ever: the log keeps one event per id."""

    id: str = Field(min_length=1, max_length=200)
    time: float = Field(description="Unix time in seconds by the writer's clock.")
    project: str
    key: str = Field(description="Partition key: the conversation; on the control topic the project, or a rater of it.")
    data: Data | Unrecognized

    @property
    def topic(self) -> Topic:
        return _TOPIC_OF[self.data.type.split(".")[0]]


def is_ours(type: str) -> bool:
    """Whether an event's type belongs to one of the topics, whether or not this version knows it."""
    return type.split(".")[0] in _TOPIC_OF
