"""Learning straight from the votes, without sampling or a reward: DPO, KTO and SFT by TRL's trainers on the adapter "policy".

TRL trains a copy of the model's modules over the very same base weights; what it has learnt is then in the adapter, in the form
in which reinforcement learning leaves it. Each lesson is there as often as it weighs, because TRL's losses take no weights.
"""

from __future__ import annotations

import math
import random
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from datasets import Dataset, disable_progress_bars
from peft import PeftModel
from transformers import PrinterCallback, TrainerCallback
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, SFTConfig, SFTTrainer

from feedback.dataset import Format, Row, dataset_of
from feedback.events import BASE
from feedback.join import Vote
from ops.settings import TrainSettings
from trainer.improve import Ended
from trainer.learner import POLICY, Metrics, NothingToLearn, TrainingDiverged
from trainer.policy import AdapterModel
from trainer.reward import LONGEST_ANSWER, LONGEST_PROMPT

Offline = Literal["dpo", "kto", "sft"]


_FORMATS: dict[Offline, Format] = {"dpo": "preference", "kto": "kto", "sft": "sft"}
_COLUMNS: dict[Offline, tuple[str, ...]] = {
    "dpo": ("prompt", "chosen", "rejected"),
    "kto": ("prompt", "completion", "label"),
    "sft": ("prompt", "completion"),
}
_TRAINERS: dict[Offline, Any] = {"dpo": (DPOTrainer, DPOConfig), "kto": (KTOTrainer, KTOConfig), "sft": (SFTTrainer, SFTConfig)}

_LEARNT_FROM = {
    "dpo": "preferences, rankings and corrections",
    "kto": "thumbs, preferences, rankings, corrections and flags",
    "sft": "corrections and answers that people like",
}

_TRLS_NAME = "default"
"""Of the adapter that TRL trains."""


def learn_offline(
    model: AdapterModel,
    votes: Sequence[Vote],
    weights: Mapping[str, float],
    *,
    algorithm: Offline,
    settings: TrainSettings,
    seed: int,
    on_step: Callable[[Metrics], None] = lambda metrics: None,
) -> tuple[list[Metrics], Ended]:
    """Train the adapter "policy" in place; the metrics of every optimizer step, and what ended them.

    ``weights`` (by feedback id) say what each vote weighs; one that is not there weighs nothing. The group of settings that is
    named like the algorithm holds. Ends after its epochs or when its time budget is spent. Raises `NothingToLearn` and
    `TrainingDiverged`.
    """
    options = getattr(settings, algorithm)
    rows = drawn(lessons(votes, algorithm), weights, seed)
    if not rows:
        raise NothingToLearn(f"{algorithm} learns from {_LEARNT_FROM[algorithm]}: the votes hold none")
    disable_progress_bars()
    teacher_class, config_class = _TRAINERS[algorithm]
    watch = _Watch(algorithm, options.time_budget_s, on_step)
    before = {} if algorithm == "sft" or options.reference != BASE else {"ref_model": model.twin()}
    with tempfile.TemporaryDirectory() as scratch, torch.random.fork_rng():
        student = _student(model)
        trainer = teacher_class(
            model=student,
            args=config_class(**_config(model, algorithm, options, len(rows), seed, scratch)),
            train_dataset=Dataset.from_list([{column: row[column] for column in _COLUMNS[algorithm]} for row in rows]),
            processing_class=model.tokenizer,
            callbacks=[watch],
            **before,
        )
        trainer.remove_callback(PrinterCallback)  # what a command prints is its own
        trainer.train()
    learnt = {key: student.get_parameter(_trls(key)).detach() for key in model.weights(POLICY)}
    for key, weight in learnt.items():
        if not weight.isfinite().all():
            raise TrainingDiverged(f"policy: {key} is not finite")
    for key, weight in model.weights(POLICY).items():
        weight.copy_(learnt[key])
    return watch.steps, "time" if watch.cut_short else "steps"


def lessons(votes: Sequence[Vote], algorithm: Offline) -> list[Row]:
    """The votes' rows in TRL's columns. An answer that was cut at its token limit is not taught as a whole one."""
    rows = []
    for vote in votes:
        cut = {completion.text.answer for completion in vote.completions if completion.finish_reason == "length"}
        for row in dataset_of(_FORMATS[algorithm], [vote]).rows:
            if algorithm == "sft":
                row = row | {"prompt": row["messages"][:-1], "completion": row["messages"][-1:]}
            liked = row["chosen"] if algorithm == "dpo" else row["completion"] if row.get("label", True) else []
            if not any(turn["content"] in cut for turn in liked):
                rows.append(row)
    return rows


def drawn(rows: Sequence[Row], weights: Mapping[str, float], seed: int) -> list[Row]:
    """The rows in a random order, each as often as its vote weighs: the whole part of the weight, and once more for the rest of
    it with its probability. The number of all is the sum of the weights, rounded (systematic sampling).
    """
    chance = random.Random(seed)
    shuffled = chance.sample(list(rows), len(rows))
    chosen, passed, mark = [], chance.random(), 1.0
    for row in shuffled:
        passed += weights.get(row["feedback_id"], 0.0)
        while passed >= mark:
            chosen.append(row)
            mark += 1
    return chance.sample(chosen, len(chosen))


def _student(model: AdapterModel) -> PeftModel:
    """A model of TRL's own with the policy's weights, over the base weights that are there already."""
    student = PeftModel(model.twin(), model.config(POLICY), adapter_name=_TRLS_NAME)
    for key, weight in model.weights(POLICY).items():
        student.get_parameter(_trls(key)).data.copy_(weight)
    return student


def _trls(key: str) -> str:
    return key.removesuffix("weight") + f"{_TRLS_NAME}.weight"


def _config(model: AdapterModel, algorithm: Offline, options: Any, rows: int, seed: int, scratch: str) -> dict[str, Any]:
    """TRL's arguments: nothing is written, printed or sent anywhere; a last batch of one row would have no KTO to learn from."""
    size = min(options.batch_size, rows)
    config = {
        "output_dir": scratch,
        "seed": seed,
        "learning_rate": options.learning_rate,
        "lr_scheduler_type": "constant",
        "num_train_epochs": options.epochs,
        "per_device_train_batch_size": size,
        "dataloader_drop_last": True,
        "max_length": LONGEST_PROMPT + LONGEST_ANSWER,
        "max_grad_norm": 1.0,
        "bf16": model.dtype == torch.bfloat16,
        "use_cpu": model.device.type == "cpu",
        "gradient_checkpointing": False,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
    }
    return config if algorithm == "sft" else config | {"beta": options.beta}


class _Watch(TrainerCallback):
    """Notes each step's metrics, ends the training in time, and at once when a figure is no number."""

    def __init__(self, algorithm: Offline, time_budget_s: float, on_step: Callable[[Metrics], None]) -> None:
        self.steps: list[Metrics] = []
        self.cut_short = False
        self._algorithm, self._on_step = algorithm, on_step
        self._end = time.monotonic() + time_budget_s

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if not logs or "loss" not in logs:  # the figures of the whole run, at its end
            return
        metrics = {f"{self._algorithm}/{name}": float(value) for name, value in logs.items()}
        wrong = [f"{name} is {value}" for name, value in metrics.items() if not math.isfinite(value)]
        if wrong:
            raise TrainingDiverged(f"{self._algorithm}: {', '.join(wrong)}")
        self.steps.append(metrics)
        self._on_step(metrics)
        if time.monotonic() >= self._end and state.global_step < state.max_steps:
            self.cut_short = control.should_training_stop = True
