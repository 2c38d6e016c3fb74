"""What the gateway asks of vLLM's HTTP API, and the only module of ours that knows its paths and fields.

An engine of ours serves the base model under the name ``base`` (`feedback.events.BASE`) and adapters under their own
ids. Any other server of OpenAI's API will do as well, without adapters: its first model is then the base.
"""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, NoReturn, Protocol

import aiohttp
import orjson
from yarl import URL

from feedback.events import BASE

_CONNECT_TIMEOUT_S = 5.0
_ADMIN_TIMEOUT_S = 30.0
_KEEPALIVE_S = 2.0  # below the 5 s after which vLLM's server drops an idle connection, so that none is used as it closes
_READ_BYTES = 256 * 1024
_MAX_LINE_BYTES = 4 * 1024 * 1024  # one SSE line; chunks with logprobs are long
_PROBE_WIDTH = 20  # the most that vLLM gives unless told otherwise


class EngineError(Exception):
    """The engine refused or failed a request. ``status``, ``code`` and ``param`` are fit for OpenAI's error shape."""

    status = 502
    code = "engine_error"

    def __init__(self, message: str, *, status: int | None = None, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status or self.status
        self.code = code or self.code
        self.param = param


class EngineUnavailable(EngineError, ConnectionError):
    """Nobody answers, or the connection broke."""

    status = 503
    code = "engine_unavailable"
    refused = False
    """Nobody listens there at all."""


class EngineTimeout(EngineError, TimeoutError):
    """No answer within the deadline."""

    status = 504
    code = "engine_timeout"


class EngineAnswerInvalid(EngineError, ValueError):
    """The engine answered something that is not its API."""

    status = 502
    code = "engine_answer_invalid"


class Engine(Protocol):
    """One replica of the model. Every call has a deadline and raises `EngineError` or one of its subclasses."""

    base_name: str
    """What the engine is asked for where the base is meant: ``base``, another server's model, or an adapter without effect."""
    shares_prefixes: bool
    """Whether it keeps one prefix cache for all its callers, which ``cache_salt`` parts (vLLM)."""

    async def complete(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """One chat completion: a request body of ``POST /v1/chat/completions`` in, its answer out."""
        ...

    def stream(self, body: Mapping[str, Any]) -> AsyncIterator[list[dict[str, Any]]]:
        """The chunks of a streamed chat completion, those together that came together.

        Closing the iterator (``aclose``) stops the generation.
        """
        ...

    async def load_adapter(self, name: str, path: str) -> None:
        """Register the adapter in folder ``path`` (as the engine sees it) under ``name``."""
        ...

    async def unload_adapter(self, name: str) -> None: ...

    async def loaded(self) -> set[str]:
        """Names of the registered adapters. Brings ``base_name`` and ``shares_prefixes`` up to date."""
        ...

    async def answers(self, model: str, timeout_s: float) -> bool:
        """Whether ``model`` generates one token within ``timeout_s`` seconds. Raises nothing."""
        ...

    async def probe(self, model: str, messages: Sequence[Mapping[str, str]]) -> dict[bytes, float]:
        """The likeliest first tokens of an answer, with the natural logarithm of each one's probability."""
        ...

    async def close(self) -> None: ...


class VllmEngine:
    """`Engine` over HTTP: ``http://host:port``, or ``unix:/path/to/socket``."""

    def __init__(self, url: str, request_timeout_s: float = 120.0, api_key: str | None = None) -> None:
        self.url = url
        self._base = "http://engine" if url.startswith("unix:") else url.rstrip("/").removesuffix("/v1")
        self._chat = URL(self._base + "/v1/chat/completions")
        self._headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {api_key}"} if api_key else {})
        self._timeout = aiohttp.ClientTimeout(total=request_timeout_s, sock_connect=_CONNECT_TIMEOUT_S)
        self._admin_timeout = aiohttp.ClientTimeout(total=_ADMIN_TIMEOUT_S, sock_connect=_CONNECT_TIMEOUT_S)
        self._session: aiohttp.ClientSession | None = None
        self.base_name = BASE
        self.shares_prefixes = False

    def __repr__(self) -> str:
        return f"VllmEngine({self.url!r})"

    async def complete(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return await self._call("POST", "/v1/chat/completions", {**self._named(body), "stream": False}, self._timeout)

    async def stream(self, body: Mapping[str, Any]) -> AsyncIterator[list[dict[str, Any]]]:
        data = orjson.dumps({**self._named(body), "stream": True})
        lines = _Lines()
        try:
            async with self._open_session().post(self._chat, data=data, timeout=self._timeout) as response:
                if response.status != 200:
                    _refused(response.status, await response.read())
                async for block in response.content.iter_any():
                    chunks = lines.take(block)
                    if chunks:
                        yield chunks
                    if lines.failure is not None:
                        _refused(500, lines.failure)
                    if lines.ended:
                        return
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            _unreachable(self.url, error)
        raise EngineUnavailable(f"engine {self.url}: the stream broke off before its end")

    async def load_adapter(self, name: str, path: str) -> None:
        await self._call("POST", "/v1/load_lora_adapter", {"lora_name": name, "lora_path": path}, self._admin_timeout)

    async def unload_adapter(self, name: str) -> None:
        await self._call("POST", "/v1/unload_lora_adapter", {"lora_name": name}, self._admin_timeout)

    async def loaded(self) -> set[str]:
        try:
            listing = await self._call("GET", "/v1/models", None, self._admin_timeout)
            models = {model["id"]: model.get("owned_by") for model in listing["data"]}
        except EngineError as error:
            if error.status not in (404, 405, 501):
                raise
            models = {}  # a server that lists none
        except (KeyError, TypeError, AttributeError) as error:
            raise EngineAnswerInvalid(f"engine {self.url}: GET /v1/models answered {str(listing)[:200]}") from error
        base = BASE if BASE in models or not models else next(iter(models))
        if self.base_name not in models:
            self.base_name = base
        self.shares_prefixes = models.get(base) == "vllm"
        return set(models) - {base}

    async def answers(self, model: str, timeout_s: float) -> bool:
        body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1, "temperature": 0}
        try:
            async with asyncio.timeout(timeout_s):  # not wait_for, which may swallow a cancellation (Python 3.11)
                answer = await self.complete(body)
        except (EngineError, TimeoutError):
            return False
        return bool(answer.get("choices"))

    async def probe(self, model: str, messages: Sequence[Mapping[str, str]]) -> dict[bytes, float]:
        body = {
            "model": model,
            "messages": [dict(message) for message in messages],
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": True,
            "top_logprobs": _PROBE_WIDTH,
        }
        answer = await self.complete(body)
        try:
            likeliest = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
            return {bytes(token["bytes"]): float(token["logprob"]) for token in likeliest}
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise EngineAnswerInvalid(f"engine {self.url}: no logprobs in its answer for {model}") from error

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _named(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return {**body, "model": self.base_name if body["model"] == BASE else body["model"]}

    def _open_session(self) -> aiohttp.ClientSession:
        """aiohttp's client, made on first use: it wants the running event loop."""
        if self._session is None:
            path = self.url.removeprefix("unix:")
            connector = (
                aiohttp.UnixConnector(path=path, limit=0, keepalive_timeout=_KEEPALIVE_S)
                if path != self.url
                else aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_S)
            )
            self._session = aiohttp.ClientSession(connector=connector, headers=self._headers, read_bufsize=_READ_BYTES)
        return self._session

    async def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None, timeout: aiohttp.ClientTimeout
    ) -> dict[str, Any]:
        """One request with a JSON body; its JSON answer, or ``{}`` where vLLM answers in plain text."""
        try:
            data = None if body is None else orjson.dumps(body)
            async with self._open_session().request(method, self._base + path, data=data, timeout=timeout) as response:
                raw = await response.read()
                status, is_json = response.status, response.content_type == "application/json"
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            _unreachable(self.url, error)
        if status != 200:
            _refused(status, raw)
        return _parse(raw) if is_json else {}


class _Lines:
    """Server-sent events from blocks of bytes that end anywhere."""

    def __init__(self) -> None:
        self.ended = False
        """``[DONE]`` has come."""
        self.failure: bytes | None = None
        """vLLM's report of a failure in mid-stream, which comes as a chunk of its own."""
        self._rest = b""

    def take(self, block: bytes) -> list[dict[str, Any]]:
        """The chunks that are whole with this block, up to the stream's end or failure."""
        *lines, self._rest = (self._rest + block).split(b"\n")
        if len(self._rest) > _MAX_LINE_BYTES:
            raise EngineAnswerInvalid(f"the engine's stream has a line of over {_MAX_LINE_BYTES} bytes")
        chunks = []
        for line in lines:
            if not line.startswith(b"data:"):
                continue
            data = line[5:].strip()
            if data == b"[DONE]":
                self.ended = True
                break
            chunk = _parse(data)
            if chunk.get("error"):
                self.failure = data
                break
            chunks.append(chunk)
        return chunks


def _parse(raw: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(raw)
    except ValueError as error:
        raise EngineAnswerInvalid(f"the engine's answer is not JSON: {raw[:200]!r}") from error
    if not isinstance(value, dict):
        raise EngineAnswerInvalid(f"the engine's answer is not a JSON object: {raw[:200]!r}")
    return value


def _refused(status: int, raw: bytes) -> NoReturn:
    """Raise vLLM's own error (OpenAI's shape, or FastAPI's) as `EngineError`."""
    try:
        answer = json.loads(raw)
    except ValueError:
        answer = {}
    error = answer.get("error") if isinstance(answer, dict) else None
    if not isinstance(error, dict):
        raise EngineError(f"the engine answered {status}: {raw[:200].decode(errors='replace')}", status=status)
    code = error.get("code")
    status = code if isinstance(code, int) and 400 <= code < 600 else status
    raise EngineError(
        str(error.get("message") or f"the engine answered {status}"),
        status=status,
        code=str(error.get("type") or EngineError.code),
        param=error.get("param"),
    )


def _unreachable(url: str, error: Exception) -> NoReturn:
    nobody = isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
    if isinstance(error, TimeoutError) and not nobody:
        raise EngineTimeout(f"engine {url}: no answer within the deadline") from error
    unavailable = EngineUnavailable(f"engine {url}: {error or type(error).__name__}")
    ours = getattr(error, "errno", None) in (errno.EMFILE, errno.ENFILE)  # this process has no descriptor left
    unavailable.refused = nobody and not ours
    raise unavailable from error
