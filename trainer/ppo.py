"""The mathematics of PPO and RLOO, as pure functions.

Unless said otherwise tensors are (B, T): B sequences of T response tokens; logprobs in nats; mask is true on response
tokens. Values past a response's end never matter.
"""

from __future__ import annotations

import torch
from torch import Tensor

_RAMP = 0.2

LOSS_METRICS = ("policy/clip_fraction", "policy/dual_clip_fraction", "policy/approx_kl")
"""What `ppo_policy_loss` tells beside the loss."""


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the masked entries; 0 where there are none."""
    return torch.where(mask, values, 0).sum() / mask.sum().clamp(min=1)


def masked_whiten(values: Tensor, mask: Tensor) -> Tensor:
    """Mean 0 and variance 1 over the masked entries of the whole batch; 0 elsewhere.

    Entries that are all alike become 0: a batch without any difference teaches nothing. One sequence alone has nothing to be
    compared with and stays as it is.
    """
    if len(values) < 2:
        return torch.where(mask, values, 0)
    centred = torch.where(mask, values - masked_mean(values, mask), 0)
    return centred * (masked_mean(centred**2, mask) + 1e-8).rsqrt()


def shaped_scores(scores: Tensor, ended: Tensor, *, mean: float, std: float, clip: float, missing_eos_penalty: float) -> Tensor:
    """(B,) scores in standard deviations of the champion's, clipped (PPO-max, arXiv:2307.04964), less the penalty without EOS."""
    normal = ((scores - mean) / max(std, 1e-6)).clamp(-clip, clip)
    return normal - missing_eos_penalty * (~ended).to(normal.dtype)


def length_slope(scores: Tensor, lengths: Tensor) -> float:
    """By how much (B,) scores rise with each token of (B,) lengths: least squares, 0 where all are of one length.

    A score less that is free of length, as the quality head of ODIN is (arXiv:2402.07319), for a model that has one head.
    """
    centred = lengths.float() - lengths.float().mean()
    variance = (centred**2).sum().item()
    return (centred * (scores - scores.mean())).sum().item() / variance if variance > 0 else 0.0


def length_ramp(lengths: Tensor, budget: int) -> Tensor:
    """(B,) 0 up to 80 % of the token budget, from there evenly up to 1 at its end (DAPO, arXiv:2503.14476, eq. 13)."""
    return ((lengths.float() / budget - (1 - _RAMP)) / _RAMP).clamp(0, 1)


def token_rewards(scores: Tensor, logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor, *, kl_coef: float) -> Tensor:
    """(B, T) reward of each token: -kl_coef·(logprob - ref_logprob), the k1 estimate of the KL, and on the last the score (B,).

    In the reward, k1 gives the gradient of the reverse KL; k3 there or in the loss does not (arXiv:2510.01555).
    """
    rewards = torch.where(mask, -kl_coef * (logprobs - ref_logprobs), 0)
    last = (mask.sum(1) - 1).clamp(min=0)[:, None]
    return rewards.scatter_add(1, last, (scores * mask.any(1))[:, None])


def gae(rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float, lam: float) -> Tensor:
    """Generalised advantage estimates (Schulman et al. 2015, arXiv:1506.02438, eq. 16); the value after the last token is 0."""
    advantages = torch.zeros_like(rewards)
    running = torch.zeros_like(rewards[:, 0])
    next_value = torch.zeros_like(running)
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        running = torch.where(mask[:, t], delta + gamma * lam * running, 0)
        next_value = torch.where(mask[:, t], values[:, t], 0)
        advantages[:, t] = running
    return advantages


def leave_one_out(rewards: Tensor, samples_per_prompt: int) -> Tensor:
    """(B,) each sequence's reward less the mean of its prompt's other samples (RLOO, arXiv:2402.14740).

    Samples of one prompt stand side by side. Raises ValueError unless there are at least two of each.
    """
    if samples_per_prompt < 2 or len(rewards) % samples_per_prompt:
        raise ValueError(f"{len(rewards)} samples, {samples_per_prompt} a prompt: leaving one out needs two or more of each")
    groups = rewards.view(-1, samples_per_prompt)
    others = (groups.sum(1, keepdim=True) - groups) / (samples_per_prompt - 1)
    return (groups - others).view(-1)


def importance_weights(logprobs: Tensor, sampler_logprobs: Tensor, *, cap: float) -> Tensor:
    """min(exp(logprob - sampler's), cap) of each token, detached: corrects for an engine that computes a little differently."""
    return (logprobs - sampler_logprobs).exp().clamp(max=cap).detach()


def ppo_policy_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    clip_range: float,
    dual_clip: float,
    weights: Tensor | None = None,
) -> tuple[Tensor, dict[str, float]]:
    """Clipped surrogate loss (arXiv:1707.06347, eq. 7) with the dual clip of arXiv:1912.09729, eq. 5.

    Where the advantage is negative the loss of a token is at most ``dual_clip`` times its size, however far the ratio has
    gone. ``weights`` (B, T) multiply each token's loss. Returns the mean over the mask, and metrics: the shares of tokens
    held back by the clip and by the dual clip, and the approximate KL to the old policy (k3, nats a token).
    """
    advantages = torch.where(mask, advantages, 0)
    log_ratio = torch.where(mask, logprobs, 0) - torch.where(mask, old_logprobs, 0)
    ratio = log_ratio.exp()
    plain, clipped = -advantages * ratio, -advantages * ratio.clamp(1 - clip_range, 1 + clip_range)
    pessimistic = torch.maximum(plain, clipped)
    bound = torch.where(advantages < 0, -advantages * dual_clip, torch.inf)
    losses = torch.minimum(pessimistic, bound)
    loss = masked_mean(losses if weights is None else losses * weights, mask)
    with torch.no_grad():
        told = ((clipped > plain).float(), (pessimistic > bound).float(), ratio - 1 - log_ratio)
        metrics = {name: masked_mean(values, mask).item() for name, values in zip(LOSS_METRICS, told, strict=True)}
    return loss, metrics


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, *, value_clip: float) -> Tensor:
    """Half the squared error, and no less than with the value held within ``value_clip`` of its old one (OpenAI baselines)."""
    held = old_values + (values - old_values).clamp(-value_clip, value_clip)
    return 0.5 * masked_mean(torch.maximum((values - returns) ** 2, (held - returns) ** 2), mask)


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> float:
    """1 - Var(returns - values) / Var(returns) over the mask; 0 when the returns do not vary."""
    variance = returns[mask].var(correction=0).item()
    return 1 - (returns - values)[mask].var(correction=0).item() / variance if variance > 1e-12 else 0.0


def next_kl_coef(kl_coef: float, kl: float, *, target: float, samples: int) -> float:
    """The coefficient after a batch with a mean KL of ``kl`` nats a sequence (Ziegler et al., arXiv:1909.08593, sec. 2.2)."""
    error = min(0.2, max(-0.2, kl / target - 1))
    return kl_coef * (1 + error * samples / 10_000)
