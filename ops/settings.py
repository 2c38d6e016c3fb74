"""Every setting of every process. Flags > environment (``PLAUDIT_…``, nested with ``__``) > ``.env`` > ``plaudit.toml`` > preset.

For example ``PLAUDIT_PORT=9000``, ``PLAUDIT_TRAIN__MIN_NEW_VOTES=64``, or in ``plaudit.toml``::

    port = 9000
    [train]
    min_new_votes = 64
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from difflib import get_close_matches
from pathlib import Path
from tomllib import TOMLDecodeError
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from ops.errors import SettingsError
from ops.presets import PRESETS
from ops.projects import PROJECT_NAME

__all__ = ["Settings", "SettingsError", "load_settings"]

_LONGEST_SOCKET_PATH = 100
"""Linux refuses Unix socket paths from 108 bytes on."""

DEFAULT_MODEL = "smollm2"

VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _vllm_rank(rank: int) -> int:
    if rank not in VLLM_RANKS:
        raise ValueError(f"vLLM takes one of {', '.join(map(str, VLLM_RANKS))}")
    return rank


class SamplingSettings(_Group):
    """What a request gets that names nothing itself."""

    temperature: float = Field(default=0.3, ge=0, le=2, description="For a single answer.")
    pair_temperature: float = Field(default=0.7, ge=0, le=2, description="For answers shown side by side.")
    max_tokens: int = Field(default=256, ge=1, le=8192)


class EngineSettings(_Group):
    """The vLLM child process."""

    max_loras: int = Field(default=6, ge=2, le=64, description="Adapters in one batch (--max-loras).")
    max_cpu_loras: int = Field(default=16, ge=4, le=256, description="Adapters held, live and draining ones included.")
    max_lora_rank: int = Field(default=16, description="--max-lora-rank.")
    max_model_len: int | None = Field(default=None, ge=32, description="Context in tokens; None: at most 2048.")
    kv_cache_gb: int = Field(default=1, ge=1, description="VLLM_CPU_KVCACHE_SPACE, in GiB; CPU only.")
    start_timeout_s: float = Field(default=300, gt=0)
    probe_interval_s: float = Field(default=5, gt=0, description="Between two one-token readiness probes.")
    probe_timeout_s: float = Field(default=20, gt=0, description="A probe without an answer by then: the engine is deaf.")
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
    """Reward model and judge: base + LoRA + linear head on mean-pooled response states."""

    learning_rate: float = Field(default=1e-3, gt=0)
    epochs: int = Field(default=6, ge=1)
    batch_size: int = Field(default=16, ge=1)
    thumb_weight: float = Field(default=0.5, ge=0, description="Of a thumb, or an application's figure, beside a pair's 1.")
    rank_weight: float = Field(default=0.3, ge=0, description="Of a ranking.")
    flag_weight: float = Field(default=2.0, ge=0, description="Of a harmful-content flag.")
    score_penalty: float = Field(default=0.01, ge=0, description="Weight of (s_a + s_b)^2, which centres the scores.")
    replay: int = Field(default=400, ge=0, description="At most so many older examples beside the new ones.")
    judge_share: float = Field(default=1 / 3, gt=0, lt=1, description="Share of the raters whom only the judge sees.")


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
    stop_kl: float = Field(default=0.02, gt=0, description="Approximate KL to the rollout policy that ends an update early.")
    missing_eos_penalty: float = Field(default=1.0, ge=0)
    reward_clip: float = Field(default=5.0, gt=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    importance_cap: float = Field(default=2.0, ge=1, description="Cap of the engine-mismatch weight.")


class GateSettings(_Group):
    prompts: int = Field(default=1024, ge=1, description="Prompts for the judge's comparison.")
    min_win_rate: float = Field(default=0.5, ge=0, le=1, description="The Wilson lower bound must exceed it.")
    max_kl_champion: float = Field(default=10.0, gt=0, description="Nats a sequence.")
    max_kl_base: float = Field(default=25.0, gt=0)
    min_length_ratio: float = Field(default=0.5, gt=0, description="Median answer length over the champion's.")
    max_length_ratio: float = Field(default=1.25, gt=0)
    min_well_formed_ratio: float = Field(default=0.95, gt=0, le=1, description="Share of well-formed answers, over it.")


class TrainSettings(_Group):
    algorithm: Literal["ppo", "rloo"] = "ppo"
    min_new_votes: int = Field(default=32, ge=1, description="New joined votes that start a cycle.")
    poll_s: float = Field(default=1.0, gt=0)
    orphan_hours: float = Field(default=24, gt=0, description="How long feedback waits for its completion.")
    lora_rank: int = Field(default=16)
    lora_alpha: int = Field(default=32, ge=1)
    threads: int | None = Field(default=None, ge=1, description="CPU threads; None: PyTorch's own choice.")
    nice: int = Field(default=10, ge=0, le=19, description="Process priority: 19 is the most polite.")
    rollouts: Literal["engine", "local"] = Field(default="engine", description="Who generates; 'engine' falls back on 'local'.")
    reward: RewardSettings = RewardSettings()
    ppo: PpoSettings = PpoSettings()
    gates: GateSettings = GateSettings()

    @field_validator("lora_rank")
    @classmethod
    def _rank_is_one_of_vllms(cls, rank: int) -> int:
        return _vllm_rank(rank)


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


class _Toml(TomlConfigSettingsSource):
    """``plaudit.toml``, in which a name that is no setting is a mistake."""

    def __call__(self) -> dict[str, Any]:
        values = super().__call__()
        for name in values:
            if name not in self.settings_cls.model_fields:
                raise SettingsError(_no_such(name, [name]))
        return values


class _Preset(PydanticBaseSettingsSource):
    """The weakest source: numbers for the model that the other sources name."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return self().get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        return PRESETS.get(str(self.current_state.get("model", DEFAULT_MODEL)), {})


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="PLAUDIT_", env_nested_delimiter="__", env_file=".env", toml_file="plaudit.toml", extra="ignore", frozen=True
    )

    data_dir: Path = Field(default=Path(".plaudit"), description="Everything Plaudit keeps: log, keys, models, adapters.")
    model: str = Field(default=DEFAULT_MODEL, description="'smollm2', 'starter', a Hugging Face id, or a path.")
    model_cache: Path | None = Field(default=None, description="Where prepared models are kept; None: in the data folder.")
    project: str = Field(default="default", pattern=f"^{PROJECT_NAME}$")
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535, description="The gateway.")
    page: Literal["auto", "on", "off"] = Field(default="auto", description="Chat page without a key; auto: on loopback only.")
    admin_host: str = "127.0.0.1"
    admin_port: int | None = Field(default=None, ge=1, le=65535, description="Where admin routes are; None: nowhere.")
    workers: int = Field(default=1, ge=1, le=64, description="Processes of the gateway, on one port.")
    engine_urls: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Engines run elsewhere, with commas between; empty: one of our own."
    )
    engine_url: str | None = Field(default=None, description="The same for a single engine.")
    engine_api_key: SecretStr | None = Field(default=None, description="Bearer token for engines that want one.")
    log_backend: Literal["sqlite", "kafka"] = "sqlite"
    kafka_bootstrap_servers: str = "127.0.0.1:9092"
    kafka_topic_prefix: str = "plaudit"
    database_url: SecretStr | None = Field(
        default=None, description="postgresql://user:password@host/name, for keys and projects; None: a file in the data folder."
    )
    secret: SecretStr | None = Field(
        default=None, description="Seals receipts and hashes users; None: made once, kept in the data folder."
    )
    text_key: SecretStr | None = Field(
        default=None, description="Wraps the keys that users' texts are sealed with; None: one derived from the secret."
    )
    text_keys_previous: SecretStr | None = Field(
        default=None, description="Older ones, with commas between, until 'plaudit keys rotate-text' has been run."
    )
    redact: Literal["off", "patterns", "presidio"] = Field(
        default="off",
        description="What is taken out of texts before they are kept: feedback/redact.py's, or Presidio's too.",
    )
    metrics_host: str = Field(default="127.0.0.1", description="Where trainer and controller answer /metrics.")
    metrics_port_trainer: int = Field(default=9101, ge=0, le=65535)
    metrics_port_controller: int = Field(default=9102, ge=0, le=65535)
    seed: int = Field(default=0, ge=0)
    sampling: SamplingSettings = SamplingSettings()
    engine: EngineSettings = EngineSettings()
    limits: LimitSettings = LimitSettings()
    train: TrainSettings = TrainSettings()
    rollout: RolloutSettings = RolloutSettings()
    retention: RetentionSettings = RetentionSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, dotenv_settings, _Toml(settings_cls), _Preset(settings_cls)

    @model_validator(mode="before")
    @classmethod
    def _one_engine_is_a_list_of_one(cls, values: dict[str, Any]) -> dict[str, Any]:
        one = values.get("engine_url")
        return values | {"engine_urls": (one,)} if one and not values.get("engine_urls") else values

    @field_validator("database_url", mode="before")
    @classmethod
    def _nothing_is_no_database(cls, value: Any) -> Any:
        return value or None

    @field_validator("engine_urls", mode="before")
    @classmethod
    def _split_at_commas(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return json.loads(value) if value.startswith("[") else [url.strip() for url in value.split(",") if url.strip()]

    @field_validator("engine_urls")
    @classmethod
    def _engines_have_addresses(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            if not url.startswith(("http://", "https://", "unix:/")):
                raise ValueError(f"{url!r} is no address of an engine: write http://host:port or unix:/path/to/socket")
        return urls

    @model_validator(mode="after")
    def _parts_fit(self) -> Settings:
        """What is wrong only in company. Raises ValueError that names both settings and the fix."""
        train, largest = self.train, self.engine.max_lora_rank
        if train.lora_rank > largest:
            raise ValueError(
                f"train.lora_rank={train.lora_rank}: the engine takes at most engine.max_lora_rank={largest}. "
                "Set PLAUDIT_ENGINE__MAX_LORA_RANK as high, or PLAUDIT_TRAIN__LORA_RANK lower"
            )
        scheme = "postgresql:" if self.database_url is None else self.database_url.get_secret_value().partition("//")[0]
        if scheme not in ("postgresql:", "postgresql+psycopg:"):
            # not a field's own validator: the message would show the value, and with it the password
            raise ValueError("database_url: it is no postgresql://user:password@host:5432/name. Set PLAUDIT_DATABASE_URL to one")
        if self.admin_port == self.port:
            raise ValueError(f"admin_port={self.admin_port}: it is the gateway's own port. Set PLAUDIT_ADMIN_PORT to another")
        if train.algorithm == "rloo" and train.ppo.samples_per_prompt < 2:
            raise ValueError(
                f"train.ppo.samples_per_prompt={train.ppo.samples_per_prompt}: train.algorithm='rloo' compares the answers to a "
                "prompt. Set PLAUDIT_TRAIN__PPO__SAMPLES_PER_PROMPT to 2 or more"
            )
        kept, rated, receipts = self.retention.completions_days, self.retention.feedback_days, self.limits.receipt_days
        if kept is not None and (rated is None or kept < rated + receipts):
            fix = f"to at most {kept - receipts:g}" if kept > receipts else "and raise this one above limits.receipt_days"
            raise ValueError(
                f"retention.completions_days={kept:g}: feedback, which comes until limits.receipt_days={receipts:g} after, would "
                f"outlive it. Set PLAUDIT_RETENTION__FEEDBACK_DAYS {fix}"
            )
        return self

    @property
    def run_dir(self) -> Path:
        """Sockets, process ids and log files."""
        return self.data_dir / "run"

    @property
    def adapters_dir(self) -> Path:
        return self.data_dir / "adapters"

    @property
    def models_dir(self) -> Path:
        return self.model_cache or self.data_dir / "models"

    @property
    def trainer_dir(self) -> Path:
        return self.data_dir / "trainer" / self.project

    @property
    def log_path(self) -> Path:
        return self.data_dir / "log.db"

    @property
    def database_path(self) -> Path:
        return self.data_dir / "plaudit.db"

    @property
    def engine_socket(self) -> Path:
        path = self.run_dir.absolute() / "engine.sock"
        if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
            return path
        digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"plaudit-{os.getuid()}-{digest}.sock"

    @property
    def engines(self) -> tuple[str, ...]:
        """Where the engines listen: ``http://host:port`` or ``unix:/path/to/socket``."""
        return self.engine_urls or (f"unix:{self.engine_socket}",)


def load_settings(**flags: Any) -> Settings:
    """Settings from all sources; ``flags`` that are None were not given. Raises `SettingsError`, one line a field."""
    _check_environment()
    try:
        return Settings(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(e) for e in error.errors())) from error
    except SettingsError:
        raise
    except TOMLDecodeError as error:
        raise SettingsError(f"plaudit.toml is no TOML: {error}") from error
    except ValueError as error:
        raise SettingsError(f"settings: {error}") from error


def _check_environment() -> None:
    """Raise `SettingsError` for a variable that is nearly a setting; other ``PLAUDIT_…`` ones are others' business."""
    for variable in os.environ:
        name = variable.removeprefix("PLAUDIT_").lower().split("__")[0]
        if variable.startswith("PLAUDIT_") and name not in Settings.model_fields and _meant([name]):
            raise SettingsError(_no_such(variable, [name]))


def _no_such(name: str, path: list[str]) -> str:
    return f"{name}: there is no such setting{_meant(path)}; they are all in ops/settings.py."


def _meant(path: list[str]) -> str:
    """The setting whose name is nearest to one that does not exist, as a question; nothing where none is near."""
    group: Any = Settings
    for part in path[:-1]:
        group = group.model_fields[part].annotation if part in getattr(group, "model_fields", {}) else None
    near = get_close_matches(path[-1], getattr(group, "model_fields", {}), 1, 0.8)
    return f"; did you mean {'.'.join([*path[:-1], near[0]])}?" if near else ""


def _explain(error: Any) -> str:
    path = [str(part) for part in error["loc"]]
    if error["type"] == "extra_forbidden":
        return _no_such(".".join(path), path)
    if not path:  # of several fields together: the message names them
        return str(error["msg"]).removeprefix("Value error, ") + "."
    variable = "PLAUDIT_" + "__".join(part.upper() for part in path)
    return f"{'.'.join(path)}={error['input']!r}: {error['msg']}. Set {variable}, or {'.'.join(path)} in plaudit.toml."
