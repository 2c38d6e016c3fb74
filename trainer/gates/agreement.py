"""Do trainer and engine mean the same model? What was trained is not what people get where they differ."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import torch
import torch.nn.functional as F
from torch import Tensor

from ops.registry import GateResult
from trainer.policy import AdapterModel, TokenBatch
from trainer.vocabulary import picked


def agreement(differences: Sequence[float] | None, limit: float, why_not: str = "") -> GateResult:
    """Mean |log-probability by the engine - by the trainer| of the tokens that the engine sampled, nats.

    None where no engine could be asked, for the reason ``why_not``: then there is nothing to compare, and the gate stands open.
    """
    name = "engine_agreement"
    if differences is None:
        return GateResult(name=name, passed=True, threshold=limit, detail=f"not compared: {why_not}")
    if not differences:
        return GateResult(name=name, passed=False, threshold=limit, detail="the engine's answers have no token")
    mean = sum(differences) / len(differences)
    if not isfinite(mean):
        return GateResult(name=name, passed=False, threshold=limit, detail=f"the mean difference is {mean}")
    detail = f"nats a token between the engine's log-probabilities and the trainer's, n={len(differences)} tokens"
    return GateResult(name=name, passed=mean < limit, value=mean, threshold=limit, detail=detail)


@torch.no_grad()
def precise_logprobs(model: AdapterModel, name: str, batch: TokenBatch) -> Tensor:
    """The trainer's side of it: `AdapterModel.response_logprobs`, (B, T) nats, with the output head in float32.

    In bfloat16 logits above 8 stand 1/16 apart, which is a tenth of the difference from the engine that SmolLM2 shows; a
    float32 head takes a fifth longer on a CPU, which who compares can spend and who trains cannot.
    """
    batch = batch.to(model.device)
    logprobs = torch.zeros(len(batch), batch.longest_response, device=model.device)
    weight, bias = model.head.weight.float(), None if model.head.bias is None else model.head.bias.float()
    for where, tokens, states in model.foretold(name, batch):
        logprobs[where] = picked(F.linear(states.float(), weight, bias).log_softmax(-1), tokens)
    return logprobs
