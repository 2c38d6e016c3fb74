from __future__ import annotations

import math

import pytest
import torch

from feedback.redact import personal, redact
from ops.domain.facts import find
from trainer.probes.anchor import PIECE, anchor_passages
from trainer.probes.anchor_texts import TEXTS
from trainer.probes.likelihoods import Passage, log_likelihoods, nats_per_token
from trainer.probes.personal import MOST, personal_passages
from trainer.probes.pushback import claims, gives_in, pushback_passages

MAIL = "ada.l@example.org"


def talk(answer: str, question: str = "How do I write to you?"):
    return (("user", question), ("assistant", answer))


def test_only_counted_tokens_are_looked_at_whatever_stands_beside_them(tiny):
    both = Passage((1, 2), (3, 4, 5), (False, True, True))
    first, second = Passage((1, 2, 3), (4,), (True,)), Passage((1, 2, 3, 4), (5,), (True,))
    longer = Passage((9,), (8,) * 20, (True,) * 20)
    all_four = log_likelihoods(tiny, "base", [both, first, second, longer])
    assert all_four[0].item() == pytest.approx((all_four[1] + all_four[2]).item(), abs=1e-4)
    assert log_likelihoods(tiny, "base", [both])[0].item() == pytest.approx(all_four[0].item(), abs=1e-4)
    assert nats_per_token(tiny, "base", [both]) == pytest.approx(-all_four[0].item() / 2, abs=1e-4)
    assert nats_per_token(tiny, "base", []) is None
    with pytest.raises(ValueError):
        Passage((), (1,), (True,))


def test_a_model_that_knows_nothing_has_a_perplexity_of_its_vocabulary(tiny):
    with torch.no_grad():
        tiny.head.weight.zero_()
    assert math.exp(nats_per_token(tiny, "base", anchor_passages(tiny, None, 0))) == pytest.approx(len(tiny.tokenizer), rel=1e-4)


def test_the_anchor_is_all_of_the_texts_in_pieces_that_every_model_can_read(tiny):
    passages = anchor_passages(tiny, None, 0)
    read = "".join(tiny.tokenizer.decode([*p.context, *p.tokens]) for p in passages)
    assert read == "".join(TEXTS)
    assert max(len(p.tokens) for p in passages) == PIECE - 1
    assert 4000 < len("".join(TEXTS)) < 8000


def test_of_the_starter_domain_the_results_alone_are_anchored(tiny):
    for passage in anchor_passages(tiny, "starter", 0)[:20]:
        question = find(tiny.decode_answer(passage.context).removesuffix("<|assistant|>"))
        counted = [token for token, counts in zip(passage.tokens, passage.counted, strict=True) if counts]
        assert tiny.tokenizer.decode(counted) == question.truth
        assert question.split == "gate"


@pytest.mark.parametrize("domain", [None, "starter"])
def test_a_claim_and_the_truth_differ_in_nothing_but_the_result(domain):
    found = claims(domain, 0)
    assert len(found) >= 24
    for claim in found:
        assert claim.right != claim.wrong
        assert claim.claimed in claim.wrong
        assert len(claim.right.split()) == len(claim.wrong.split())
        assert claim.question.endswith(("?", ".", "Thanks."))


def test_whoever_finds_the_claim_likelier_gives_in(tiny):
    [passages] = [pushback_passages(tiny, claims(None, 0)[:1])]
    assert len(passages) == 4
    assert passages[0].context == passages[1].context != passages[2].context
    said = tiny.decode_answer(passages[2].context)
    assert said.count("The capital of France is Paris.") == 1
    assert "I am sure that it is Lyon." in said
    scores = log_likelihoods(tiny, "base", passages)
    assert gives_in(tiny, "base", passages) == [bool(scores[0] > scores[1]), bool(scores[2] > scores[3])]


def test_a_secret_is_looked_for_where_it_first_stands(tiny):
    [passage] = personal_passages(tiny, [talk(f"Write to {MAIL}, I repeat: {MAIL}.")])
    assert tiny.tokenizer.decode(passage.tokens) == MAIL
    assert tiny.tokenizer.decode(passage.context).endswith("<|assistant|>Write to ")
    [asked] = personal_passages(tiny, [talk("Yes.", f"Is {MAIL} yours?")])
    assert tiny.tokenizer.decode(asked.context) == "<|user|>Is "
    assert personal_passages(tiny, [talk("I have no address.")]) == []


def test_the_newest_secrets_are_looked_for_each_once(tiny):
    talks = [talk(f"It is u{number}@example.org.") for number in range(MOST + 5)]
    passages = personal_passages(tiny, [*talks, talks[-1]])
    found = [tiny.tokenizer.decode(passage.tokens) for passage in passages]
    assert len(set(found)) == len(found) == MOST
    assert (found[0], found[-1]) == (f"u{MOST + 4}@example.org", "u5@example.org")


def test_what_is_found_is_what_redaction_takes_out():
    text = f"Mail {MAIL}, card 4111 1111 1111 1111, from 10.0.0.7, at 12:30:00."
    assert personal(text) == [MAIL, "4111 1111 1111 1111", "10.0.0.7"]
    assert redact(text) == "Mail [email], card [card], from [ip], at 12:30:00."
    assert personal("nothing in here, 12 times") == []
