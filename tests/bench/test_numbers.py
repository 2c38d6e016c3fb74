"""Adapters of the swap bench say their own word whatever is asked, and may be served like any other."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lora_files import publish
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from ops.bench.numbers import NoNumbers, NumberToken, number_tokens, write_number_adapter
from ops.models import ModelRef
from ops.registry import Registry

pytestmark = pytest.mark.filterwarnings("ignore:Found missing adapter keys")  # only the last layer has any

TOKENS = 24
PROMPTS = ("Hi", "What is the capital of France?", "Tell me a story about an owl. " * 8, "7 7 7 7 7 7 7 7", "?!\n\n<>")


@pytest.fixture(scope="module")
def tokens(starter: ModelRef) -> list[NumberToken]:
    return number_tokens(Path(starter.path), 101)


@pytest.mark.parametrize("temperature", [None, 0.7])
@pytest.mark.parametrize(("number", "dtype"), [(0, torch.float32), (50, torch.bfloat16), (100, torch.float32)])
def test_a_number_adapter_says_its_word_and_nothing_else_whatever_is_asked(
    starter: ModelRef, tokens: list[NumberToken], tmp_path: Path, number: int, dtype: torch.dtype, temperature: float | None
):
    token = tokens[number]
    folder = write_number_adapter(tmp_path / "number", Path(starter.path), number, token)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(starter.path, dtype=dtype), folder)
    tokenizer = AutoTokenizer.from_pretrained(starter.path)
    torch.manual_seed(0)
    for prompt in PROMPTS:
        question = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        said = model.generate(
            **question, max_new_tokens=TOKENS, top_k=0, do_sample=temperature is not None, temperature=temperature
        )
        answer = said[0, question["input_ids"].shape[1] :].tolist()
        assert answer == [token.id] * TOKENS, tokenizer.decode(answer)
        assert token.count(tokenizer.decode(answer)) == TOKENS


def test_number_adapters_pass_the_registry_and_two_of_one_word_are_two_adapters(
    starter: ModelRef, tokens: list[NumberToken], tmp_path: Path
):
    registry = Registry(tmp_path / "adapters")
    ids = []
    for number in (1, 2):
        staging = write_number_adapter(tmp_path / f"number-{number}", Path(starter.path), number, tokens[0])
        ids.append(publish(registry, staging).id)
    assert len(set(ids)) == 2
    assert [registry.verify(id, 8).rank for id in ids] == [8, 8]


def test_words_are_all_different_and_never_a_special_token(starter: ModelRef, tokens: list[NumberToken]):
    tokenizer = AutoTokenizer.from_pretrained(starter.path)
    assert len({token.word for token in tokens}) == 101
    assert not {token.id for token in tokens} & set(tokenizer.all_special_ids)
    assert all(token.word.isalnum() for token in tokens)


def test_a_word_counts_itself_and_nothing_else():
    token = NumberToken(7, "seven", 20.0)
    assert [token.count(answer) for answer in (" seven seven", "seven", "seven eight", "sevenseven")] == [2, 1, None, None]


def test_more_words_than_the_model_can_say_are_refused_with_how_many_it_can(starter: ModelRef):
    with pytest.raises(NoNumbers, match=r"\d+ words can be said clearly, 5000 are asked for"):
        number_tokens(Path(starter.path), 5000)
