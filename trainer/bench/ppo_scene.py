"""What both sides of the PPO bench are given: a Llama with random weights, one batch of rollouts, the same numbers for both."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

Size = Literal["23m", "1b"]
Side = Literal["plaudit", "trl"]
Mode = Literal["cost", "flops", "gold"]

PAD, EOS = 0, 1
VOCABULARY = 32_000

SHAPES: dict[Size, dict[str, Any]] = {
    "23m": {
        "hidden_size": 256,
        "intermediate_size": 688,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
    },
    "1b": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
}

PROMPT_TOKENS = (16, 93)
ANSWER_TOKENS = 42
"""In the mean; lengths are geometric, as those of answers are."""

LONGEST_ANSWER = 128


@dataclass(frozen=True)
class Scene:
    """One measurement. ``model`` is a folder; ``prompts`` and, but for gold, ``responses`` are tokens, a row each.

    With ``gold`` answers are sampled anew at every step and rewarded by the starter domain's taste, in units of ``gold``:
    its mean and standard deviation over the model's first answers. ``questions`` are then the prompts' texts.
    """

    model: str
    prompts: list[list[int]]
    responses: list[list[int]]
    steps: int
    batch: int
    epochs: int
    minibatches: int
    learning_rate: float
    value_learning_rate: float
    kl_coef: float
    rank: int
    alpha: int
    max_new_tokens: int
    dtype: Literal["float32", "bfloat16"]
    device: Literal["cpu", "cuda"]
    seed: int
    questions: list[str]
    gold: tuple[float, float] | None
    adapter: str
    """Where the trained adapter goes; empty: nowhere."""

    def write(self, path: Path) -> Path:
        path.write_text(json.dumps(asdict(self)))
        return path

    @classmethod
    def read(cls, path: Path) -> Scene:
        values = json.loads(path.read_text())
        gold = values.pop("gold")
        return cls(**values, gold=None if gold is None else (gold[0], gold[1]))


def make_model(shape: dict[str, Any], folder: Path, seed: int) -> None:
    """A Llama of that shape with random weights, and a tokenizer of as many words that only has to pad."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY, max_position_embeddings=1024, pad_token_id=PAD, eos_token_id=EOS, bos_token_id=None, **shape
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    words = {"<pad>": PAD, "<eos>": EOS} | {f"w{number}": number for number in range(2, VOCABULARY)}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<eos>"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>").save_pretrained(folder)


def make_rollouts(batch: int, seed: int) -> tuple[list[list[int]], list[list[int]]]:
    """Prompts and responses of random tokens; a response that does not reach `LONGEST_ANSWER` ends with EOS."""
    rng = random.Random(seed)

    def tokens(count: int) -> list[int]:
        return [rng.randrange(2, VOCABULARY) for _ in range(count)]

    prompts = [tokens(rng.randint(*PROMPT_TOKENS)) for _ in range(batch)]
    lengths = [min(LONGEST_ANSWER, 1 + int(rng.expovariate(1 / ANSWER_TOKENS))) for _ in range(batch)]
    return prompts, [tokens(n) if n == LONGEST_ANSWER else [*tokens(n - 1), EOS] for n in lengths]
