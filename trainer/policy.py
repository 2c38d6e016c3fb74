"""One causal language model, held once, and the LoRA adapters on it by name: policy, value, reward, judge, reference.

Which adapter a forward pass uses and which ones require gradients are two separate things here: PEFT ties them together, and
a backward pass that runs after a switch would then silently leave its gradients out (autograd skips leaves that do not
require grad).
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, overload

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from feedback.events import BASE
from trainer import packing
from trainer.adapter_files import AdapterFileError, AdapterFiles
from trainer.batches import TokenBatch, buckets, gathered, packs
from trainer.supported import ModelUnsupported, check_logits, linear_layers
from trainer.vocabulary import entropy, picked

__all__ = ["BASE", "AdapterModel", "ModelUnsupported", "PolicyError", "TokenBatch"]

_TOKENS_PER_PASS = {"cpu": 512}
"""On a CPU few enough that activations stay in its caches (15 % less time than 4096 at 2M parameters). So few of like length
hardly need padding, and packing saves nothing; the many that a GPU wants at once do.
"""

_TOKENS_PER_PASS_ELSEWHERE = 16_384


class PolicyError(ValueError):
    """An adapter that is not there, or does not fit the model."""


@dataclass(frozen=True)
class BaseView:
    """What the base says of a batch, on the model's device: of each response token its states (B, T, H) before it, in the
    model's precision, its logprobs and its entropies (B, T) in nats; 0 past a response's end.
    """

    batch: TokenBatch
    states: Tensor
    logprobs: Tensor
    entropies: Tensor


class AdapterModel:
    """A base model and its named LoRA adapters. Not thread-safe: a switch of adapter is global to the model."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, rank: int, alpha: int, seed: int = 0
    ) -> None:
        self.tokenizer = tokenizer
        self.model = model.eval().requires_grad_(False)
        self.rank, self.alpha, self.seed = rank, alpha, seed
        self.target_modules = linear_layers(model)
        self.tokens_per_pass = _TOKENS_PER_PASS.get(self.device.type, _TOKENS_PER_PASS_ELSEWHERE)
        self.packed = self.device.type != "cpu" and packing.can_pack(model)
        self._peft: PeftModel | None = None
        self._layers: tuple[tuple[str, LoraLayer], ...] = ()
        self._active = BASE
        self._depth = 0
        self._trained: frozenset[str] = frozenset()
        self._base_view: BaseView | None = None
        check_logits(model)

    @classmethod
    def load(
        cls,
        path: Path | str,
        *,
        rank: int,
        alpha: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> AdapterModel:
        """From a local folder in Hugging Face's layout; nothing is fetched. Adapters are float32 whatever the dtype."""
        model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype, local_files_only=True).to(device)
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
        return cls(model, tokenizer, rank=rank, alpha=alpha, seed=seed)

    # what it is

    @property
    def device(self) -> torch.device:
        return self.head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.head.weight.dtype

    @property
    def hidden_size(self) -> int:
        """H."""
        return int(self.head.weight.shape[1])

    @property
    def decoder(self) -> nn.Module:
        return self.model.get_decoder()

    @property
    def head(self) -> nn.Linear:
        return self.model.get_output_embeddings()

    @property
    def eos_token(self) -> int:
        """The token that ends an answer."""
        token = self.tokenizer.eos_token_id
        if token is None:
            raise ModelUnsupported("the tokenizer names no EOS token")
        return int(token)

    @property
    def names(self) -> tuple[str, ...]:
        """The adapters held."""
        return tuple(self._peft.peft_config) if self._peft is not None else ()

    # adapters

    def add(self, name: str, *, source: Path | str | None = None) -> None:
        """Hold an adapter under ``name``: a fresh one without effect, a copy of a held one (its name), or one from a folder.

        Raises `PolicyError` or `AdapterFileError` when the name is taken or the source does not fit this model.
        """
        if name == BASE or name in self.names:
            raise PolicyError(f"adapter {name!r} is there already")
        if source is not None and str(source) in self.names:
            config = self._peft.peft_config[str(source)]
            self._attach(name, config.r, config.lora_alpha)
            weights = self.weights(str(source))
        elif source is not None:
            files = AdapterFiles.read(Path(source), self.target_modules)
            self._attach(name, files.rank, files.alpha)
            weights = files.weights
        else:
            self._attach(name, self.rank, self.alpha)
            return
        try:
            self._fill(name, weights)
        except AdapterFileError:
            self.remove(name)
            raise

    def remove(self, name: str) -> None:
        self._require(name)
        others = [other for other in self.names if other != name]
        self._activate(others[0] if others else BASE)  # PEFT warns of the removal of an active adapter
        self._trained -= {name}
        if not others:
            self.model = self._peft.unload()
            self._peft, self._layers = None, ()
            return
        self._peft.delete_adapter(name)
        self._sync()

    @contextmanager
    def using(self, name: str) -> Iterator[None]:
        """Forward passes inside go through adapter ``name``, or none for "base"; outside of such blocks nothing is promised."""
        before = self._active
        self._activate(name)
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if self._depth:  # a switch visits every layer; the outermost block leaves the next one to whoever needs it
                self._activate(before if before in self.names else BASE)

    def trainable(self, name: str, *more: str) -> list[nn.Parameter]:
        """Make the named adapters the only parameters that require gradients, and return them in a fixed order."""
        for each in (name, *more):
            self._require(each)
        self._trained = frozenset((name, *more))
        self._sync()
        return [p for each in (name, *more) for p in self._parameters(each).values()]

    def weights(self, name: str) -> dict[str, Tensor]:
        """The adapter's tensors under PEFT's names, detached; they share memory with the adapter."""
        self._require(name)
        return {key: parameter.detach() for key, parameter in self._parameters(name).items()}

    def config(self, name: str) -> LoraConfig:
        """The adapter's shape, as PEFT has it."""
        self._require(name)
        return copy.deepcopy(self._peft.peft_config[name])

    def twin(self) -> PreTrainedModel:
        """The base without any adapter, as modules of its own over the very same weights: for who changes a model's modules."""
        held = [*self.model.parameters()] if self._peft is None else [*self._peft.parameters()]
        shared = {id(parameter): parameter for parameter in held}
        return copy.deepcopy(self.model, shared) if self._peft is None else copy.deepcopy(self._peft, shared).unload()

    def save(self, name: str, folder: Path) -> None:
        """Write the adapter as PEFT and vLLM read it; the same weights, the same bytes."""
        self._require(name)
        config = self._peft.peft_config[name]
        AdapterFiles(config.r, config.lora_alpha, tuple(self.target_modules), self.weights(name)).write(folder)

    @contextmanager
    def merged(self, name: str) -> Iterator[None]:
        """Inside, forward passes go through the adapter the fastest way there is; for generating only.

        In float32 its change is added to the base's weights, and no adapter is active. In a base of less precision the sum
        would round small changes away: there the adapter stays beside the base, in the base's precision, as vLLM holds it.
        Outside all weights are again what they were, bit for bit.
        """
        if name == BASE:
            with self.using(BASE):
                yield
            return
        self._require(name)
        folded = self.dtype == torch.float32
        if folded:
            bases = [(layer.get_base_layer().weight, layer) for _, layer in self._layers]
            stand_ins = [(weight, weight.data + layer.get_delta_weight(name)) for weight, layer in bases]
        else:
            stand_ins = [(weight, weight.data.to(self.dtype)) for weight in self._parameters(name).values()]
        originals = [(weight, weight.data) for weight, _ in stand_ins]
        with self.using(BASE if folded else name):
            try:
                for weight, data in stand_ins:
                    weight.data = data
                yield
            finally:
                for weight, data in originals:
                    weight.data = data

    # forward passes

    @overload
    def response_logprobs(self, name: str, batch: TokenBatch, *, with_entropy: Literal[False] = False) -> Tensor: ...

    @overload
    def response_logprobs(self, name: str, batch: TokenBatch, *, with_entropy: Literal[True]) -> tuple[Tensor, Tensor]: ...

    def response_logprobs(self, name: str, batch: TokenBatch, *, with_entropy: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Log-probability of every response token given what precedes it, in nats: (B, T) float32, 0 past a response's end.

        With ``with_entropy`` also the entropy of each token's distribution, (B, T). Logits are made at response positions
        only.
        """
        batch = batch.to(self.device)
        logprobs = torch.zeros(len(batch), batch.longest_response, device=self.device)
        entropies = torch.zeros_like(logprobs)
        for where, tokens, states in self.foretold(name, batch):
            logs = self.logits(states).log_softmax(-1)  # (N, V), N response tokens
            logprobs = logprobs.index_put(where, picked(logs, tokens))
            if with_entropy:
                entropies = entropies.index_put(where, entropy(logs))
        return (logprobs, entropies) if with_entropy else logprobs

    @torch.no_grad()
    def base_view(self, batch: TokenBatch) -> BaseView:
        """What the base says of the answers. That of the last batch is kept: the base is frozen, and of the same answers the
        reward (see `trainer.surprise`) and both KLs ask for it.
        """
        batch = batch.to(self.device)
        if self._base_view is None or not self._base_view.batch.equals(batch):
            shape = (len(batch), batch.longest_response)
            view = BaseView(
                batch,
                torch.zeros(*shape, self.hidden_size, dtype=self.dtype, device=self.device),
                torch.zeros(shape, device=self.device),
                torch.zeros(shape, device=self.device),
            )
            for where, tokens, states in self.foretold(BASE, batch):
                logs = self.logits(states).log_softmax(-1)
                view.states[where], view.logprobs[where], view.entropies[where] = states, picked(logs, tokens), entropy(logs)
            self._base_view = view
        return self._base_view

    def groups(self, lengths: Tensor) -> Iterator[Tensor]:
        """Rows, by their ``lengths`` (B,), that go through the model in one pass: packed without padding, or of like length."""
        return (packs if self.packed else buckets)(lengths, self.tokens_per_pass)

    def logits(self, states: Tensor) -> Tensor:
        """(N, V) float32 from the decoder's last states (N, H)."""
        return self.head(states).float()

    def response_states(self, name: str, batch: TokenBatch, *, before: bool = False) -> Tensor:
        """The decoder's last hidden state at every response token: (B, T, H) float32, 0 past a response's end.

        With ``before``, the state from which that token is predicted instead, which has not seen the token yet.
        """
        batch = batch.to(self.device)
        result = torch.zeros(len(batch), batch.longest_response, self.hidden_size, device=self.device)
        for rows, part, hidden in self._hidden(name, batch):
            mask = part.response_mask
            states = gathered(hidden, part.response_positions - int(before))
            result = result.index_put((rows[:, None].expand_as(mask)[mask], mask.nonzero()[:, 1]), states[mask].float())
        return result

    def response_windows(self, name: str, batch: TokenBatch) -> Iterator[tuple[Tensor, TokenBatch, Tensor]]:
        """Group by group, of rows that have a response: row numbers, part of the batch, and states (b, t + 1, H): the one from
        which the first response token is foretold, then those at every response token. One pass gives both kinds.
        """
        for rows, part, hidden in self._hidden(name, batch.to(self.device)):
            first = part.prompt_lengths[:, None] - 1
            yield rows, part, gathered(hidden, torch.cat([first, part.response_positions], 1))

    def foretold(self, name: str, batch: TokenBatch) -> Iterator[tuple[tuple[Tensor, Tensor], Tensor, Tensor]]:
        """Group by group of its N response tokens: row and column in (B, T), the tokens (N,), the states (N, H) before them."""
        for rows, part, hidden in self._hidden(name, batch):
            mask = part.response_mask
            states = gathered(hidden, part.response_positions - 1)[mask]
            yield (rows[:, None].expand_as(mask)[mask], mask.nonzero()[:, 1]), part.responses[mask], states

    def _hidden(self, name: str, batch: TokenBatch) -> Iterator[tuple[Tensor, TokenBatch, Tensor]]:
        for rows in self.groups(batch.lengths):
            part = batch.select(rows)
            if not part.longest_response:
                continue
            with self.using(name):
                if self.packed:
                    hidden = packing.states(self.model, part.tokens, part.lengths)
                else:
                    hidden = self.decoder(input_ids=part.tokens, use_cache=False).last_hidden_state
            yield rows, part, hidden

    # text

    def encode_prompt(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """The conversation through the model's chat template, up to where its answer begins."""
        return list(self.tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, return_dict=False))

    def encode_answer(self, text: str) -> list[int]:
        """The answer's tokens, EOS last."""
        return [*self.tokenizer(text, add_special_tokens=False).input_ids, self.eos_token]

    def decode_answer(self, tokens: Sequence[int]) -> str:
        return self.tokenizer.decode(list(tokens), skip_special_tokens=True)

    # inside

    def _attach(self, name: str, rank: int, alpha: int) -> None:
        """A LoRA adapter whose A is drawn from (seed, name) and whose B is 0. The caller's random state is left as it was."""
        config = LoraConfig(
            task_type="CAUSAL_LM", r=rank, lora_alpha=alpha, lora_dropout=0.0, bias="none", target_modules=self.target_modules
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed ^ zlib.crc32(name.encode()))
            if self._peft is None:
                self._peft = PeftModel(self.model, config, adapter_name=name)
            else:
                self._peft.add_adapter(name, config)
        self._peft.eval()
        self._layers = tuple((path, each) for path, each in self._peft.named_modules() if isinstance(each, LoraLayer))
        self._sync()

    def _fill(self, name: str, weights: dict[str, Tensor]) -> None:
        own = self._parameters(name)
        if set(own) != set(weights):
            raise AdapterFileError(f"adapter {name!r}: tensors {sorted(set(own) ^ set(weights))[:4]} are missing or foreign")
        for key, parameter in own.items():
            if parameter.shape != weights[key].shape:
                raise AdapterFileError(
                    f"adapter {name!r}: {key} is {tuple(weights[key].shape)}, the model takes {tuple(parameter.shape)}"
                )
            parameter.data.copy_(weights[key])

    def _parameters(self, name: str) -> dict[str, nn.Parameter]:
        found = {}
        for path, layer in self._layers:
            found[f"{path}.lora_A.weight"] = layer.lora_A[name].weight
            found[f"{path}.lora_B.weight"] = layer.lora_B[name].weight
        return found

    def _require(self, name: str) -> None:
        if name not in self.names:
            raise PolicyError(f"no adapter {name!r}; held are {', '.join(self.names) or 'none'}")

    def _activate(self, name: str) -> None:
        if name == self._active:
            return
        if name != BASE:
            self._require(name)
        self._active = name
        self._sync()

    def _sync(self) -> None:
        """Bring every layer to the active adapter, then the gradient flags, which PEFT changes with it, to the trained ones."""
        for _, layer in self._layers:
            if layer.disable_adapters != (self._active == BASE):
                layer.enable_adapters(self._active != BASE)
            if self._active != BASE:
                layer.set_adapter(self._active)
            for part in (layer.lora_A, layer.lora_B):
                for name, module in part.items():
                    module.weight.requires_grad_(name in self._trained)
