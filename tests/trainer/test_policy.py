"""The base, its adapters by name, and what comes out of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from noise import noisy
from peft import PeftModel
from transformers import AutoModelForCausalLM

from trainer.adapter_files import AdapterFileError
from trainer.batches import TokenBatch, buckets
from trainer.policy import AdapterModel, PolicyError

PROMPTS = [[70, 71, 72], [80], [90, 91, 92, 93, 94, 95]]
RESPONSES = [[10, 11], [20, 21, 22, 23, 24], [30]]


def batch() -> TokenBatch:
    return TokenBatch.pack(PROMPTS, RESPONSES)


def test_a_batch_knows_its_masks_positions_and_responses():
    packed = batch()
    assert packed.tokens[0].tolist() == [70, 71, 72, 10, 11, 0, 0]
    assert packed.response_mask.tolist() == [[1, 1, 0, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]]
    assert packed.response_positions[1].tolist() == [1, 2, 3, 4, 5]
    assert packed.responses[packed.response_mask].tolist() == [10, 11, 20, 21, 22, 23, 24, 30]


def test_selected_rows_lose_the_columns_that_only_others_needed():
    part = batch().select([0])
    assert part.tokens.tolist() == [[70, 71, 72, 10, 11]]
    assert part.longest_response == 2


def test_an_empty_prompt_is_refused():
    with pytest.raises(ValueError, match="without tokens"):
        TokenBatch.pack([[]], [[1]])


def test_buckets_hold_every_row_once_within_the_budget():
    lengths = torch.tensor([3, 9, 1, 5, 9, 30])
    groups = list(buckets(lengths, 20))
    assert sorted(torch.cat(groups).tolist()) == [0, 1, 2, 3, 4, 5]
    assert [int(lengths[g].max()) * len(g) for g in groups] == [30, 18, 5, 3, 1]  # a group costs no more than a token


def test_buckets_weigh_padding_against_the_price_of_a_group():
    """Of a budget of 160 a group costs 10 tokens: 12, 11 and 10 pad 3 together; a 1 with them 11 more, a 4 only 8 more."""
    assert [g.tolist() for g in buckets(torch.tensor([10, 1, 12, 11]), 160)] == [[2, 3, 0], [1]]
    assert [g.tolist() for g in buckets(torch.tensor([10, 4, 12, 11]), 160)] == [[2, 3, 0, 1]]


def test_what_the_base_says_of_a_batch_is_made_once_and_never_taken_for_anothers(tiny: AdapterModel):
    made = []
    tiny.decoder.register_forward_hook(lambda *_: made.append(1))
    first, again = (tiny.base_view(batch()) for _ in range(2))
    assert len(made) == 1
    assert first is again
    shorter = batch()
    other = TokenBatch(shorter.tokens, shorter.prompt_lengths + 1, shorter.response_lengths - 1)
    said = tiny.base_view(other)
    wanted = tiny.response_logprobs("base", other, with_entropy=True)
    assert torch.equal(said.logprobs, wanted[0])
    assert torch.equal(said.entropies, wanted[1])
    assert torch.equal(said.states, tiny.response_states("base", other, before=True))


def test_logprobs_are_those_of_transformers_own_forward_pass(tiny: AdapterModel):
    got = tiny.response_logprobs("base", batch())
    for row, (prompt, response) in enumerate(zip(PROMPTS, RESPONSES, strict=True)):
        logits = tiny.model(input_ids=torch.tensor([prompt + response])).logits[0].log_softmax(-1)
        for t, token in enumerate(response):
            assert got[row, t].item() == pytest.approx(logits[len(prompt) + t - 1, token].item(), abs=1e-5)
        assert got[row, len(response) :].eq(0).all()


def test_entropy_is_that_of_the_distribution_before_each_token(tiny: AdapterModel):
    _, entropy = tiny.response_logprobs("base", batch(), with_entropy=True)
    logits = tiny.model(input_ids=torch.tensor([PROMPTS[0] + RESPONSES[0]])).logits[0]
    wanted = torch.distributions.Categorical(logits=logits[2]).entropy()
    assert entropy[0, 0].item() == pytest.approx(wanted.item(), abs=1e-5)


def test_padding_batching_and_bucketing_change_no_logprob(tiny: AdapterModel):
    tiny.add("policy")
    noisy(tiny, "policy")
    together = tiny.response_logprobs("policy", batch())
    padded = TokenBatch(torch.cat([batch().tokens, torch.full((3, 4), 7)], 1), batch().prompt_lengths, batch().response_lengths)
    assert torch.allclose(together, tiny.response_logprobs("policy", padded), atol=1e-5)
    for row in range(3):
        alone = tiny.response_logprobs("policy", batch().select([row]))
        assert torch.allclose(together[row, : alone.shape[1]], alone[0], atol=1e-5)
    tiny.tokens_per_pass = 1  # every row a bucket of its own
    assert torch.allclose(together, tiny.response_logprobs("policy", batch()), atol=1e-5)


def test_states_before_a_token_are_the_states_at_the_token_before_it(tiny: AdapterModel):
    at, before = tiny.response_states("base", batch()), tiny.response_states("base", batch(), before=True)
    assert at.shape == (3, 5, tiny.hidden_size)
    assert torch.equal(before[:, 1:][batch().response_mask[:, 1:]], at[:, :-1][batch().response_mask[:, 1:]])
    assert torch.allclose(tiny.head(before[0, 0]).log_softmax(-1)[10], tiny.response_logprobs("base", batch())[0, 0])
    assert at[0, 2:].eq(0).all()


def test_a_fresh_adapter_changes_nothing_and_a_filled_one_does(tiny: AdapterModel):
    base = tiny.response_logprobs("base", batch())
    tiny.add("policy")
    assert torch.equal(tiny.response_logprobs("policy", batch()), base)
    noisy(tiny, "policy")
    assert not torch.allclose(tiny.response_logprobs("policy", batch()), base, atol=0.05)
    assert torch.equal(tiny.response_logprobs("base", batch()), base)


def test_fresh_adapters_are_a_function_of_seed_and_name_and_leave_the_random_state(tiny_folder: Path):
    models = [AdapterModel.load(tiny_folder, rank=8, alpha=16, seed=seed) for seed in (1, 1, 2)]
    torch.manual_seed(0)
    wanted = torch.rand(1)
    torch.manual_seed(0)
    for model in models:
        model.add("policy")
    assert torch.equal(torch.rand(1), wanted)
    first, again, other = (next(iter(m.weights("policy").values())) for m in models)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_gradients_reach_only_the_adapter_that_was_used(tiny: AdapterModel):
    for name in ("policy", "value", "reward"):
        tiny.add(name)
        noisy(tiny, name)
    tiny.trainable("policy", "value")
    tiny.response_logprobs("policy", batch()).sum().backward()
    grads = {name: p.grad for name, p in tiny.model.named_parameters()}
    assert all(g is None for name, g in grads.items() if ".policy." not in name)
    assert all(g is not None and g.any() for name, g in grads.items() if ".policy." in name)


def test_a_switch_of_adapter_between_forward_and_backward_loses_no_gradient(tiny: AdapterModel):
    tiny.add("policy")
    tiny.add("reward")
    noisy(tiny, "policy")
    parameters = tiny.trainable("policy")
    loss = tiny.response_logprobs("policy", batch()).sum()
    with torch.no_grad():
        tiny.response_logprobs("reward", batch())
        tiny.response_logprobs("base", batch())
    loss.backward()
    assert all(p.grad is not None and p.grad.any() for p in parameters)


def test_only_what_is_named_trainable_requires_gradients(tiny: AdapterModel):
    tiny.add("policy")
    tiny.add("value")
    tiny.trainable("value")
    tiny.response_logprobs("policy", batch())
    tiny.add("reward")
    assert {n.split(".")[-2] for n, p in tiny.model.named_parameters() if p.requires_grad} == {"value"}


def test_a_copy_starts_equal_and_then_goes_its_own_way(tiny: AdapterModel):
    tiny.add("reward")
    noisy(tiny, "reward")
    tiny.add("value", source="reward")
    before = tiny.response_logprobs("reward", batch())
    assert torch.equal(tiny.response_logprobs("value", batch()), before)
    noisy(tiny, "value", seed=5)
    assert torch.equal(tiny.response_logprobs("reward", batch()), before)
    assert not torch.allclose(tiny.response_logprobs("value", batch()), before, atol=0.05)


def test_a_saved_adapter_comes_back_the_same_here_and_in_peft(tiny: AdapterModel, tiny_folder: Path, tmp_path: Path):
    tiny.add("policy")
    noisy(tiny, "policy")
    wanted = tiny.response_logprobs("policy", batch())
    tiny.save("policy", tmp_path / "a")
    tiny.save("policy", tmp_path / "b")
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    tiny.add("again", source=tmp_path / "a")
    assert torch.equal(tiny.response_logprobs("again", batch()), wanted)
    peft = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_folder), tmp_path / "a")
    logits = peft(input_ids=torch.tensor([PROMPTS[0] + RESPONSES[0]])).logits[0].log_softmax(-1)
    assert logits[2, 10].item() == pytest.approx(wanted[0, 0].item(), abs=1e-5)


def test_an_adapter_for_other_modules_is_refused_and_not_held(tiny: AdapterModel, tmp_path: Path):
    tiny.add("policy")
    tiny.save("policy", tmp_path)
    config = tmp_path / "adapter_config.json"
    config.write_text(config.read_text().replace("down_proj", "dawn_proj"))
    with pytest.raises(AdapterFileError, match="dawn_proj"):
        tiny.add("reference", source=tmp_path)
    assert tiny.names == ("policy",)


def test_logprobs_and_entropies_under_an_adapter_are_those_that_trl_computes(tiny: AdapterModel):
    from trl.trainer.utils import entropy_from_logits, selective_log_softmax  # seconds to import: only here

    tiny.add("policy")
    noisy(tiny, "policy")
    logprobs, entropies = tiny.response_logprobs("policy", batch(), with_entropy=True)
    for row, (prompt, response) in enumerate(zip(PROMPTS, RESPONSES, strict=True)):
        with tiny.using("policy"), torch.no_grad():
            logits = tiny.model(input_ids=torch.tensor([prompt + response])).logits[:, len(prompt) - 1 : -1]
        theirs = selective_log_softmax(logits, torch.tensor([response]))[0]
        assert torch.allclose(logprobs[row, : len(response)], theirs, atol=1e-5)
        assert torch.allclose(entropies[row, : len(response)], entropy_from_logits(logits)[0], atol=1e-5)


def test_merged_weights_give_the_adapters_logprobs_and_the_base_returns_to_the_bit(tiny: AdapterModel):
    tiny.add("policy")
    noisy(tiny, "policy")
    base, wanted = tiny.response_logprobs("base", batch()), tiny.response_logprobs("policy", batch())
    weights = {n: p.clone() for n, p in tiny.model.named_parameters() if "base_layer" in n}
    with tiny.merged("policy"):
        assert torch.allclose(tiny.response_logprobs("base", batch()), wanted, atol=1e-5)
    assert torch.equal(tiny.response_logprobs("base", batch()), base)
    assert all(torch.equal(p, weights[n]) for n, p in tiny.model.named_parameters() if n in weights)


def test_generating_in_bfloat16_rounds_the_adapter_and_gives_it_back_to_the_bit(tiny_folder):
    model = AdapterModel.load(tiny_folder, rank=8, alpha=16, dtype=torch.bfloat16)
    model.add("policy")
    noisy(model, "policy")
    wanted = model.response_logprobs("policy", batch())
    weights = {name: weight.clone() for name, weight in model.weights("policy").items()}
    with model.merged("policy"):
        assert {weight.dtype for weight in model.weights("policy").values()} == {torch.bfloat16}
        assert torch.allclose(model.response_logprobs("policy", batch()), wanted, atol=0.05)
    assert torch.equal(model.response_logprobs("policy", batch()), wanted)
    assert all(torch.equal(weight, weights[name]) for name, weight in model.weights("policy").items())


def test_a_removed_adapter_is_gone_and_the_others_stay(tiny: AdapterModel):
    base = tiny.response_logprobs("base", batch())
    for name in ("policy", "reference"):
        tiny.add(name)
        noisy(tiny, name, seed=len(name))
    kept = tiny.response_logprobs("policy", batch())
    tiny.remove("reference")
    with pytest.raises(PolicyError, match="no adapter 'reference'; held are policy"):
        tiny.response_logprobs("reference", batch())
    assert torch.equal(tiny.response_logprobs("policy", batch()), kept)
    tiny.remove("policy")
    assert tiny.names == ()
    assert torch.equal(tiny.response_logprobs("base", batch()), base)
    tiny.add("policy")
    assert torch.equal(tiny.response_logprobs("policy", batch()), base)


def test_prompts_go_through_the_chat_template_and_answers_end_with_eos(tiny: AdapterModel):
    prompt = tiny.encode_prompt([{"role": "user", "content": "hi"}])
    assert tiny.tokenizer.decode(prompt) == "<|user|>hi<|end|><|assistant|>"
    answer = tiny.encode_answer("ok")
    assert answer[-1] == tiny.eos_token
    assert tiny.decode_answer(answer) == "ok"
