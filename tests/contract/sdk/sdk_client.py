"""The stock ``openai`` SDK as an application holds it, sync or async, of whichever release: one text of checks fits all.

Nothing of Plaudit's is imported here.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import openai

MODEL = "default"
SUM = [{"role": "user", "content": "What is 2 plus 3?"}]
NO_END = {"1": -100}
"""A logit bias under which the starter model never ends its answer."""

NO_SPACE = {"202": -100, "203": -100, "206": -100, "225": -100}
"""A logit bias against white space: a grammar allows any amount between JSON's parts, and a tiny model never stops."""

ADD: dict[str, Any] = {
    "type": "object",
    "properties": {name: {"type": "integer", "minimum": 0, "maximum": 99} for name in "ab"},
    "required": ["a", "b"],
    "additionalProperties": False,
}
"""A JSON Schema for response_format and for a tool's parameters."""

TIMEOUT_S = 30.0

FIRST = openai.__version__ == "1.0.0"
"""The first release gives no error its code, and takes no ``cast_to=object``."""


def setup() -> dict[str, Any]:
    """Addresses and keys, from those who started the gateways."""
    given: dict[str, Any] = json.loads(os.environ["PLAUDIT_CONTRACT"])
    return given


class Sdk:
    """The synchronous client. ``kind`` is "sync"."""

    kind = "sync"

    def __init__(self, url: str, key: str, **options: Any) -> None:
        self.client = self._open(base_url=url + "/v1", api_key=key, **({"max_retries": 0, "timeout": TIMEOUT_S} | options))

    def _open(self, **options: Any) -> Any:
        return openai.OpenAI(**options)

    def run(self, made: Any) -> Any:
        """What a method of the client has returned."""
        return made

    def all(self, stream: Any) -> list[Any]:
        return list(stream)

    def some(self, stream: Any, count: int) -> list[Any]:
        return [next(stream) for _ in range(count)]

    def hang_up(self, stream: Any) -> None:
        getattr(stream, "close", stream.response.close)()

    def close(self) -> None:
        self.client.close()

    # what applications do

    def chat(self, **params: Any) -> Any:
        """``chat.completions.create``; greedy, of the sum, unless the parameters say otherwise."""
        create = self.client.chat.completions.create
        return self.run(create(**fitting(create, {"model": MODEL, "messages": SUM, "temperature": 0} | params)))

    def text(self, **params: Any) -> str:
        content: str = self.chat(**params).choices[0].message.content
        return content

    def stream(self, **params: Any) -> list[Any]:
        """Every chunk of a streamed answer."""
        return self.all(self.chat(stream=True, **params))

    def post(self, path: str, body: Any, **headers: str) -> Any:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.run(
            self.client.post(path, cast_to=dict[str, object] if FIRST else object, body=body, options={"headers": named})
        )


class AsyncSdk(Sdk):
    """The asynchronous client, in an event loop of its own."""

    kind = "async"

    def _open(self, **options: Any) -> Any:
        self._loop = asyncio.Runner()
        return openai.AsyncOpenAI(**options)

    def run(self, made: Any) -> Any:
        async def awaited() -> Any:
            return await made

        return self._loop.run(awaited()) if inspect.isawaitable(made) else made

    def all(self, stream: Any) -> list[Any]:
        async def read() -> list[Any]:
            return [chunk async for chunk in stream]

        return list(self._loop.run(read()))

    def some(self, stream: Any, count: int) -> list[Any]:
        async def read() -> list[Any]:
            return [await anext(stream) for _ in range(count)]

        return list(self._loop.run(read()))

    def hang_up(self, stream: Any) -> None:
        self.run(getattr(stream, "close", stream.response.aclose)())

    def close(self) -> None:
        self.run(self.client.close())
        self._loop.close()


def fitting(create: Callable[..., Any], params: dict[str, Any]) -> dict[str, Any]:
    """The parameters for a release: what its signature does not know goes into ``extra_body``, as its README says."""
    known = inspect.signature(create).parameters
    later = {name: value for name, value in params.items() if name not in known}
    extra = later | params.get("extra_body", {})
    return {name: value for name, value in params.items() if name in known} | ({"extra_body": extra} if extra else {})


def told(error: Any) -> dict[str, Any]:
    """The server's words in an exception with a status."""
    body: dict[str, Any] = error.response.json()["error"]
    if not FIRST:
        assert {name: getattr(error, name) for name in ("code", "param", "type")}.items() <= body.items()
    return body


def plain(value: Any) -> Any:
    """An SDK's value as JSON: fields that a release has no model for are plain already."""
    return json.loads(value.model_dump_json()) if hasattr(value, "model_dump_json") else value


def said(chunks: list[Any], index: int = 0) -> str:
    """The text of one answer of a stream."""
    choices = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
    return "".join(choice.delta.content or "" for choice in choices)


def until(condition: Callable[[], Any], timeout_s: float) -> float:
    """Seconds until the condition is true; fails after ``timeout_s``."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < timeout_s, f"not within {timeout_s} s"
        threading.Event().wait(0.005)
    return time.monotonic() - started
