"""The PPO bench gives both sides the same rollouts and works its ratios out of what it measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ops.errors import CommandError
from ops.settings import Settings
from trainer.bench import ppo, ppo_ours
from trainer.bench.ppo_meter import Meter, resident_kb
from trainer.bench.ppo_scene import EOS, LONGEST_ANSWER, PROMPT_TOKENS, Scene, make_model, make_rollouts


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Two short rollouts on a Llama of one small layer with the bench's own tokenizer."""
    folder = tmp_path_factory.mktemp("llama")
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    make_model(shape, folder, seed=0)
    return Scene(
        model=str(folder),
        prompts=[[5, 6, 7], [8, 9]],
        responses=[[10, EOS], [11, 12, EOS]],
        steps=2,
        batch=2,
        epochs=1,
        minibatches=1,
        learning_rate=1e-3,
        value_learning_rate=1e-3,
        kl_coef=0.05,
        rank=2,
        alpha=4,
        max_new_tokens=3,
        dtype="float32",
        device="cpu",
        seed=0,
        questions=[],
        gold=None,
        adapter="",
    )


def quiet(what: str, share: float) -> None:
    """Nobody watches."""


def test_the_same_seed_makes_the_same_rollouts_which_end_unless_they_are_cut():
    prompts, responses = make_rollouts(64, seed=3)
    assert (prompts, responses) == make_rollouts(64, seed=3)
    assert all(PROMPT_TOKENS[0] <= len(prompt) <= PROMPT_TOKENS[1] for prompt in prompts)
    assert all((len(r) == LONGEST_ANSWER) != (r[-1] == EOS) and len(r) <= LONGEST_ANSWER for r in responses)


def test_a_scene_reads_back_as_it_was_written(tmp_path: Path, scene: Scene):
    with_gold = replace(scene, gold=(0.5, 2.0))
    assert Scene.read(with_gold.write(tmp_path / "scene.json")) == with_gold


def test_our_side_learns_from_the_responses_it_is_given_whatever_their_order(scene: Scene):
    said = ppo_ours.Script(scene, EOS).generate("policy", [[8, 9], [5, 6, 7]], n=1, temperature=1, max_new_tokens=3, seed=0)
    assert [(s.tokens, s.ended) for s in said] == [((11, 12, EOS), True), ((10, EOS), True)]


def test_the_price_of_a_step_leaves_the_first_one_out_and_its_flops_are_the_same_every_time(scene: Scene):
    price = ppo_ours.run(scene, "cost")
    assert len(price["cpu_s"]) == len(price["wall_s"]) == 1
    assert price["peak_mb"] >= 0
    once = replace(scene, steps=1)
    flops = ppo_ours.run(once, "flops")["flops"]
    assert flops == ppo_ours.run(replace(once, seed=1), "flops")["flops"] > 0
    longer = replace(once, responses=[[10, 13, EOS], [11, 12, EOS]])
    assert ppo_ours.run(longer, "flops")["flops"] > flops


def test_ratios_are_of_medians():
    def side(cpu: list[float], flops: float, peak: float) -> list[dict[str, object]]:
        return [{"cpu_s": cpu, "wall_s": cpu, "flops": flops, "peak_mb": peak}]

    measured = {"plaudit": side([1, 2, 9], 1e12, 100), "trl": side([6, 1, 8], 3e12, 200)}
    report = ppo._price_figures(measured, "cpu")
    on_gpu = [figure.name for figure in ppo._price_figures(measured, "cuda") if "over" in figure.name]
    assert on_gpu[-1] == "TRL over ours: seconds a step"  # the CPU waits meanwhile
    ratios = {figure.name.removeprefix("TRL over ours: "): figure for figure in report if "over" in figure.name}
    assert {name: figure.value for name, figure in ratios.items()} == {
        "TFLOPs a step": 3.0,
        "peak memory, MiB": 2.0,
        "CPU seconds a step": 3.0,
    }
    assert [figure.met for figure in ratios.values()] == [True, False, True]


def test_what_both_learnt_is_compared_seed_by_seed():
    def run(gold: float) -> dict[str, float]:
        return {"gold": gold, "win_rate": 0.7, "garbled": 0.0}

    learnt = {"samples": 64, "plaudit": [run(1.0), run(2.0), run(0.0)], "trl": [run(0.5), run(2.5), run(-1.0)]}
    last = ppo._learnt_figures(learnt)[-1]
    assert (last.value, last.met) == (0.5, True)  # +0.5, -0.5, +1.0


def test_without_trl_the_bench_says_what_installs_it(tmp_path: Path):
    options = ppo.Options(1, 1, "23m", "cpu", "float32", (), 64, trl=tmp_path)
    with pytest.raises(CommandError, match=f"--trl={tmp_path}: no TRL with PPO in it; make bench makes one"):
        ppo.run(options, Settings(data_dir=tmp_path), tmp_path, quiet)


def test_without_the_model_to_learn_on_the_bench_says_so_before_it_measures(tmp_path: Path, scene: Scene):
    folder = tmp_path / "trl" / "trl" / "experimental" / "ppo"
    folder.mkdir(parents=True)
    options = ppo.Options(3, 3, "23m", "cpu", "float32", (0,), 64, tmp_path / "trl")
    with pytest.raises(CommandError, match="run `plaudit prepare --model starter` first"):
        ppo.run(options, Settings(data_dir=tmp_path / "data", model="starter"), tmp_path / "bench", quiet)
    assert not (tmp_path / "bench").exists()


def test_memory_is_counted_from_where_the_meter_was_made():
    meter = Meter("cpu")
    meter.before_kb = resident_kb("VmHWM") - 2048
    assert json.loads(json.dumps(meter.report()))["peak_mb"] >= 2.0
