"""What an application may ask of chat: an allow-list. What is not named here never reaches the engine."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from ops.settings import LimitSettings, SamplingSettings
from serving.errors import InvalidRequest
from serving.validation import RequestModel

_PASSED_ON = (
    "top_p",
    "top_k",
    "min_p",
    "stop",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
)
"""Sampling parameters that go to the engine as they came."""


def _joined_text(content: Any) -> Any:
    """OpenAI's other form of a message's content, a list of text parts, as one string."""
    if not isinstance(content, list):
        return content
    texts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
    if len(texts) != len(content) or not all(isinstance(text, str) for text in texts):
        raise ValueError('send a string, or a list of {"type": "text", "text": …} parts; the model reads text only')
    return "".join(texts)


class ChatMessage(RequestModel):
    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, BeforeValidator(_joined_text)]
    name: str | None = Field(default=None, max_length=64, description="Accepted; the model is not told.")


class StreamOptions(RequestModel):
    include_usage: bool = False


class ChatRequest(RequestModel):
    """The body of ``POST /v1/chat/completions``."""

    model: str = Field(min_length=1, max_length=200, description="A project.")
    messages: tuple[ChatMessage, ...] = Field(min_length=1)
    n: int = Field(default=1, ge=1)
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=-1, le=100_000)
    min_p: float | None = Field(default=None, ge=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    stop: str | Annotated[tuple[str, ...], Field(max_length=4)] | None = None
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63 - 16)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    repetition_penalty: float | None = Field(default=None, gt=0, le=2)
    logit_bias: dict[str, float] | None = Field(default=None, max_length=300)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    user: str | None = Field(default=None, min_length=1, max_length=512, description="Your id of the person who asks.")

    # Plaudit's own
    compare: bool = Field(default=False, description="Two answers to show side by side; with n=2.")
    conversation: str | None = Field(default=None, min_length=1, max_length=200)

    # OpenAI's own bookkeeping: accepted, because its clients send it, and of no effect here
    store: bool | None = None
    metadata: dict[str, str] | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    @property
    def include_usage(self) -> bool:
        return self.stream and self.stream_options is not None and self.stream_options.include_usage


def check_caps(request: ChatRequest, limits: LimitSettings) -> None:
    """Raise `InvalidRequest` for what only this deployment's limits, or two fields together, forbid."""
    asked = request.max_completion_tokens or request.max_tokens or 1
    param = "max_completion_tokens" if request.max_completion_tokens else "max_tokens"
    if request.n > limits.max_n:
        raise InvalidRequest(f"'n' is {request.n}: ask for at most {limits.max_n} answers.", param="n")
    if request.compare and request.n != 2:
        raise InvalidRequest(f"'compare' is of two answers: send n=2, not n={request.n}.", param="n")
    if len(request.messages) > limits.max_messages:
        text = f"'messages' has {len(request.messages)}: send at most {limits.max_messages}."
        raise InvalidRequest(text, param="messages")
    if asked > limits.max_tokens:
        raise InvalidRequest(f"'{param}' is {asked}: ask for at most {limits.max_tokens}.", param=param)
    if request.stream_options is not None and not request.stream:
        raise InvalidRequest("'stream_options' is for streams: send stream=true too.", param="stream_options")
    if request.top_logprobs and not request.logprobs:
        raise InvalidRequest("'top_logprobs' needs logprobs=true.", param="top_logprobs")


def sampling_of(request: ChatRequest, defaults: SamplingSettings) -> dict[str, Any]:
    """The sampling parameters of every answer: the request's, and the project's where it names none."""
    default_temperature = defaults.pair_temperature if request.compare else defaults.temperature
    sampling: dict[str, Any] = {
        "temperature": default_temperature if request.temperature is None else request.temperature,
        "max_tokens": request.max_completion_tokens or request.max_tokens or defaults.max_tokens,
    }
    given = {name: getattr(request, name) for name in (*_PASSED_ON, "seed")}
    return sampling | {name: value for name, value in given.items() if value is not None}


def engine_body(request: ChatRequest, sampling: dict[str, Any], adapter: str, position: int) -> dict[str, Any]:
    """One answer's request to the engine. With a seed, answer i of n draws from seed + i, or all would be alike."""
    body = {
        "model": adapter,
        "messages": [{"role": message.role, "content": message.content} for message in request.messages],
        "n": 1,
        **sampling,
    }
    if "seed" in sampling:
        body["seed"] = sampling["seed"] + position
    if request.stream:
        body["stream_options"] = {"include_usage": True}
    return body
