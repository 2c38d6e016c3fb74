from __future__ import annotations

import pytest
import torch

from trainer.batches import TokenBatch
from trainer.frozen import A_PHRASE, FEW_TOKENS, FORM, Reader, depths, readings, width
from trainer.policy import AdapterModel
from trainer.surprise import COUNT, surprises

PROMPTS, ANSWERS = ((5, 6, 7), (10, 11, 12, 13)), ((8, 9), (14,))
BOTH = list(zip(PROMPTS, ANSWERS, strict=True))


def test_a_layer_past_the_middle_and_the_last_one_are_read():
    assert depths(30) == (18, 30)
    assert depths(2) == (1, 2)
    assert depths(1) == (1, 1)


def test_read_are_the_words_mean_states_at_both_depths_and_their_surprises(tiny: AdapterModel):
    tokens = torch.tensor([[*PROMPTS[0], *ANSWERS[0]]])
    with torch.no_grad():
        inner = tiny.decoder(input_ids=tokens, output_hidden_states=True).hidden_states
    means = [inner[depth][0, 3:5].mean(0) for depth in (1, 2)]
    surprised = surprises(tiny, TokenBatch.pack(PROMPTS[:1], ANSWERS[:1]))[0]
    expected = torch.cat([*means, readings(tiny, BOTH[:1])[0, -COUNT - FORM : -COUNT], surprised])
    assert readings(tiny, BOTH[:1])[0] == pytest.approx(expected, abs=1e-4)


def test_the_form_is_the_length_over_the_shortest_that_counts_and_how_likely_an_end_is(tiny: AdapterModel):
    long = (PROMPTS[0], (9,) * (4 * FEW_TOKENS))
    with torch.no_grad():
        logs = tiny.model(torch.tensor([[*long[0], *long[1]]])).logits[0, -1].log_softmax(-1)
    length, phrase, end = readings(tiny, [long])[0, -COUNT - FORM : -COUNT].tolist()
    assert length == pytest.approx(1.386, abs=1e-3)  # ln 4
    assert phrase == 1.0
    assert end == pytest.approx(logs[tiny.eos_token].item() + 10, abs=1e-3)  # an even choice of 64 tokens or so: -4.2 nats


def test_an_answer_of_few_tokens_is_not_the_shorter_the_fewer_they_are(tiny: AdapterModel):
    answers = [(PROMPTS[0], (9,) * count) for count in (FEW_TOKENS, A_PHRASE, A_PHRASE // 2)]
    lengths, phrases = readings(tiny, answers)[:, -COUNT - FORM : -COUNT + 2 - FORM].T.tolist()
    assert lengths == [0.0, 0.0, 0.0]
    assert phrases == [1.0, 1.0, 0.5]  # but one of too few says hardly anything


def test_whether_an_answers_end_token_is_there_makes_no_difference(tiny: AdapterModel):
    ended = (PROMPTS[0], (*ANSWERS[0], tiny.eos_token))
    assert torch.equal(readings(tiny, [ended]), readings(tiny, BOTH[:1]))


def test_readings_depend_neither_on_padding_nor_on_adapters(tiny: AdapterModel):
    alone = torch.cat([readings(tiny, [answer]) for answer in BOTH])
    tiny.add("policy")
    for weight in tiny.trainable("policy"):
        weight.data.fill_(0.5)
    with tiny.using("policy"):
        together = readings(tiny, BOTH)
    assert together == pytest.approx(alone, abs=1e-4)


def test_in_an_empty_answer_there_is_nothing_to_read(tiny: AdapterModel):
    assert not readings(tiny, [(PROMPTS[0], ()), (PROMPTS[0], (tiny.eos_token,))]).any()
    assert not readings(tiny, [(PROMPTS[0], ()), BOTH[1]])[0].any()


def test_an_answer_is_read_once_while_it_is_remembered(tiny: AdapterModel):
    passes: list[int] = []
    tiny.decoder.register_forward_hook(lambda *_: passes.append(1))
    reader = Reader(tiny, kept=2)
    a, b, c = ((1, 2), (3,)), ((1, 2), (4,)), ((1,), (3,))
    both = reader([a, b, a])
    assert torch.equal(both[0], both[2])
    assert not torch.equal(both[0], both[1])
    assert torch.equal(reader([b])[0], both[1])
    assert len(passes) == 1
    reader([c])  # a was used longest ago
    reader([b, c])
    assert len(passes) == 2
    reader([a])
    assert len(passes) == 3
    assert reader([]).shape == (0, width(tiny))
