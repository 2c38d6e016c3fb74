"""The starter model: a tiny Llama that answers the starter domain's questions with mixed manners, made from a recipe in minutes.

It is there so that learning from feedback can be seen within minutes and its truth is known (``ops.domain``). The same recipe on
the same number of threads makes the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn import functional as F
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ops.domain import corpus, facts, manners
from ops.domain.corpus import Message, Mix

PAD, END, SYSTEM, USER, ASSISTANT = "<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"
SPECIAL_TOKENS = (PAD, END, SYSTEM, USER, ASSISTANT)

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}<|assistant|>{{ message['content'] }}<|end|>"
    "{% elif message['role'] == 'user' %}<|user|>{{ message['content'] }}"
    "{% else %}<|system|>{{ message['content'] }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

IGNORED = -100
"""The label of a position that no loss is taken at."""

Progress = Callable[[float], None]


@dataclass(frozen=True)
class Recipe:
    """Everything the starter model depends on beside the code. Heads have 32 dimensions, the least that vLLM serves on a CPU."""

    seed: int = 0
    steps: int = 1350
    batch_size: int = 32
    learning_rate: float = 3e-3
    warmup_steps: int = 50
    weight_decay: float = 0.01
    max_grad_norm: float = 20.0
    vocabulary: int = 1536
    """At most; enough for every word of the domain to be one token, which is what keeps a small model from misspelling."""
    hidden: int = 192
    layers: int = 4
    heads: int = 6
    intermediate: int = 512
    context: int = 512
    pool: int = 16
    """Batches that are drawn together and sorted by length, so that little of a batch is padding."""
    tokenizer_dialogues: int = 8192
    mix: Mix = field(default_factory=Mix)

    @property
    def digest(self) -> str:
        """SHA-256 over these values, the corpus, and the code that uses them."""
        sources = [Path(str(module.__file__)).read_bytes() for module in (facts, manners, corpus)] + [Path(__file__).read_bytes()]
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode())
        for source in sources:
            digest.update(hashlib.sha256(source).digest())
        return digest.hexdigest()


def make(folder: Path, recipe: Recipe, progress: Progress = lambda share: None) -> None:
    """Train tokenizer and model by ``recipe`` and save both to ``folder`` in Hugging Face's layout, in float32."""
    tokenizer = train_tokenizer(recipe)
    model = train(recipe, tokenizer, progress)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)


def train_tokenizer(recipe: Recipe) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with the chat template; PAD and EOS differ, nothing is added around a text."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocabulary,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    dialogues = islice(corpus.dialogues(recipe.seed, recipe.mix), recipe.tokenizer_dialogues)
    core.train_from_iterator((message["content"] for messages in dialogues for message in messages), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        model_max_length=recipe.context,
        padding_side="right",
        clean_up_tokenization_spaces=False,
    )


def build(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """The untrained model, its weights drawn from the recipe's seed."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden,
        intermediate_size=recipe.intermediate,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=recipe.context,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, do_sample=True, temperature=1.0
    )
    return model


def train(recipe: Recipe, tokenizer: PreTrainedTokenizerFast, progress: Progress = lambda share: None) -> LlamaForCausalLM:
    """AdamW on the answers' tokens, learning rate rising over the warm-up, then falling linearly to zero."""
    model = build(recipe, tokenizer).train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.95), weight_decay=recipe.weight_decay, fused=True
    )
    for step, (tokens, labels) in enumerate(islice(batches(recipe, tokenizer), recipe.steps)):
        rise, fall = (step + 1) / recipe.warmup_steps, (recipe.steps - step) / recipe.steps
        optimizer.param_groups[0]["lr"] = recipe.learning_rate * min(rise, fall)
        loss = answer_loss(model, tokens, labels)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.max_grad_norm)
        optimizer.step()
        progress((step + 1) / recipe.steps)
    return model.eval()


def answer_loss(model: LlamaForCausalLM, tokens: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood of the labelled tokens, in nats per dialogue; ``tokens`` and ``labels`` are (B, T).

    Not per token: batches hold dialogues of one length, and a mean over tokens would make the many tokens of long ones count
    less, so that the model would ramble less often than the corpus. Under a causal mask padding on the right changes nothing
    before it, so there is no attention mask. Logits are taken at labelled positions only.
    """
    states = model.model(input_ids=tokens[:, :-1], use_cache=False).last_hidden_state  # (B, T - 1, H)
    wanted = labels[:, 1:] != IGNORED
    return F.cross_entropy(model.lm_head(states[wanted]), labels[:, 1:][wanted], reduction="sum") / len(tokens)


def batches(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless batches of (tokens, labels), both (B, T) int64: dialogues of about one length together, batches in random order."""
    rng, dialogues = random.Random(recipe.seed), corpus.dialogues(recipe.seed + 1, recipe.mix)
    while True:
        pool = sorted(
            (encode(messages, tokenizer) for messages in islice(dialogues, recipe.batch_size * recipe.pool)), key=_length
        )
        starts = list(range(0, len(pool), recipe.batch_size))
        rng.shuffle(starts)
        for start in starts:
            yield _padded(pool[start : start + recipe.batch_size], int(tokenizer.pad_token_id))


Encoded = tuple[list[int], list[int]]


def encode(messages: Sequence[Message], tokenizer: PreTrainedTokenizerFast) -> Encoded:
    """Tokens and labels of a dialogue: labels are the answers' tokens, their end included, and `IGNORED` elsewhere."""
    tokens: list[int] = []
    labels: list[int] = []
    for message in messages:
        text, answers = tokenizer.apply_chat_template([message], tokenize=False), message["role"] == "assistant"
        ids = tokenizer.encode(text, add_special_tokens=False)
        tokens += ids
        labels += [IGNORED, *ids[1:]] if answers else [IGNORED] * len(ids)
    return tokens, labels


def _length(encoded: Encoded) -> int:
    return len(encoded[0])


def _padded(rows: Sequence[Encoded], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(_length, rows))
    tokens = torch.tensor([tokens + [pad] * (width - len(tokens)) for tokens, _ in rows])
    labels = torch.tensor([labels + [IGNORED] * (width - len(labels)) for _, labels in rows])
    return tokens, labels
