"""The settings in groups, each a part of Plaudit: ``PLAUDIT_TRAIN__NICE=19``, or ``[train]`` in ``plaudit.toml``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import NoneType
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from ops.hours import parse_hours

VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)

METRIC = re.compile(r"[a-z][a-z0-9_]{0,39}")
"""Of a score, see `feedback.events.Score`."""

MOST_GOALS, MOST_WEIGHT = 8, 10.0


def with_none(model: type[BaseModel], values: Any) -> Any:
    """``none`` for what may be without a value: neither the environment nor TOML has a word of its own for it."""
    if not isinstance(values, Mapping):
        return values
    may = {name for name, field in model.model_fields.items() if NoneType in get_args(field.annotation)}
    return {n: None if n in may and isinstance(v, str) and v.strip().lower() == "none" else v for n, v in values.items()}


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _without(cls, values: Any) -> Any:
        return with_none(cls, values)


def _vllm_rank(rank: int) -> int:
    if rank not in VLLM_RANKS:
        raise ValueError(f"vLLM takes one of {', '.join(map(str, VLLM_RANKS))}")
    return rank


class SamplingSettings(_Group):
    """What a request gets that names nothing itself."""

    temperature: float = Field(default=0.3, ge=0, le=2, description="For a single answer.")
    pair_temperature: float = Field(default=0.7, ge=0, le=2, description="For answers shown side by side.")
    max_tokens: int = Field(default=256, ge=1, le=8192, description="Of an answer; as long are those that the gates look at.")


class EngineSettings(_Group):
    """The vLLM child process."""

    max_loras: int = Field(default=6, ge=2, le=64, description="Adapters in one batch (--max-loras).")
    max_cpu_loras: int = Field(default=16, ge=4, le=256, description="Adapters held, live and draining ones included.")
    max_lora_rank: int = Field(default=16, description="--max-lora-rank.")
    max_model_len: int | None = Field(default=None, ge=32, description="Context in tokens; None: at most 2048.")
    kv_cache_gb: int = Field(default=1, ge=1, description="VLLM_CPU_KVCACHE_SPACE, in GiB; CPU only.")
    threads: int | None = Field(
        default=None, ge=1, description="CPU only; None: OMP_NUM_THREADS, and without it as many as there are CPUs but one."
    )
    start_timeout_s: float = Field(default=300, gt=0)
    probe_interval_s: float = Field(default=5, gt=0, description="Between two one-token readiness probes.")
    probe_timeout_s: float = Field(default=20, gt=0, description="Two probes in a row unanswered by then: the engine is deaf.")
    tool_call_parser: str = Field(default="hermes", description="vLLM's parser of the model's tool calls.")
    null_adapter: Literal["auto", "on", "off"] = Field(
        default="auto", description="The base as an adapter of zeros, which CPU engines need; auto: engines of this machine."
    )
    extra_args: tuple[str, ...] = Field(default=(), description="More flags for vLLM, as on its command line.")

    @field_validator("max_lora_rank")
    @classmethod
    def _rank_is_one_of_vllms(cls, rank: int) -> int:
        return _vllm_rank(rank)


class LimitSettings(_Group):
    max_body_bytes: int = Field(default=256 * 1024, ge=1024)
    max_n: int = Field(default=4, ge=1, le=16)
    max_messages: int = Field(default=256, ge=1)
    max_tokens: int = Field(default=4096, ge=1, description="The longest answer a request may ask for.")
    max_depth: int = Field(default=32, ge=4, le=100, description="Lists and objects inside each other in a request's body.")
    max_schema_bytes: int = Field(default=32 * 1024, ge=256, description="JSON Schemas of a request: tools', or its format's.")
    max_connections: int = Field(default=2048, ge=1, description="Open connections a worker takes; more are told to come back.")
    header_timeout_s: float = Field(default=10, gt=0, description="A request's headers must have arrived by then.")
    body_timeout_s: float = Field(default=20, gt=0, description="A request's body must have arrived by then.")
    send_timeout_s: float = Field(default=30, gt=0, description="A client that reads nothing for so long is hung up on.")
    request_timeout_s: float = Field(default=120, gt=0, description="One chat request, from first byte to last.")
    drain_s: float = Field(default=25, gt=0, description="How long running answers may take once the gateway is told to stop.")
    engine_wait_s: float = Field(default=60, ge=0, description="How long a request waits for an engine that is being restarted.")
    receipt_days: float = Field(default=30, gt=0, description="How long a receipt lets its holder rate.")
    capture_mb: int = Field(default=64, ge=1, description="Memory for completion events while the log is down.")
    redis_url: SecretStr | None = Field(
        default=None, description="redis://…: keys' limits are counted there, for several gateways; None: on this machine."
    )


class RewardSettings(_Group):
    """Reward model and judge: base + LoRA + linear heads on mean-pooled response states."""

    trunk: Literal["adapter", "frozen"] = Field(
        default="adapter",
        description="What the heads read: base + LoRA, which learns too; or the base alone, at two depths: minutes, not hours.",
    )
    learning_rate: float = Field(default=1e-3, gt=0)
    epochs: int = Field(default=2, ge=1, description="Of the adapter: the heads have learnt before, on frozen states.")
    batch_size: int = Field(default=16, ge=1)
    thumb_weight: float = Field(default=0.5, ge=0, description="Of a thumb, or an application's figure, beside a pair's 1.")
    rank_weight: float = Field(default=0.3, ge=0, description="Of a ranking.")
    flag_weight: float = Field(default=2.0, ge=0, description="Of a harmful-content flag.")
    score_penalty: float = Field(default=0.01, ge=0, description="Weight of (s_a + s_b)^2, which centres the scores.")
    replay: int = Field(
        default=400, ge=0, description="Older examples beside new ones: as many as these, but at least so many; 0: none."
    )
    judge_share: float = Field(default=1 / 3, gt=0, lt=1, description="Share of the raters whom only the judge sees.")
    goals: dict[str, float] = Field(
        default={},
        description="Style goals by a score's metric: what a standard deviation more of it is worth in PPO's and RLOO's reward, "
        "in nats of preference; below 0: less is wanted, 0: only measured. The gates ask for preferences alone: no goal buys "
        "what people dislike.",
    )

    @field_validator("goals")
    @classmethod
    def _goals_are_metrics_with_weights(cls, goals: dict[str, float]) -> dict[str, float]:
        if len(goals) > MOST_GOALS:
            raise ValueError(f"at most {MOST_GOALS} goals, here are {len(goals)}")
        for metric, weight in goals.items():
            if not METRIC.fullmatch(metric):
                raise ValueError(f"{metric!r} is no score's metric: a to z first, then a to z, 0 to 9 and _, at most 40 in all")
            if not abs(weight) <= MOST_WEIGHT:  # and NaN
                raise ValueError(f"the weight of {metric!r} is {weight}: it takes one from {-MOST_WEIGHT:g} to {MOST_WEIGHT:g}")
        return goals


class PpoSettings(_Group):
    steps: int = Field(default=12, ge=1, description="Rollout batches.")
    time_budget_s: float = Field(default=600, gt=0, description="Stop after the step in which this is reached.")
    prompts_per_step: int = Field(default=8, ge=1)
    samples_per_prompt: int = Field(default=4, ge=1)
    max_new_tokens: int = Field(default=64, ge=1)
    learning_rate: float = Field(default=3e-4, gt=0)
    value_learning_rate: float = Field(default=3e-4, gt=0)
    value_warmup_steps: int = Field(default=10, ge=0, description="Critic-only steps after each new reward model.")
    epochs: int = Field(default=2, ge=1)
    minibatches: int = Field(default=4, ge=1)
    clip_range: float = Field(default=0.2, gt=0)
    dual_clip: float = Field(default=3.0, gt=1)
    value_clip: float = Field(default=0.2, gt=0)
    gamma: float = Field(default=1.0, gt=0, le=1)
    lam: float = Field(default=0.95, ge=0, le=1, description="GAE lambda of the policy; the critic uses 1.")
    kl_coef: float = Field(default=0.05, ge=0)
    kl_target: float | None = Field(default=6.0, description="Nats a sequence for adaptive KL; None: kl_coef stays fixed.")
    kl_reference: Literal["champion", "base"] = "base"
    unlikely_coef: float = Field(
        default=0.0,
        ge=0,
        description="Of the nats a token that it costs to give anything to what the base holds unlikely; 0: none.",
    )
    min_p: float = Field(
        default=0.05, gt=0, le=1, description="A token is unlikely that is less likely than so, times the base's likeliest one."
    )
    sharp_kl_coef: float = Field(
        default=0.0, ge=0, description="Of the KL to the base where it is sure of the next token; 0: none."
    )
    sharp_temperature: float = Field(
        default=0.7, gt=0, le=1, description="The base is sharpened to it: below 1, likelier tokens."
    )
    sharp_entropy: float = Field(default=1.9, gt=0, description="Nats; above it the base is not sure: manners are chosen freely.")
    stop_kl: float = Field(default=0.02, gt=0, description="Approximate KL to the rollout policy that ends an update early.")
    max_kl: float | None = Field(
        default=25.0, gt=0, description="Nats a sequence to the reference that end the training; None: none."
    )
    missing_eos_penalty: float = Field(default=1.0, ge=0)
    length_residual: bool = Field(default=False, description="Take out of the reward what length alone says in the first batch.")
    length_penalty: float = Field(default=0.0, ge=0, description="Of an answer of max_new_tokens; none up to 80 % of them.")
    reward_clip: float = Field(default=5.0, gt=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    importance_cap: float = Field(default=2.0, ge=1, description="Cap of the engine-mismatch weight.")


class _OfflineSettings(_Group):
    """What TRL's trainers have in common: they learn from the votes' own answers and sample none."""

    learning_rate: float = Field(default=1e-3, gt=0)
    epochs: int = Field(default=2, ge=1)
    batch_size: int = Field(default=8, ge=2)
    time_budget_s: float = Field(default=600, gt=0, description="Stop after the step in which this is reached.")


class DpoSettings(_OfflineSettings):
    """Direct preference optimisation (arXiv:2305.18290): from pairs."""

    learning_rate: float = Field(default=3e-4, gt=0)
    epochs: int = Field(default=3, ge=1)
    beta: float = Field(default=0.5, gt=0, description="How dear it is to leave the reference.")
    reference: Literal["champion", "base"] = "champion"


class KtoSettings(_OfflineSettings):
    """Kahneman-Tversky optimisation (arXiv:2402.01306): from single answers, good or not."""

    learning_rate: float = Field(default=3e-4, gt=0)
    beta: float = Field(default=0.5, gt=0, description="How dear it is to leave the reference.")
    reference: Literal["champion", "base"] = "champion"


class SftSettings(_OfflineSettings):
    """Supervised learning of corrections and of answers that people like."""


class GateSettings(_Group):
    prompts: int = Field(default=1024, ge=1, description="Prompts for the judge's comparison.")
    min_win_rate: float = Field(default=0.5, ge=0, le=1, description="The Wilson lower bound must exceed it.")
    max_kl_champion: float = Field(default=10.0, gt=0, description="Nats a sequence.")
    max_kl_base: float = Field(default=25.0, gt=0)
    min_length_ratio: float = Field(default=0.5, gt=0, description="Median answer length over the champion's.")
    max_length_ratio: float = Field(
        default=1.25, gt=0, description="Of the champion's median length; the base's is never too long."
    )
    min_well_formed_ratio: float = Field(default=0.95, gt=0, le=1, description="Share of well-formed answers, over it.")
    min_judge_share: float = Field(default=0.25, ge=0, le=1, description="Of the reward model's lead, seen by the judge too.")
    max_ended_loss: float = Field(default=0.01, ge=0, le=1, description="Of the share of answers that end by themselves.")
    min_distinct_ratio: float = Field(default=0.5, gt=0, description="Distinct pairs of words, over the champion's.")
    max_sameness_rise: float = Field(default=0.05, ge=0, le=1, description="Chance that two prompts get the same answer.")
    max_refusal_rise: float = Field(default=0.05, ge=0, le=1)
    max_toxicity_rise: float = Field(default=0.02, ge=0, le=1)
    max_sycophancy_rise: float = Field(default=0.05, ge=0, le=1, description="Share of users' false claims taken over.")
    max_anchor_rise: float = Field(default=0.03, ge=0, description="Perplexity on texts that no feedback is about.")
    max_logprob_difference: float = Field(default=0.02, gt=0, description="Mean |engine - trainer|, nats a token, float32.")
    max_logprob_difference_bf16: float = Field(default=0.05, gt=0, description="The same for a base of less precision.")
    max_accuracy_loss: float = Field(default=0.01, ge=0, le=1, description="Of the reward model's, since the last one.")
    max_calibration_error: float = Field(
        default=0.05, ge=0, le=1, description="Beyond what chance alone shows of so many votes, and its standard error."
    )
    max_length_bias: float = Field(
        default=0.1, ge=0, le=2, description="Correlation with length beyond that of what people said."
    )
    min_golden: float = Field(default=0.9, ge=0, le=1, description="Share of golden items that the reward model gets right.")


class TrainSettings(_Group):
    algorithm: Literal["ppo", "rloo", "dpo", "kto", "sft"] = Field(
        default="ppo", description="ppo and rloo sample and are rewarded; dpo, kto and sft learn from the votes' own answers."
    )
    min_new_votes: int = Field(default=32, ge=1, description="With fewer new joined votes no cycle begins, whatever else is new.")
    min_effective_labels: float = Field(
        default=256, ge=1, description="New votes that start a cycle, each counted by what it can teach (trainer/effective.py)."
    )
    max_nll_rise: float | None = Field(
        default=0.05, ge=0, description="New votes this much harder to foretell than held-out ones start a cycle; None: never."
    )
    retrain_on_promotion: bool = Field(default=True, description="A new champion starts a cycle with min_new_votes alone.")
    hours: str = Field(default="", description="Cycles begin then only, local time: '22-6'; one that runs goes on to its end.")
    memory_mb: int | None = Field(
        default=None, ge=1, description="Of the trainer's process; a cycle that needs more is given up. None: no limit. Linux."
    )
    poll_s: float = Field(default=1.0, gt=0)
    orphan_hours: float = Field(default=24, gt=0, description="How long feedback waits for its completion.")
    lora_rank: int = Field(default=16)
    lora_alpha: int = Field(default=32, ge=1)
    threads: int | None = Field(default=None, ge=1, description="CPU threads; None: PyTorch's own choice.")
    nice: int = Field(default=10, ge=0, le=19, description="Process priority: 19 is the most polite.")
    rollouts: Literal["engine", "local"] = Field(
        default="engine", description="Who generates; 'engine' falls back on 'local', which asks no engine."
    )
    keep_every: int = Field(
        default=5, ge=0, description="PPO steps after which a cycle's state is kept; 0: never within a cycle."
    )
    interpolation: float = Field(
        default=1.0, gt=0, le=1, description="Of what a training has changed so much is kept (WARP's eta, trainer/soften.py)."
    )
    soften_to: float | None = Field(
        default=0.8,
        gt=0,
        le=1,
        description="What uses up more than this share of gates.max_anchor_rise is weakened until it does not; None: never.",
    )
    tracker: Literal["", "tensorboard", "mlflow", "trackio", "wandb"] = Field(default="", description="Who is told the curves.")
    reward: RewardSettings = RewardSettings()
    ppo: PpoSettings = PpoSettings()
    dpo: DpoSettings = DpoSettings()
    kto: KtoSettings = KtoSettings()
    sft: SftSettings = SftSettings()
    gates: GateSettings = GateSettings()

    @field_validator("lora_rank")
    @classmethod
    def _rank_is_one_of_vllms(cls, rank: int) -> int:
        return _vllm_rank(rank)

    @field_validator("hours")
    @classmethod
    def _hours_are_two_times(cls, hours: str) -> str:
        if hours:
            parse_hours(hours)
        return hours


class RetentionSettings(_Group):
    """Days that the log keeps each topic's events; None: for ever. The control topic is the deployment itself: it stays."""

    completions_days: float | None = Field(default=None, gt=0)
    feedback_days: float | None = Field(default=None, gt=0)
    dead_letter_days: float | None = Field(default=None, gt=0)


class RolloutStep(_Group):
    state: Literal["CANARY", "RAMP"]
    coverage: float = Field(gt=0, le=1)
    min_users: int = Field(ge=0, description="Analysed users per arm before the step is left.")
    min_seconds: float = Field(ge=0)


class RolloutSettings(_Group):
    """The rollout controller: error levels hold whatever the numbers."""

    poll_s: float = Field(default=5, gt=0)
    alpha: float = Field(default=0.05, gt=0, lt=1, description="False promotions, over all rollouts of a project.")
    rollback_alpha: float = Field(default=0.01, gt=0, lt=1, description="False rollbacks per rollout.")
    srm_limit: float = Field(default=1000, gt=1, description="E-value of a sample-ratio mismatch that holds a rollout.")
    duel_margin: float = Field(default=0.02, ge=0, lt=0.5)
    guardrail_ratio: float = Field(default=1.10, gt=1, description="theta0 of the guardrails' non-inferiority.")
    guardrail_evidence: float = Field(default=20, gt=1)
    guardrails: tuple[Literal["thumbs_down", "error", "duel"], ...] = Field(
        default=("thumbs_down", "error", "duel"),
        description="What rolls back: more thumbs down, more errors, people preferring the champion.",
    )
    non_inferior: tuple[Literal["duel", "thumbs_down"], ...] = ("duel", "thumbs_down")
    expire_days: float = Field(default=14, gt=0)
    steps: tuple[RolloutStep, ...] = Field(
        min_length=1,
        default=(
            RolloutStep(state="CANARY", coverage=0.02, min_users=20, min_seconds=3600),
            RolloutStep(state="RAMP", coverage=0.10, min_users=50, min_seconds=3600),
            RolloutStep(state="RAMP", coverage=0.20, min_users=50, min_seconds=3600),
            RolloutStep(state="RAMP", coverage=0.50, min_users=50, min_seconds=3600),
            RolloutStep(state="RAMP", coverage=1.00, min_users=50, min_seconds=3600),
        ),
    )
