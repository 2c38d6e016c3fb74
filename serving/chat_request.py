"""What an application may ask of chat: an allow-list. What is not named here never reaches the engine."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Any, Literal

import orjson
from pydantic import BeforeValidator, Field

from feedback.events import Message, ToolCall
from ops.settings import LimitSettings, SamplingSettings
from serving.errors import InvalidRequest
from serving.schema_limits import check_schemas
from serving.validation import RequestModel, parse

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

_TOOLS = ("tools", "tool_choice", "parallel_tool_calls")


def _joined_text(content: Any) -> Any:
    """OpenAI's other form of a message's content, a list of text parts, as one string."""
    if not isinstance(content, list):
        return content
    texts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
    if len(texts) != len(content) or not all(isinstance(text, str) for text in texts):
        raise ValueError('send a string, or a list of {"type": "text", "text": …} parts; the model reads text only')
    return "".join(texts)


class FunctionCall(RequestModel):
    name: str = Field(min_length=1, max_length=64)
    arguments: str = Field(default="", description="JSON, as the model wrote it.")


class ToolCallRequest(RequestModel):
    id: str = Field(min_length=1, max_length=200)
    type: Literal["function"] = "function"
    function: FunctionCall


class ChatMessage(RequestModel):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[str | None, BeforeValidator(_joined_text)] = None
    name: str | None = Field(default=None, max_length=64, description="Accepted; the model is not told.")
    tool_calls: tuple[ToolCallRequest, ...] | None = Field(default=None, max_length=64, description="Of the assistant.")
    tool_call_id: str | None = Field(default=None, max_length=200, description="Of a tool: which call it answers.")
    refusal: str | None = Field(default=None, description="Accepted, as it comes with an answer.")
    annotations: tuple[dict[str, Any], ...] | None = Field(default=None, description="Accepted, as it comes with an answer.")

    def as_event(self) -> Message:
        """As the log keeps it."""
        calls = tuple(
            ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments) for call in self.tool_calls or ()
        )
        return Message(role=self.role, content=self.content or "", tool_calls=calls, tool_call_id=self.tool_call_id)

    def for_engine(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.tool_calls:
            message["tool_calls"] = [call.model_dump() for call in self.tool_calls]
        if self.tool_call_id is not None:
            message["tool_call_id"] = self.tool_call_id
        return message


class Function(RequestModel):
    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    description: str | None = None
    parameters: dict[str, Any] | None = Field(default=None, description="A JSON Schema.")
    strict: bool | None = None


class Tool(RequestModel):
    type: Literal["function"]
    function: Function


class FunctionName(RequestModel):
    name: str = Field(min_length=1, max_length=64)


class NamedTool(RequestModel):
    type: Literal["function"]
    function: FunctionName


class JsonSchema(RequestModel):
    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema", description="A JSON Schema.")
    strict: bool | None = None


class PlainFormat(RequestModel):
    type: Literal["text", "json_object"]


class SchemaFormat(RequestModel):
    type: Literal["json_schema"]
    json_schema: JsonSchema


class StreamOptions(RequestModel):
    include_usage: bool = False
    include_obfuscation: bool = Field(default=False, description="Accepted; nothing is obfuscated.")


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
    tools: tuple[Tool, ...] | None = Field(default=None, max_length=128)
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    response_format: Annotated[PlainFormat | SchemaFormat, Field(discriminator="type")] | None = None
    user: str | None = Field(default=None, max_length=512, description="Your id of the person who asks.")

    # Plaudit's own
    compare: bool = Field(default=False, description="Two answers to show side by side; with n=2.")
    conversation: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="Your id of it. An annotator's key sends the id of its open labeling task of kind 'conversation'.",
    )
    plaudit_adapter: str | None = Field(
        default=None, min_length=1, max_length=200, description="With an operator's key: the adapter that is to answer."
    )

    # OpenAI's own bookkeeping: accepted, because its clients send it, and of no effect here
    store: bool | None = None
    metadata: dict[str, str] | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    modalities: tuple[Literal["text"], ...] | None = None

    @property
    def roughly_tokens(self) -> int:
        """Tokens of the prompt, at four characters each."""
        return 1 + sum(len(message.content or "") for message in self.messages) // 4

    @property
    def include_usage(self) -> bool:
        return self.stream and self.stream_options is not None and self.stream_options.include_usage


def parse_chat(raw: bytes) -> ChatRequest:
    """The body of ``POST /v1/chat/completions``. Raises `InvalidRequest`.

    OpenAI takes null for whatever may be left out, and its SDK writes messages so: such fields are left out here.
    """
    if b"null" in raw:
        with suppress(ValueError):  # no JSON: the parser below says what is wrong
            raw = orjson.dumps(_without_nulls(orjson.loads(raw)))
    return parse(ChatRequest, raw)


def _without_nulls(body: Any) -> Any:
    """A request without the fields that are null, its own and its messages'; a null inside a schema means something."""
    if not isinstance(body, dict):
        return body
    body = {name: value for name, value in body.items() if value is not None}
    messages = body.get("messages")
    if isinstance(messages, list):
        body["messages"] = [
            {name: value for name, value in message.items() if value is not None} if isinstance(message, dict) else message
            for message in messages
        ]
    return body


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
    for place, message in enumerate(request.messages):
        _check_message(message, f"messages[{place}]")
    if request.tool_choice not in (None, "none") and not request.tools:
        raise InvalidRequest("'tool_choice' chooses among 'tools': send them too.", param="tool_choice")
    if isinstance(request.tool_choice, NamedTool):
        named = request.tool_choice.function.name
        if named not in {tool.function.name for tool in request.tools or ()}:
            raise InvalidRequest(f"'tool_choice' names {named!r}, which is not among 'tools'.", param="tool_choice")
    for name in ("tools", "response_format"):
        check_schemas(getattr(request, name), name, limits)
    if request.top_logprobs and not request.logprobs:
        raise InvalidRequest("'top_logprobs' needs logprobs=true.", param="top_logprobs")


def _check_message(message: ChatMessage, place: str) -> None:
    """Raise `InvalidRequest` for parts that do not fit the role."""
    if message.content is None and not (message.role == "assistant" and message.tool_calls):
        text = f"'{place}.content' is missing: only an assistant's message with tool_calls may leave it out."
        raise InvalidRequest(text, param=f"{place}.content", code="missing_required_parameter")
    if message.tool_calls is not None and message.role != "assistant":
        raise InvalidRequest(f"'{place}.tool_calls' are the assistant's: leave them out.", param=f"{place}.tool_calls")
    if message.role == "tool" and message.tool_call_id is None:
        text = f"'{place}.tool_call_id' is missing: say which call this message answers."
        raise InvalidRequest(text, param=f"{place}.tool_call_id", code="missing_required_parameter")
    if message.role != "tool" and message.tool_call_id is not None:
        text = f"'{place}.tool_call_id' is for messages of role tool: leave it out."
        raise InvalidRequest(text, param=f"{place}.tool_call_id")


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
    body = {"model": adapter, "messages": [message.for_engine() for message in request.messages], "n": 1, **sampling}
    if "seed" in sampling:
        body["seed"] = sampling["seed"] + position
    if request.tools:
        body |= request.model_dump(include=set(_TOOLS), exclude_none=True)
    if request.response_format is not None:
        body["response_format"] = request.response_format.model_dump(by_alias=True, exclude_none=True)
    if request.stream:
        body["stream_options"] = {"include_usage": True}
    return body
