"""Where sampled answers come from: the serving engine at low priority, or this process. All the trainer knows of vLLM's API.

The engine gets every policy iterate as an adapter of its own, under a name and a path never used before: vLLM keys its prefix
cache by both. The files are deleted only once the adapter is unloaded, as vLLM may read them again for as long as it is held.
"""

from __future__ import annotations

import asyncio
import shutil
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx
import structlog

from feedback.events import BASE
from trainer.generate import generate
from trainer.policy import AdapterModel

_log = structlog.get_logger(__name__)

PRIORITY = 10
"""Above 0, which is what people's requests have: they go first."""

NAME_PREFIX = "rollout-"
"""Of every adapter that the trainer registers with the engine; no published adapter's id starts so."""

SHORT_TIMEOUT_S = 10.0


class RolloutsUnavailable(RuntimeError):
    """The engine did not deliver: not reachable, past its deadline, or an answer that is no answer."""


@dataclass(frozen=True)
class Sample:
    """One answer: the response's tokens, EOS last when it ``ended``, and the sampler's own log-probability of each, in nats."""

    prompt_index: int
    prompt_tokens: tuple[int, ...]
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...] | None
    ended: bool
    text: str


class RolloutSource(Protocol):
    def generate(
        self,
        adapter_name: str,
        prompts: list[list[int]],
        *,
        n: int,
        temperature: float,
        max_new_tokens: int,
        seed: int,
    ) -> list[Sample]:
        """``n`` answers to each prompt from the adapter's present weights; prompt by prompt, in their order."""
        ...


class LocalRollouts:
    """Generation in this process."""

    def __init__(self, model: AdapterModel) -> None:
        self._model = model

    def generate(
        self, adapter_name: str, prompts: list[list[int]], *, n: int, temperature: float, max_new_tokens: int, seed: int
    ) -> list[Sample]:
        answers = generate(
            self._model, adapter_name, prompts, n=n, temperature=temperature, max_new_tokens=max_new_tokens, seed=seed
        )
        return [
            Sample(i, tuple(prompt), tuple(a.tokens), tuple(a.logprobs), a.ended, self._model.decode_answer(a.tokens))
            for i, prompt in enumerate(prompts)
            for a in answers[i]
        ]


class EngineRollouts:
    """Generation by vLLM. ``url`` is ``http://host:port`` or ``unix:/path``; ``scratch_dir`` must be readable by the engine.

    ``timeout_s`` is the deadline of one `generate`; then, or on any failure, it raises `RolloutsUnavailable`. The seed is not
    passed on: vLLM gives the prompts of a seeded request the same random numbers, so that a batch would explore no more than
    ``n`` ways, and on a CPU a seeded request that is prefilled in parts ends the engine ("CPU Generator does not use offset").
    """

    def __init__(
        self,
        url: str,
        model: AdapterModel,
        scratch_dir: Path,
        *,
        timeout_s: float = 120,
        prompts_per_request: int = 32,
        api_key: str | None = None,
    ) -> None:
        self._url = url
        self._headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._model = model
        self._scratch = scratch_dir.absolute()
        self._timeout_s = timeout_s
        self._prompts_per_request = prompts_per_request
        self._swept = False

    def generate(
        self, adapter_name: str, prompts: list[list[int]], *, n: int, temperature: float, max_new_tokens: int, seed: int
    ) -> list[Sample]:
        sampling = {"n": n, "temperature": temperature, "top_p": 1.0, "top_k": 0, "max_tokens": max_new_tokens}
        try:
            return asyncio.run(self._generate(adapter_name, prompts, sampling))
        except (httpx.HTTPError, TimeoutError, OSError) as error:
            raise RolloutsUnavailable(f"engine {self._url}: {type(error).__name__}: {error}") from error
        except (KeyError, TypeError, ValueError) as error:
            raise RolloutsUnavailable(f"engine {self._url} gave an answer that is none: {error!r}") from error

    async def _generate(self, adapter_name: str, prompts: list[list[int]], sampling: dict[str, Any]) -> list[Sample]:
        samples: list[Sample] = []
        async with self._client() as client, asyncio.timeout(self._timeout_s), self._published(client, adapter_name) as served:
            for start in range(0, len(prompts), self._prompts_per_request):
                part = prompts[start : start + self._prompts_per_request]
                choices = await _complete(client, {"model": served, "prompt": part, **sampling})
                samples += self._samples(start, part, choices, sampling["n"])
        return samples

    def _samples(self, start: int, prompts: list[list[int]], choices: list[dict[str, Any]], n: int) -> list[Sample]:
        """The choices of one request are its prompts' answers in order, n after n."""
        if len(choices) != n * len(prompts):
            raise ValueError(f"{len(choices)} choices for {len(prompts)} prompts x {n}")
        samples = []
        for place, choice in enumerate(choices):
            prompt = tuple(prompts[place // n])
            tokens, logprobs = tuple(choice["token_ids"]), tuple(choice["logprobs"]["token_logprobs"])
            if tuple(choice["prompt_token_ids"]) != prompt or len(tokens) != len(logprobs) or not tokens:
                raise ValueError(f"choice {place}: {len(tokens)} tokens, {len(logprobs)} logprobs, or another prompt's")
            ended = choice["finish_reason"] == "stop"
            samples.append(Sample(start + place // n, prompt, tokens, logprobs, ended, self._model.decode_answer(tokens)))
        return samples

    @asynccontextmanager
    async def _published(self, client: httpx.AsyncClient, adapter_name: str) -> AsyncIterator[str]:
        """The name under which the engine serves the adapter as it is now; gone, with its files, when the block is left."""
        await self._sweep(client)
        if adapter_name == BASE:
            yield BASE
            return
        served = f"{NAME_PREFIX}{uuid.uuid4().hex}"
        folder = self._scratch / served
        self._model.save(adapter_name, folder)
        try:
            await _post(client, "/v1/load_lora_adapter", {"lora_name": served, "lora_path": str(folder)})
            yield served
        finally:
            await self._retire(client, served)

    async def _retire(self, client: httpx.AsyncClient, served: str) -> None:
        try:
            await _post(client, "/v1/unload_lora_adapter", {"lora_name": served})
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.NOT_FOUND:  # 404: never loaded, or a restarted engine
                _log.warning("rollout_adapter_kept", adapter=served, status=error.response.status_code)
                return
        except httpx.HTTPError as error:
            _log.warning("rollout_adapter_kept", adapter=served, error=repr(error))
            return
        shutil.rmtree(self._scratch / served, ignore_errors=True)

    async def _sweep(self, client: httpx.AsyncClient) -> None:
        """Once: unload and delete what a trainer that was killed here has left behind."""
        if self._swept:
            return
        response = await client.get("/v1/models", timeout=SHORT_TIMEOUT_S)
        _check(response)
        held = {card["id"] for card in response.json()["data"] if Path(card.get("root") or "").parent == self._scratch}
        for folder in self._scratch.glob(f"{NAME_PREFIX}*"):
            held.add(folder.name)
        for served in held:
            await self._retire(client, served)
        self._swept = True

    def _client(self) -> httpx.AsyncClient:
        transport, url = None, self._url
        if url.startswith("unix:"):
            transport, url = httpx.AsyncHTTPTransport(uds=url.removeprefix("unix:")), "http://engine"
        return httpx.AsyncClient(transport=transport, base_url=url, timeout=self._timeout_s, headers=self._headers)


async def _complete(client: httpx.AsyncClient, body: dict[str, Any]) -> list[dict[str, Any]]:
    extra = {"logprobs": 0, "return_token_ids": True, "add_special_tokens": False, "priority": PRIORITY}
    response = await client.post("/v1/completions", json={**body, **extra})
    _check(response)
    return response.json()["choices"]


async def _post(client: httpx.AsyncClient, path: str, body: dict[str, str]) -> None:
    response = await client.post(path, json=body, timeout=SHORT_TIMEOUT_S)
    _check(response)


def _check(response: httpx.Response) -> None:
    """As `raise_for_status`, with what the engine says."""
    if response.is_error:
        message = f"{response.status_code} for {response.url.path}: {response.text[:300]}"
        raise httpx.HTTPStatusError(message, request=response.request, response=response)


class _Fallback:
    def __init__(self, first: RolloutSource, second: RolloutSource) -> None:
        self._source, self._second = first, second

    def generate(
        self, adapter_name: str, prompts: list[list[int]], *, n: int, temperature: float, max_new_tokens: int, seed: int
    ) -> list[Sample]:
        ask: dict[str, Any] = {"n": n, "temperature": temperature, "max_new_tokens": max_new_tokens, "seed": seed}
        try:
            return self._source.generate(adapter_name, prompts, **ask)
        except RolloutsUnavailable as error:
            _log.warning("rollouts_fall_back", error=str(error))
            self._source = self._second
            return self._source.generate(adapter_name, prompts, **ask)


def with_fallback(first: RolloutSource, second: RolloutSource) -> RolloutSource:
    """``first``, until it is unavailable once; from then on ``second``, so that no deadline is waited for twice."""
    return _Fallback(first, second)
