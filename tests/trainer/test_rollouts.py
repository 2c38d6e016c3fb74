"""Sampled answers: in this process, from an engine that misbehaves, and one source after the other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from noise import noisy
from scripted_vllm import ScriptedVllm, scripted_vllm

from trainer.batches import TokenBatch
from trainer.policy import AdapterModel
from trainer.rollouts import PRIORITY, EngineRollouts, LocalRollouts, RolloutsUnavailable, Sample, with_fallback

PROMPTS = [[65, 66, 67, 68, 69, 70, 71], [80], [90, 91, 92]]
ASK = {"n": 2, "temperature": 1.0, "max_new_tokens": 5, "seed": 0}


def differences(model: AdapterModel, name: str, samples: list[Sample]) -> torch.Tensor:
    """Between the sampler's logprobs and the trainer's own, token by token."""
    batch = TokenBatch.pack([s.prompt_tokens for s in samples], [s.tokens for s in samples])
    own = model.response_logprobs(name, batch)[batch.response_mask]
    return (own - torch.tensor([p for s in samples for p in s.logprobs])).abs()


def test_the_likeliest_answer_is_that_of_transformers_whatever_shares_its_batch(tiny: AdapterModel):
    tiny.add("policy")
    noisy(tiny, "policy")
    samples = LocalRollouts(tiny).generate("policy", PROMPTS, n=1, temperature=0.0, max_new_tokens=12, seed=0)
    for prompt, sample in zip(PROMPTS, samples, strict=True):
        with tiny.using("policy"):
            wanted = tiny.model.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False)
        assert list(sample.tokens) == wanted[0, len(prompt) :].tolist()


def test_sampled_logprobs_are_the_trainers_own_also_after_others_have_finished(tiny: AdapterModel):
    tiny.add("policy")
    noisy(tiny, "policy")
    often = LocalRollouts(tiny).generate("policy", PROMPTS, n=64, temperature=1.0, max_new_tokens=1, seed=0)
    commonest = max((s.tokens[0] for s in often), key=[s.tokens[0] for s in often].count)
    tiny.tokenizer.eos_token = tiny.tokenizer.convert_ids_to_tokens(commonest)  # so that many answers end early
    samples = LocalRollouts(tiny).generate("policy", PROMPTS, n=32, temperature=1.0, max_new_tokens=24, seed=1)
    lengths = [len(s.tokens) for s in samples]
    assert min(lengths) <= 3
    assert max(lengths) >= 20
    assert differences(tiny, "policy", samples).max() < 1e-4
    assert all(s.ended == (s.tokens[-1] == commonest) for s in samples)
    assert all(commonest not in s.tokens[:-1] for s in samples)
    assert all(s.ended or len(s.tokens) == 24 for s in samples)


def test_every_prompt_has_its_samples_in_order_with_its_own_tokens_and_text(tiny: AdapterModel):
    samples = LocalRollouts(tiny).generate("base", PROMPTS, **ASK)
    assert [s.prompt_index for s in samples] == [0, 0, 1, 1, 2, 2]
    assert [list(s.prompt_tokens) for s in samples] == [PROMPTS[i] for i in (0, 0, 1, 1, 2, 2)]
    assert all(s.text == tiny.tokenizer.decode(s.tokens, skip_special_tokens=True) for s in samples)
    assert samples[0].tokens != samples[1].tokens


def test_tokens_are_drawn_with_the_models_probabilities(tiny: AdapterModel):
    prompts = [PROMPTS[0]] * 64
    samples = LocalRollouts(tiny).generate("base", prompts, n=128, temperature=1.0, max_new_tokens=1, seed=0)
    states = tiny.response_states("base", TokenBatch.pack([PROMPTS[0]], [[1]]), before=True)
    wanted = tiny.head(states[0, 0]).softmax(-1).detach()
    counts = torch.bincount(torch.tensor([s.tokens[0] for s in samples]), minlength=len(wanted))
    error = (counts / len(samples) - wanted).abs()
    assert (error < 5 * (wanted * (1 - wanted) / len(samples)).sqrt() + 1e-6).all()  # five standard errors


def test_the_same_seed_samples_the_same_and_another_something_else(tiny: AdapterModel):
    one, again, other = (
        [s.tokens for s in LocalRollouts(tiny).generate("base", PROMPTS, **{**ASK, "seed": s})] for s in (1, 1, 2)
    )
    assert one == again
    assert one != other


def test_the_adapters_present_weights_are_what_samples(tiny: AdapterModel):
    tiny.add("policy")
    source = LocalRollouts(tiny)
    before = source.generate("policy", PROMPTS, **ASK)
    noisy(tiny, "policy")
    after = source.generate("policy", PROMPTS, **ASK)
    assert [s.tokens for s in before] != [s.tokens for s in after]
    assert differences(tiny, "policy", after).max() < 1e-4


@pytest.fixture
def engine() -> Iterator[ScriptedVllm]:
    with scripted_vllm() as script:
        yield script


@pytest.fixture
def model(tiny: AdapterModel) -> AdapterModel:
    tiny.add("policy")
    return tiny


def test_each_policy_goes_to_the_engine_under_a_fresh_name_and_path_and_leaves_nothing(
    model: AdapterModel, engine: ScriptedVllm, tmp_path: Path
):
    source = EngineRollouts(engine.url, model, tmp_path)
    samples = source.generate("policy", PROMPTS, **ASK) + source.generate("policy", PROMPTS, **ASK)
    loads = [body for path, body in engine.seen if path == "/v1/load_lora_adapter"]
    assert len({b["lora_name"] for b in loads}) == len({b["lora_path"] for b in loads}) == 2
    assert engine.files_were_there == [True, True]
    assert [b["model"] for p, b in engine.seen if p == "/v1/completions"] == [b["lora_name"] for b in loads]
    assert engine.loaded == {}
    assert list(tmp_path.iterdir()) == []
    assert (samples[2].prompt_index, samples[2].prompt_tokens) == (1, (80,))
    assert (samples[2].tokens, samples[2].logprobs, samples[2].ended) == ((65, 66), (-1.0, -2.0), False)


def test_requests_yield_to_people_ask_for_plain_sampling_and_carry_no_seed(
    model: AdapterModel, engine: ScriptedVllm, tmp_path: Path
):
    EngineRollouts(engine.url, model, tmp_path, prompts_per_request=2).generate("base", PROMPTS, **ASK)
    (_, first), (_, second) = engine.seen
    assert (first["prompt"], second["prompt"]) == (PROMPTS[:2], PROMPTS[2:])
    wanted = {"model": "base", "priority": PRIORITY, "temperature": 1.0, "top_p": 1.0, "top_k": 0, "n": 2, "max_tokens": 5}
    assert wanted.items() <= first.items()
    assert "seed" not in first


@pytest.mark.parametrize(("answer", "why"), [("error", "the engine is dead"), ("nonsense", "token_ids")])
def test_an_engine_that_fails_is_unavailable_and_its_adapter_is_taken_back(
    model: AdapterModel, engine: ScriptedVllm, tmp_path: Path, answer: str, why: str
):
    engine.answer = answer
    with pytest.raises(RolloutsUnavailable, match=why):
        EngineRollouts(engine.url, model, tmp_path).generate("policy", PROMPTS, **ASK)
    assert engine.loaded == {}
    assert list(tmp_path.iterdir()) == []


def test_an_engine_that_says_nothing_is_given_up_at_the_deadline(model: AdapterModel, engine: ScriptedVllm, tmp_path: Path):
    engine.answer = "silence"
    started = time.monotonic()
    with pytest.raises(RolloutsUnavailable, match="TimeoutError"):
        EngineRollouts(engine.url, model, tmp_path, timeout_s=0.3).generate("policy", PROMPTS, **ASK)
    assert time.monotonic() - started < 10
    assert engine.loaded == {}


def test_nobody_listening_is_unavailable(model: AdapterModel, tmp_path: Path):
    for url in ("http://127.0.0.1:9", f"unix:{tmp_path}/none.sock"):
        with pytest.raises(RolloutsUnavailable, match="ConnectError"):
            EngineRollouts(url, model, tmp_path / "scratch").generate("policy", PROMPTS, **ASK)


def test_what_a_killed_trainer_left_is_swept_away_and_nothing_else(model: AdapterModel, engine: ScriptedVllm, tmp_path: Path):
    left = tmp_path / "rollout-left"
    model.save("policy", left)
    engine.loaded = {"rollout-left": str(left), "default-v1-abc": "/elsewhere/default-v1-abc"}
    EngineRollouts(engine.url, model, tmp_path).generate("policy", PROMPTS, **ASK)
    assert engine.loaded == {"default-v1-abc": "/elsewhere/default-v1-abc"}
    assert list(tmp_path.iterdir()) == []


def test_after_one_failure_the_fallback_goes_on_alone(model: AdapterModel, engine: ScriptedVllm, tmp_path: Path):
    source = with_fallback(EngineRollouts(engine.url, model, tmp_path), LocalRollouts(model))
    assert source.generate("policy", PROMPTS, **ASK)[0].tokens == (65, 66)
    engine.answer = "error"
    wanted = [s.tokens for s in LocalRollouts(model).generate("policy", PROMPTS, **ASK)]
    assert [s.tokens for s in source.generate("policy", PROMPTS, **ASK)] == wanted
    asked = len(engine.seen)
    engine.answer = "tokens"
    assert [s.tokens for s in source.generate("policy", PROMPTS, **ASK)] == wanted
    assert len(engine.seen) == asked


def test_another_engine_takes_over_from_a_dead_one(model: AdapterModel, engine: ScriptedVllm, tmp_path: Path):
    dead, alive = EngineRollouts("http://127.0.0.1:9", model, tmp_path), EngineRollouts(engine.url, model, tmp_path)
    source = with_fallback(dead, with_fallback(alive, LocalRollouts(model)))
    assert source.generate("policy", PROMPTS, **ASK)[0].tokens == (65, 66)
    assert engine.loaded == {}
    assert list(tmp_path.iterdir()) == []
