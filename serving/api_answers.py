"""What the API answers with, for its description. Answers are put together where they are made; tests hold them to this."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FunctionCalled(_Answer):
    name: str
    arguments: str = Field(description="JSON, as the model wrote it.")


class ToolCalled(BaseModel):
    id: str
    type: Literal["function"]
    function: FunctionCalled


class AnswerMessage(_Answer):
    role: Literal["assistant"]
    content: str | None
    refusal: None
    tool_calls: list[ToolCalled] | None = None


class TopLogprob(BaseModel):
    token: str
    logprob: float
    bytes: list[int] | None = None


class TokenLogprob(TopLogprob):
    top_logprobs: list[TopLogprob]


class Logprobs(BaseModel):
    content: list[TokenLogprob] | None


class AnswerChoice(_Answer):
    index: int
    message: AnswerMessage
    logprobs: Logprobs | None
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter"] | None


class TokenUsage(_Answer):
    """Tokens of all answers; the prompt, which they share, counts once."""

    prompt_tokens: int = Field(ge=0)
    completion_tokens: int = Field(ge=0)
    total_tokens: int = Field(ge=0)


class Plaudit(_Answer):
    """What tells an application how to give feedback."""

    completion_id: str = Field(description="Of the first answer; the same as `id`.")
    completion_ids: list[str] = Field(description="Of every answer, in display order.")
    comparison_id: str | None = Field(default=None, description="Of two answers to show side by side.")
    receipt: str = Field(description="Whoever holds it may rate these answers, without a key.")


class ChatCompletion(_Answer):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str = Field(description="The project.")
    choices: list[AnswerChoice]
    usage: TokenUsage
    plaudit: Plaudit


class ChunkDelta(_Answer):
    role: Literal["assistant"] | None = None
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[dict[str, object]] | None = Field(default=None, description="Parts of calls, each with its `index`.")


class ChunkChoice(_Answer):
    index: int
    delta: ChunkDelta
    logprobs: Logprobs | None
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter"] | None


class ChatCompletionChunk(_Answer):
    """One event of a streamed answer."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str = Field(description="The project.")
    choices: list[ChunkChoice] = Field(description="Empty in the last chunk when `stream_options.include_usage` is set.")
    usage: TokenUsage | None = Field(default=None, description="In the last chunk, when `stream_options.include_usage` is set.")
    plaudit: Plaudit | None = Field(default=None, description="In the last chunk.")


class ErrorDetail(_Answer):
    message: str = Field(description="What is wrong, and what to do.")
    type: Literal["invalid_request_error", "authentication_error", "permission_error", "rate_limit_error", "server_error"]
    param: str | None = Field(description="The field, as `messages[0].role`.")
    code: str | None


class ErrorBody(_Answer):
    """Every error of every route, in OpenAI's shape."""

    error: ErrorDetail


_CONDITION = (
    "Of an amendment or a retraction: it is kept whether or not there is anything that it amends or takes back, and only whoever "
    "reads the log finds out. Without such feedback of the same person and answer, it changes nothing."
)


class FeedbackReply(_Answer):
    id: str
    object: Literal["feedback"]
    created: int
    condition: str | None = Field(default=None, description=_CONDITION)


class FeedbackOutcome(_Answer):
    """What became of one entry of a list: as alone, it would have been answered with this status."""

    index: int = Field(ge=0)
    status: int
    id: str | None = Field(default=None, description="With status 201, like the two below; else there is an `error`.")
    object: Literal["feedback"] | None = None
    created: int | None = None
    condition: str | None = Field(default=None, description=_CONDITION)
    error: ErrorDetail | None = None


class FeedbackOutcomes(_Answer):
    object: Literal["list"]
    data: list[FeedbackOutcome]


class Model(_Answer):
    """A project: the name that `model` has in a chat request."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: Literal["plaudit"]


class ModelList(_Answer):
    object: Literal["list"]
    data: list[Model]


class Health(_Answer):
    status: Literal["ok"]


class Readiness(_Answer):
    ready: bool
    reasons: list[str] = Field(description="Why it cannot answer; empty when it can.")
    warnings: list[str] = Field(default=[], description="What an operator must see to, though it answers.")
