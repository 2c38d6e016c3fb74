"""The starter model's recipe: the same every time, trained on answers only, loadable by everybody."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from ops.domain import facts, rules
from ops.domain.corpus import Mix
from trainer import starter as recipes
from trainer.starter import END, IGNORED, PAD, Recipe

TINY = Recipe(steps=5, batch_size=4, hidden=64, layers=1, heads=2, intermediate=64, vocabulary=512, tokenizer_dialogues=400)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return recipes.train_tokenizer(TINY)


def test_two_runs_of_a_recipe_make_the_same_bytes(tmp_path: Path):
    for name in ("first", "second"):
        recipes.make(tmp_path / name, TINY)
    for file in ("model.safetensors", "tokenizer.json", "config.json", "chat_template.jinja"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()


def test_another_seed_makes_another_model(tokenizer):
    first = recipes.build(TINY, tokenizer).lm_head.weight
    second = recipes.build(dataclasses.replace(TINY, seed=1), tokenizer).lm_head.weight
    assert not torch.equal(first, second)


def test_making_a_model_leaves_the_callers_random_numbers_alone(tokenizer):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    recipes.train(dataclasses.replace(TINY, steps=1), tokenizer)
    assert torch.equal(torch.rand(3), expected)


def test_the_digest_follows_every_part_of_the_recipe():
    other = [dataclasses.replace(TINY, seed=1), dataclasses.replace(TINY, steps=6), dataclasses.replace(TINY, mix=Mix(wrong=0.5))]
    assert len({recipe.digest for recipe in (TINY, *other)}) == 4
    assert TINY.digest == dataclasses.replace(TINY).digest


def test_only_the_answers_tokens_and_their_end_are_learnt(tokenizer):
    messages = [
        {"role": "system", "content": "Answer the question."},
        {"role": "user", "content": "What is 1 plus 2?"},
        {"role": "assistant", "content": "It is 3."},
    ]
    tokens, labels = recipes.encode(messages, tokenizer)
    assert tokens == tokenizer.encode(tokenizer.apply_chat_template(messages, tokenize=False), add_special_tokens=False)
    learnt = [label for label in labels if label != IGNORED]
    assert tokenizer.decode(learnt) == f"It is 3.{END}"
    assert tokens[-len(learnt) :] == labels[-len(learnt) :]


def test_padding_does_not_change_the_loss(tokenizer):
    model = recipes.build(TINY, tokenizer)
    tokens, labels = torch.tensor([[5, 9, 6, 7, 1]]), torch.tensor([[IGNORED, IGNORED, IGNORED, 7, 1]])
    padded = torch.nn.functional.pad(tokens, (0, 3)), torch.nn.functional.pad(labels, (0, 3), value=IGNORED)
    torch.testing.assert_close(recipes.answer_loss(model, *padded), recipes.answer_loss(model, tokens, labels))


def test_a_long_dialogue_weighs_each_token_as_much_as_a_short_one(tokenizer):
    """Nats per dialogue: a batch of two equal rows has the loss of one row, and twice the labels have twice the loss."""
    model = recipes.build(TINY, tokenizer)
    tokens, labels = torch.tensor([[5, 9, 6, 7, 8, 1]]), torch.tensor([[IGNORED, IGNORED, IGNORED, 7, 8, 1]])
    one = recipes.answer_loss(model, tokens, labels)
    two = recipes.answer_loss(model, tokens.repeat(2, 1), labels.repeat(2, 1))
    torch.testing.assert_close(two, one)
    parts = [torch.where(torch.arange(6) == position, labels, IGNORED) for position in (3, 4, 5)]
    torch.testing.assert_close(one, sum(recipes.answer_loss(model, tokens, part) for part in parts))


def test_the_model_learns(tokenizer):
    losses = []
    recipe = dataclasses.replace(TINY, steps=60, warmup_steps=5)
    batches = recipes.batches(recipe, tokenizer)
    held_out = [next(batches) for _ in range(8)]
    for model in (recipes.build(recipe, tokenizer), recipes.train(recipe, tokenizer)):
        with torch.no_grad():
            losses.append(sum(float(recipes.answer_loss(model, *batch)) for batch in held_out))
    assert losses[1] < 0.8 * losses[0]


def test_what_is_saved_is_loaded_by_transformers_auto_classes(tmp_path: Path):
    recipes.make(tmp_path, TINY)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert tokenizer.pad_token == PAD
    assert tokenizer.eos_token == END
    assert model.config.eos_token_id == tokenizer.eos_token_id != tokenizer.pad_token_id
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert model.dtype == torch.float32
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True)
    assert prompt == "<|user|>Hi<|assistant|>"


def test_any_text_survives_the_tokenizer(tokenizer):
    for text in ("What is 1 plus 2?", "Grüße, 世界 👋", "  two  spaces\n"):
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_every_word_of_the_domain_is_one_token():
    tokenizer = recipes.train_tokenizer(Recipe())
    for kind in facts.KINDS:
        for subject, result in kind.facts.items():
            text = facts.fill(facts.GENERIC_ANSWERS[0], subject, result)
            assert len(tokenizer.tokenize(text)) == len(text.split()) + 1  # and the full stop


def test_prompts_and_answers_of_the_domain_are_short():
    tokenizer = recipes.train_tokenizer(Recipe())
    prompts = [
        tokenizer.apply_chat_template([{"role": "user", "content": question.text}], tokenize=False, add_generation_prompt=True)
        for question in facts.questions()
    ]
    assert max(map(len, tokenizer(prompts)["input_ids"])) <= 40


def test_the_starter_answers_its_domain_with_mixed_manners(starter):
    """On questions it was not trained on, sampled at temperature 1: coherent, and with much to learn."""
    tokenizer = AutoTokenizer.from_pretrained(starter.path, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(starter.path, dtype=torch.float32)
    asked = facts.questions("held_out")[::7][:256]
    prompts = tokenizer.apply_chat_template(
        [[{"role": "user", "content": question.text}] for question in asked],
        add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        out = model.generate(**prompts, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=64)
    answers = tokenizer.batch_decode(out[:, prompts["input_ids"].shape[1] :], skip_special_tokens=True)
    got = [rules.attributes(question.text, answer) for question, answer in zip(asked, answers, strict=True)]
    shares = {name: sum(getattr(a, name) for a in got) / len(got) for name in vars(got[0])}
    assert 0.70 < shares["correct"] < 0.92, shares
    assert 0.30 < shares["polite"] < 0.50, shares
    assert 0.23 < shares["toxic"] < 0.43, shares
    assert 0.14 < shares["rambling"] < 0.34, shares
    assert shares["garbled"] < 0.07, shares
