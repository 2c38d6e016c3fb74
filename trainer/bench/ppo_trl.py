"""TRL 1.12's side of the PPO bench: ``python -m trainer.bench.ppo_trl SCENE MODE OUT``.

TRL comes from a folder of its own and runs on the same PyTorch, transformers and peft as we do. It is used as it is: its trainer,
its wrapper, its defaults but for the numbers of the scene. Where rollouts are given, the policy's ``generate`` hands them out,
with the scores that TRL takes from generation made by one forward pass.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
    TrainerCallback,
)
from transformers.generation import GenerateDecoderOnlyOutput
from trl.experimental.ppo import PPOConfig, PPOTrainer

from ops.domain.people import gold
from trainer.bench.ppo_meter import Meter
from trainer.bench.ppo_scene import Mode, Scene
from trainer.supported import linear_layers


class ScriptedLlama(LlamaForCausalLM):
    """Says what it is told to; see the module's docstring."""

    said: dict[tuple[int, ...], list[int]]
    pad: int

    def generate(self, input_ids: Tensor, attention_mask: Tensor, **_: Any) -> GenerateDecoderOnlyOutput:
        """input_ids, attention_mask: (B, P), padded on the left."""
        said = [self.said[tuple(row[mask].tolist())] for row, mask in zip(input_ids, attention_mask.bool(), strict=True)]
        longest = max(map(len, said))
        rows = torch.tensor([each + [self.pad] * (longest - len(each)) for each in said], device=input_ids.device)
        tokens = torch.cat([input_ids, rows], 1)
        mask = torch.cat([attention_mask, torch.ones_like(rows)], 1)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        logits = self(input_ids=tokens, attention_mask=mask, position_ids=positions).logits
        scores = tuple(logits[:, input_ids.shape[1] - 1 : -1].float().unbind(1))
        return GenerateDecoderOnlyOutput(sequences=tokens, scores=scores)


class GoldReward(nn.Module):
    """The starter domain's taste in the shape of a reward model: its "states" are the score itself, (B, L, 1)."""

    base_model_prefix = "reader"

    def __init__(self, scene: Scene, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__()
        self._scene, self._tokenizer = scene, tokenizer
        self._asked = {tuple(prompt): question for prompt, question in zip(scene.prompts, scene.questions, strict=True)}
        self.score = nn.Identity()

    def reader(self, input_ids: Tensor, attention_mask: Tensor, **_: Any) -> Any:
        mean, std = self._scene.gold or (0.0, 1.0)
        scores = [self._one(row[mask].tolist()) for row, mask in zip(input_ids, attention_mask.bool(), strict=True)]
        values = (torch.tensor(scores, device=input_ids.device) - mean) / std
        return SimpleNamespace(hidden_states=[values[:, None, None].expand(-1, input_ids.shape[1], 1)])

    def _one(self, tokens: list[int]) -> float:
        for end in range(len(tokens), 0, -1):
            question = self._asked.get(tuple(tokens[:end]))
            if question is not None:
                return gold(question, self._tokenizer.decode(tokens[end:], skip_special_tokens=True))
        raise ValueError("a prompt that was never asked")


class Clock(TrainerCallback):
    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self.scores: list[float] = []

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._meter.begin()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self._meter.step()

    def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
        self.scores.append(logs["objective/scores"])


def run(scene: Scene, mode: Mode) -> dict[str, Any]:
    meter = Meter(scene.device)
    clock = Clock(meter)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = _trainer(scene, mode, clock, scratch)
        if mode == "flops":
            with FlopCounterMode(display=False) as counter:
                trainer.train()
            return {"flops": counter.get_total_flops() / scene.steps}
        trainer.train()
    if mode == "cost":
        return meter.report()
    trainer.policy_model.save_pretrained(scene.adapter)
    return {"scores": clock.scores}


def _trainer(scene: Scene, mode: Mode, clock: Clock, scratch: str) -> PPOTrainer:
    tokenizer = AutoTokenizer.from_pretrained(scene.model, padding_side="left")
    options = {"dtype": getattr(torch, scene.dtype)}
    if mode == "gold":
        policy = AutoModelForCausalLM.from_pretrained(scene.model, **options)
        reward: nn.Module = GoldReward(scene, tokenizer)
    else:
        policy = ScriptedLlama.from_pretrained(scene.model, **options)
        policy.said = {tuple(prompt): response for prompt, response in zip(scene.prompts, scene.responses, strict=True)}
        policy.pad = tokenizer.pad_token_id
        reward = AutoModelForSequenceClassification.from_pretrained(scene.model, num_labels=1, **options)
    value = AutoModelForSequenceClassification.from_pretrained(scene.model, num_labels=1, **options)
    lora = LoraConfig(
        task_type="CAUSAL_LM", r=scene.rank, lora_alpha=scene.alpha, lora_dropout=0.0, target_modules=linear_layers(policy)
    )
    return PPOTrainer(
        args=_config(scene, scratch),
        processing_class=tokenizer,
        model=policy,
        ref_model=None,
        reward_model=reward,
        train_dataset=Dataset.from_dict({"input_ids": scene.prompts}),
        value_model=value,
        callbacks=[clock],
        peft_config=lora,
    )


def _config(scene: Scene, scratch: str) -> PPOConfig:
    """With gradient accumulation ``num_mini_batches`` only names parts of one update: the batch is one device batch."""
    return PPOConfig(
        output_dir=scratch,
        report_to="none",
        save_strategy="no",
        logging_steps=1,
        disable_tqdm=True,
        use_cpu=scene.device == "cpu",
        bf16=scene.dtype == "bfloat16",
        gradient_checkpointing=False,
        seed=scene.seed,
        per_device_train_batch_size=scene.batch,
        gradient_accumulation_steps=1,
        num_mini_batches=scene.minibatches,
        num_ppo_epochs=scene.epochs,
        total_episodes=scene.batch * scene.steps,
        num_sample_generations=0,
        response_length=scene.max_new_tokens,
        stop_token="eos",
        temperature=1.0,
        missing_eos_penalty=1.0,
        learning_rate=scene.learning_rate,
        lr_scheduler_type="constant",
        kl_coef=scene.kl_coef,
        lam=0.95,
    )


if __name__ == "__main__":
    made = run(Scene.read(Path(sys.argv[1])), sys.argv[2])  # type: ignore[arg-type]
    Path(sys.argv[3]).write_text(json.dumps(made))
