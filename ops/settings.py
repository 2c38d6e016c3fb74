"""Every setting of every process. Flags > environment (``PLAUDIT_…``, nested with ``__``) > ``.env`` > ``plaudit.toml`` > preset.

For example ``PLAUDIT_PORT=9000``, ``PLAUDIT_TRAIN__MIN_EFFECTIVE_LABELS=64``, or in ``plaudit.toml``::

    port = 9000
    [train]
    min_effective_labels = 64
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from tomllib import TOMLDecodeError
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from ops.errors import SettingsError
from ops.projects import PROJECT_NAME
from ops.setting_groups import (
    VLLM_RANKS,
    EngineSettings,
    GateSettings,
    LimitSettings,
    PpoSettings,
    RetentionSettings,
    RewardSettings,
    RolloutSettings,
    RolloutStep,
    SamplingSettings,
    TrainSettings,
    with_none,
)
from ops.setting_sources import DEFAULT_MODEL, Preset, TomlFile, check_environment, explain, no_json

__all__ = [
    "VLLM_RANKS",
    "EngineSettings",
    "GateSettings",
    "LimitSettings",
    "PpoSettings",
    "RetentionSettings",
    "RewardSettings",
    "RolloutSettings",
    "RolloutStep",
    "SamplingSettings",
    "Settings",
    "SettingsError",
    "TrainSettings",
    "load_settings",
]

_LONGEST_SOCKET_PATH = 100
"""Linux refuses Unix socket paths from 108 bytes on."""


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
        return init_settings, env_settings, dotenv_settings, TomlFile(settings_cls), Preset(settings_cls)

    @model_validator(mode="before")
    @classmethod
    def _without(cls, values: Any) -> Any:
        return with_none(cls, values)

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
        if train.reward.goals and train.algorithm not in ("ppo", "rloo"):
            raise ValueError(
                f"train.reward.goals={train.reward.goals}: train.algorithm={train.algorithm!r} has no reward to add them to. Set "
                "PLAUDIT_TRAIN__ALGORITHM to ppo or rloo, or take the goals out"
            )
        kept, rated, receipts = self.retention.completions_days, self.retention.feedback_days, self.limits.receipt_days
        if kept is not None and (rated is None or kept < rated + receipts):
            feedback = "PLAUDIT_RETENTION__FEEDBACK_DAYS" + ("" if rated is None else f", now {rated:g},")
            fix = (
                f"Set {feedback} to at most {kept - receipts:g}"
                if kept > receipts
                else f"Set PLAUDIT_RETENTION__COMPLETIONS_DAYS above {receipts:g}, and {feedback} to at most the difference"
            )
            raise ValueError(
                f"retention.completions_days={kept:g}: feedback, which comes until limits.receipt_days={receipts:g} after, would "
                f"outlive it. {fix}"
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

    @property
    def engine_token(self) -> str | None:
        """What whoever asks an engine says that they may."""
        return None if self.engine_api_key is None else self.engine_api_key.get_secret_value()


def load_settings(**flags: Any) -> Settings:
    """Settings from all sources; ``flags`` that are None were not given. Raises `SettingsError`, one line a field."""
    check_environment(Settings, os.environ)
    try:
        return Settings(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        raise SettingsError("\n".join(explain(Settings, e) for e in error.errors())) from error
    except SettingsError:
        raise
    except TOMLDecodeError as error:
        raise SettingsError(f"plaudit.toml is no TOML: {error}") from error
    except ValueError as error:
        raise SettingsError(no_json(Settings, os.environ) or f"settings: {error}") from error
