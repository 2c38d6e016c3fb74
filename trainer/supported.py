"""Which models Plaudit can train: those whose logits are ``head(decoder(tokens))`` and nothing more."""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedModel


class ModelUnsupported(ValueError):
    """The model's logits are made in another way, it has no linear layers to adapt, or its tokenizer ends no answer."""


def linear_layers(model: PreTrainedModel) -> list[str]:
    """The last names of all linear layers but the output head (LoRA Without Regret: all of them, attention alone is worse)."""
    head = model.get_output_embeddings()
    names = {
        path.rpartition(".")[2] for path, module in model.named_modules() if isinstance(module, nn.Linear) and module is not head
    }
    if not names:
        raise ModelUnsupported(f"{type(model).__name__} has no linear layers for LoRA")
    return sorted(names)


@torch.no_grad()
def check_logits(model: PreTrainedModel) -> None:
    """Some models scale or cap their logits after the head; a policy computed without that would be another policy."""
    tokens = torch.arange(4, device=model.device)[None] % model.config.get_text_config().vocab_size
    plain = model.get_output_embeddings()(model.get_decoder()(input_ids=tokens, use_cache=False).last_hidden_state)
    if not torch.equal(plain, model(input_ids=tokens, use_cache=False).logits):
        raise ModelUnsupported(f"{type(model).__name__} changes its logits after the output head")
