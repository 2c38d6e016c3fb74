"""What a stream asks for: a named queue of judgements with a guideline, a source, a quota and an entry test."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from feedback.events import FEEDBACK_KINDS
from serving.validation import wrong_together

Kind = Literal["rating", "preference", "ranking", "correction", "score", "flag"]
"""The judgement a stream asks for."""

NO_RIGHT_ANSWER: tuple[Kind, ...] = ("correction",)
"""Kinds that golden items cannot be of."""

assert set(Kind.__args__) < set(FEEDBACK_KINDS)  # type: ignore[attr-defined]


class _Plan(BaseModel):
    """Strict, as request bodies are: operators send these."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True)


class Logged(_Plan):
    """Items are answers that the log has. ``newest`` first, so many at ``random``, or a ``share`` of them all."""

    rule: Literal["newest", "random", "share"] = "newest"
    share: float = Field(default=1.0, gt=0, le=1, description="Of the rule 'share': each answer's chance to be drawn.")
    adapter: str | None = Field(default=None, min_length=1, max_length=200, description="Answers of this adapter only.")

    @model_validator(mode="after")
    def _share_is_of_its_rule(self) -> Logged:
        if self.rule != "share" and self.share != 1:
            raise _out_of_place("share", self.share, "it is for the rule 'share'")
        return self


class Listed(_Plan):
    """Items are those that an operator adds, and no others."""

    rule: Literal["listed"]


class Live(_Plan):
    """The annotator converses, and rates every answer."""

    rule: Literal["live"]
    topics: list[Annotated[str, Field(min_length=1, max_length=500)]] = Field(
        default=[], max_length=1000, description="What to talk about, in turn; without: as the guideline says."
    )
    turns: int = Field(default=1, ge=1, le=50, description="The fewest answers a conversation must have.")


Source = Annotated[Logged | Listed | Live, Field(discriminator="rule")]


class EntryTest(_Plan):
    """So many golden items come first; whoever has too few of them right gets no others. A skipped one is none of them: another
    comes in its place, as long as there is one."""

    items: int = Field(default=0, ge=0, le=1000, description="0: no test.")
    share: float = Field(default=0.8, ge=0, le=1, description="What share must be right.")


class StreamPlan(_Plan):
    """Everything about a stream but its name and its state."""

    kind: Kind = Field(description="The judgement that is asked for.")
    guideline: str = Field(default="", max_length=20_000, description="Shown with every task.")
    metric: str = Field(default="", pattern=r"^([a-z][a-z0-9_]{0,39})?$", description="Of the kind 'score': what is scored.")
    source: Source = Logged()
    quota: int = Field(default=100, ge=1, le=1_000_000, description="Items to be judged.")
    overlap: int = Field(default=1, ge=1, le=50, description="Raters for each item.")
    golden_rate: float = Field(default=0.0, ge=0, le=0.5, description="Chance that a task is a golden item.")
    entry_test: EntryTest = EntryTest()
    lease_s: float = Field(default=1800, ge=1, le=86_400, description="A task not done by then goes to somebody else.")

    @model_validator(mode="after")
    def _fits_together(self) -> StreamPlan:
        if self.kind == "score" and not self.metric:
            text = "'metric' is '': the kind 'score' needs it. Send what is scored, for example 'helpfulness'."
            raise wrong_together("metric", text)
        if self.metric and self.kind != "score":
            raise _out_of_place("metric", self.metric, "it is for the kind 'score'")
        why = f"a {self.kind} has no right answer"
        if self.kind in NO_RIGHT_ANSWER and self.golden_rate:
            raise _out_of_place("golden_rate", self.golden_rate, why)
        if self.kind in NO_RIGHT_ANSWER and self.entry_test.items:
            raise _out_of_place("entry_test.items", self.entry_test.items, why)
        return self

    @model_validator(mode="after")
    def _conversations_are_rated_by_who_had_them(self) -> StreamPlan:
        if not isinstance(self.source, Live):
            return self
        if self.kind != "rating":
            text = f"'kind' is {self.kind!r}: conversations are rated. Send 'rating', or another rule than 'live'."
            raise wrong_together("kind", text)
        why = "each conversation is one annotator's own"
        if self.overlap != 1:
            raise _out_of_place("overlap", self.overlap, why)
        if self.golden_rate:
            raise _out_of_place("golden_rate", self.golden_rate, why)
        return self

    @property
    def answers(self) -> tuple[int, int]:
        """How few and how many answers an item has."""
        return {"preference": (2, 2), "ranking": (2, 16)}.get(self.kind, (1, 1))


def _out_of_place(field: str, value: object, why: str) -> PydanticCustomError:
    return wrong_together(field, f"'{field}' is {value!r}: {why}. Leave it out.")
