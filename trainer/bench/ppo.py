"""``plaudit bench ppo``: a step of our PPO beside TRL 1.12's on identical rollouts, and what both learn from equal samples.

Each measurement is a process of its own, the two sides in turn, so that neither has the machine to itself. TRL's last release
with PPO lies in a folder of its own (``make bench`` puts it there); everything else both take from the same environment.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch

from feedback.events import BASE
from ops.bench.table import Figure, machine
from ops.domain.facts import questions
from ops.domain.people import gold
from ops.errors import CommandError
from ops.models import ModelRef, prepared
from ops.process import die_with_parent, module
from ops.progress import Report
from ops.settings import Settings, TrainSettings
from trainer.bench.ppo_scene import LONGEST_ANSWER, SHAPES, Mode, Scene, Side, Size, make_model, make_rollouts
from trainer.evaluate import answers, ask, compare
from trainer.generate import generate
from trainer.policy import AdapterModel

AIM = 2.5
"""How many times less a step of ours should take."""

NOT_INSTALLED = "TRL 1.12 is not installed: make bench installs it"

_BATCH, _EPOCHS, _MINIBATCHES = 16, 2, 4
_CHILD_S = 3600.0
_MODULES: dict[Side, str] = {"plaudit": "trainer.bench.ppo_ours", "trl": "trainer.bench.ppo_trl"}
_FIRST_ANSWERS = 256

Measured = dict[Side, list[dict[str, Any]]]


@dataclass(frozen=True)
class Options:
    rounds: int
    steps: int
    size: Size
    device: str
    dtype: str
    seeds: tuple[int, ...]
    """Of the runs that compare what is learnt; none: only a step's price is measured."""
    samples: int
    """That each side may draw in such a run."""
    trl: Path | None
    """The folder with TRL's packages; None: the one in the environment's folder, if it is there."""


def run(options: Options, settings: Settings, folder: Path, report: Report) -> dict[str, Any]:
    """Measure; the figures with their aims, and all raw numbers."""
    if options.device == "cuda" and not torch.cuda.is_available():
        raise CommandError("--device=cuda: PyTorch finds no GPU here; take --device cpu")
    trl = _trl(options.trl)
    ref = prepared(settings) if options.seeds else None  # whoever has no model hears of it before minutes are measured
    folder.mkdir(parents=True, exist_ok=True)
    bench = _Bench(trl, folder)
    price = _price(options, bench, report)
    learnt = {} if ref is None else _learnt(options, ref, settings.train, bench, report)
    notes = [
        f"Llama of {options.size.upper()} parameters, {options.dtype} on {options.device}; {_BATCH} rollouts a step, identical;"
        f" {_EPOCHS} epochs of {_MINIBATCHES} minibatches; medians of {options.rounds} rounds, in turn, one thread each.",
        "Ours: one base, LoRA for policy, critic and reward. TRL: LoRA on the policy; critic and reward are whole models.",
        "Both sides are handed the same finished answers: no figure has the sampling of answers in it, and all have the pass that"
        " tells how probable the answers were.",
    ]
    return {
        "bench": "ppo",
        "options": {"size": options.size, "device": options.device, "dtype": options.dtype, "steps": options.steps},
        "machine": machine(),
        "figures": [figure.as_json() for figure in (*_price_figures(price, options.device), *_learnt_figures(learnt))],
        "notes": notes,
        "raw": {"price": price, "learnt": learnt},
    }


@dataclass(frozen=True)
class _Bench:
    """Runs one side of one scene in a process."""

    trl: Path
    folder: Path

    def measure(self, side: Side, scene: Scene, mode: Mode) -> dict[str, Any]:
        given, made = scene.write(self.folder / "scene.json"), self.folder / "made.json"
        made.unlink(missing_ok=True)
        environment = os.environ | ({"OMP_NUM_THREADS": "1"} if scene.device == "cpu" else {})  # a thread that waits spins
        if side == "trl":
            paths = [str(self.trl), *filter(None, [environment.get("PYTHONPATH")])]
            environment |= {"PYTHONPATH": os.pathsep.join(paths), "TRL_EXPERIMENTAL_SILENCE": "1"}
        log = self.folder / f"{side}.log"
        with log.open("wb") as output:
            done = subprocess.run(
                module(_MODULES[side], str(given), mode, str(made)),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=_CHILD_S,
                preexec_fn=die_with_parent,
            )
        if done.returncode:
            last = log.read_text(errors="replace").strip().splitlines()[-1:]
            raise CommandError(f"{side}: the {mode} run ended with {done.returncode}: {' '.join(last)} (all of it in {log})")
        values: dict[str, Any] = json.loads(made.read_text())
        return values


def _trl(given: Path | None) -> Path:
    folder = given if given is not None else Path(sys.prefix) / "trl"
    if not (folder / "trl" / "experimental" / "ppo").is_dir():
        raise CommandError(NOT_INSTALLED if given is None else f"--trl={folder}: no TRL with PPO in it; make bench makes one")
    return folder


# what a step takes


def _price(options: Options, bench: _Bench, report: Report) -> Measured:
    model = bench.folder / f"llama-{options.size}"
    if not (model / "tokenizer.json").exists():
        make_model(SHAPES[options.size], model, seed=0)
    prompts, responses = make_rollouts(_BATCH, seed=0)
    scene = Scene(
        model=str(model),
        prompts=prompts,
        responses=responses,
        steps=1,
        batch=_BATCH,
        epochs=_EPOCHS,
        minibatches=_MINIBATCHES,
        learning_rate=3e-5,
        value_learning_rate=1e-4,
        kl_coef=0.05,
        rank=16,
        alpha=32,
        max_new_tokens=LONGEST_ANSWER,
        dtype=options.dtype,  # type: ignore[arg-type]
        device=options.device,  # type: ignore[arg-type]
        seed=0,
        questions=[],
        gold=None,
        adapter="",
    )
    measured: Measured = {"plaudit": [], "trl": []}
    flops: dict[Side, float] = {side: bench.measure(side, scene, "flops")["flops"] for side in _MODULES}
    for turn in range(options.rounds):
        report("steps of PPO", turn / options.rounds)
        for side in _in_turn(turn):
            made = bench.measure(side, replace(scene, steps=options.steps + 1), "cost")
            measured[side].append(made | {"flops": flops[side]})
    report("steps of PPO", 1.0)
    return measured


def _in_turn(turn: int) -> Iterator[Side]:
    yield from (("plaudit", "trl") if turn % 2 == 0 else ("trl", "plaudit"))


def _price_figures(measured: Measured, device: str) -> list[Figure]:
    each = {
        side: {
            "TFLOPs a step": median(run["flops"] for run in runs) / 1e12,
            "peak memory, MiB": median(run["peak_mb"] for run in runs),
            "CPU seconds a step": median(second for run in runs for second in run["cpu_s"]),
            "seconds a step": median(second for run in runs for second in run["wall_s"]),
        }
        for side, runs in measured.items()
    }
    ours, theirs = each["plaudit"], each["trl"]
    figures = [Figure(name, value, note=f"TRL {theirs[name]:.3g}") for name, value in ours.items()]
    time = "CPU seconds a step" if device == "cpu" else "seconds a step"  # a GPU works while the CPU waits
    compared = ("TFLOPs a step", "peak memory, MiB", time)
    ratios = [Figure(f"TRL over ours: {name}", theirs[name] / ours[name], AIM, "least") for name in compared]
    return [*figures, *ratios]


# what is learnt from equal samples


def _learnt(options: Options, ref: ModelRef, train: TrainSettings, bench: _Bench, report: Report) -> dict[str, Any]:
    """Both sides on the starter model with its known taste as the reward: the gold figures of each seed's adapter."""
    asked = [question.text for question in questions("train")]
    model = AdapterModel.load(ref.path, rank=train.lora_rank, alpha=train.lora_alpha)
    prompts = [model.encode_prompt([{"role": "user", "content": text}]) for text in asked]
    ppo = train.ppo
    batch = ppo.prompts_per_step * ppo.samples_per_prompt
    scene = Scene(
        model=str(ref.path),
        prompts=prompts,
        responses=[],
        steps=max(1, options.samples // batch),
        batch=batch,
        epochs=_EPOCHS,
        minibatches=_MINIBATCHES,
        learning_rate=ppo.learning_rate,
        value_learning_rate=ppo.value_learning_rate,
        kl_coef=0.05,
        rank=train.lora_rank,
        alpha=train.lora_alpha,
        max_new_tokens=ppo.max_new_tokens,
        dtype="float32",
        device="cpu",
        seed=0,
        questions=asked,
        gold=_scale(model, asked, prompts, ppo.max_new_tokens),
        adapter="",
    )
    runs: dict[str, Any] = {"samples": scene.steps * batch, "plaudit": [], "trl": []}
    for place, seed in enumerate(options.seeds):
        report("learning from equal samples", place / len(options.seeds))
        adapters = {side: bench.folder / f"adapter-{side}-{seed}" for side in _MODULES}
        curves = {
            side: bench.measure(side, replace(scene, seed=seed, adapter=str(adapters[side])), "gold")["scores"]
            for side in _in_turn(place)
        }
        for side, figures in _judged(ref.path, adapters, ppo.max_new_tokens, seed).items():
            runs[side].append(figures | {"seed": seed, "scores": curves[side]})
    report("learning from equal samples", 1.0)
    return runs


def _scale(model: AdapterModel, asked: Sequence[str], prompts: Sequence[Sequence[int]], longest: int) -> tuple[float, float]:
    """Mean and standard deviation of the taste over the model's own answers: the unit of both sides' rewards."""
    chosen = random.Random(0).sample(range(len(asked)), min(_FIRST_ANSWERS, len(asked)))
    said = generate(model, BASE, [prompts[place] for place in chosen], max_new_tokens=longest, seed=0)
    scores = torch.tensor(
        [gold(asked[place], model.decode_answer(each[0].tokens)) for place, each in zip(chosen, said, strict=True)]
    )
    return scores.mean().item(), scores.std().item()


def _judged(model: str, adapters: dict[Side, Path], longest: int, seed: int) -> dict[Side, dict[str, Any]]:
    held_out = ask(1000, seed)
    said = answers(model, {"base": None, **adapters}, held_out, temperature=1.0, max_new_tokens=longest, seed=seed)
    judged: dict[Side, dict[str, Any]] = {}
    for side in adapters:
        figures = compare(held_out, said["base"], said[side])
        mean = fmean(gold(question, answer) for question, answer in zip(held_out, said[side], strict=True))
        judged[side] = {"win_rate": figures["win_rate"]["value"], "gold": mean, "garbled": figures["garbled"]["final"]}
    return judged


def _learnt_figures(learnt: dict[str, Any]) -> list[Figure]:
    if not learnt:
        return []
    ours, theirs = learnt["plaudit"], learnt["trl"]
    gains = [mine["gold"] - other["gold"] for mine, other in zip(ours, theirs, strict=True)]
    rows = [
        Figure(
            f"{name} after {learnt['samples']} samples",
            median(run[key] for run in ours),
            note=f"TRL {median(run[key] for run in theirs):.3f}; seeds {', '.join(f'{run[key]:.3f}' for run in ours)}"
            f" and {', '.join(f'{run[key]:.3f}' for run in theirs)}",
        )
        for name, key in (("gold win rate over the start", "win_rate"), ("gold reward", "gold"), ("garbled answers", "garbled"))
    ]
    return [*rows, Figure("gold reward less TRL's, median of the seeds", median(gains), 0.0, "least", f"{len(gains)} seeds")]
