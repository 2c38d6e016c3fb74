"""An adapter that has forgotten is weakened as far as it must be, and no further."""

from __future__ import annotations

import math
from math import exp
from pathlib import Path

import pytest
import torch
from noise import noisy
from transformers import AutoModelForCausalLM, AutoTokenizer
from vote_log import events, logged, settings_for

from ops.registry import Registry
from trainer.policy import AdapterModel
from trainer.probes.anchor import anchor_passages
from trainer.probes.anchor_texts import TEXTS
from trainer.probes.likelihoods import Passage, nats_per_token
from trainer.process import run_cycle
from trainer.soften import LEAST, interpolate, soften


def rise(model: AdapterModel, texts: list[Passage], factor: float = 1.0) -> float:
    """The perplexity's, over the base's, with "policy" scaled so."""
    kept = copies(model)
    for key, weight in model.weights("policy").items():
        weight.mul_(factor if "lora_B" in key else 1.0)
    found = exp(nats_per_token(model, "policy", texts) - nats_per_token(model, "base", texts))
    for key, weight in model.weights("policy").items():
        weight.copy_(kept[key])
    return found


def copies(model: AdapterModel) -> dict[str, torch.Tensor]:
    return {key: weight.clone() for key, weight in model.weights("policy").items()}


@pytest.fixture(scope="module")
def well_read(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model's folder after it has read the anchor's texts, so that there is something to forget."""
    model = AutoModelForCausalLM.from_pretrained(tiny_folder)
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    pieces = [piece for text in TEXTS for piece in torch.tensor(tokenizer(text).input_ids).split(128) if len(piece) == 128]
    read, optimizer = torch.stack(pieces), torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        model(input_ids=read, labels=read).loss.backward()
        optimizer.step()
    folder = tmp_path_factory.mktemp("well-read")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def reader(well_read: Path) -> AdapterModel:
    model = AdapterModel.load(well_read, rank=4, alpha=8)
    model.add("policy")
    noisy(model, "policy", size=0.1)
    return model


@pytest.fixture
def texts(reader: AdapterModel) -> list[Passage]:
    return anchor_passages(reader, None, seed=0)


def test_it_is_scaled_by_the_largest_factor_that_will_do(reader: AdapterModel, texts: list[Passage]):
    most = (rise(reader, texts) + rise(reader, texts, 0.8)) / 2
    before = copies(reader)
    factor = soften(reader, "policy", texts, most)
    assert 0.8 < factor < 1.0
    assert rise(reader, texts) <= most
    assert rise(reader, texts, (factor + 1 / 64) / factor) > most
    for key, weight in reader.weights("policy").items():
        expected = before[key] * factor if "lora_B" in key else before[key]
        assert torch.equal(weight, expected)


@pytest.mark.parametrize("why", ["it remembers", "nothing would do", "it is no number", "no texts"])
def test_nothing_is_changed_where_it_need_not_be_or_would_not_help(reader: AdapterModel, texts: list[Passage], why: str):
    most = {"it remembers": rise(reader, texts) + 0.01, "nothing would do": (1 + rise(reader, texts, LEAST)) / 2}.get(why, 1.0001)
    if why == "it is no number":
        next(iter(reader.weights("policy").values()))[0, 0] = math.nan
    before = copies(reader)
    assert soften(reader, "policy", [] if why == "no texts" else texts, most) == 1.0
    assert all(torch.equal(weight.nan_to_num(7), before[key].nan_to_num(7)) for key, weight in reader.weights("policy").items())


def test_a_part_of_the_way_is_between_where_it_began_and_where_it_ended(reader: AdapterModel):
    start, seen = copies(reader), copies(reader)
    noisy(reader, "policy", seed=1)
    end = copies(reader)
    interpolate(reader, "policy", start, 0.25)
    for key, weight in reader.weights("policy").items():
        assert torch.allclose(weight, 0.75 * start[key] + 0.25 * end[key])
        assert torch.equal(start[key], seen[key])


def test_a_cycle_keeps_only_the_share_that_it_is_told_to_of_what_its_training_has_changed(tmp_path, well_read):
    def learnt(share: float) -> dict[str, torch.Tensor]:
        folder = tmp_path / str(share)
        folder.mkdir()
        settings = settings_for(folder, well_read, algorithm="sft", sft={"epochs": 1}, soften_to=None, interpolation=share)
        logged(settings, events(60))
        record = run_cycle(settings)
        model = AdapterModel.load(well_read, rank=8, alpha=16)
        model.add("policy", source=Registry(settings.adapters_dir).path(record.adapter))
        return {key: weight for key, weight in model.weights("policy").items() if "lora_B" in key}

    whole, half = learnt(1.0), learnt(0.5)
    assert all(torch.allclose(half[key], whole[key] / 2, atol=1e-7) for key in whole)  # from zero on
    assert any(weight.abs().max() > 1e-4 for weight in whole.values())


def test_a_cycles_adapter_keeps_within_its_share_of_the_gates_limit_and_says_so(tmp_path, well_read):
    def ended(name: str, **train: object):
        (tmp_path / name).mkdir()
        sft = {"algorithm": "sft", "sft": {"epochs": 1, "learning_rate": 2e-2}}
        settings = settings_for(tmp_path / name, well_read, **sft, **train)
        logged(settings, events(60))
        record = run_cycle(settings)
        [anchor] = [gate for gate in record.gates if gate.name == "anchor_perplexity"]
        return record, anchor, Registry(settings.adapters_dir).get(record.adapter)

    as_it_is, forgetful, _ = ended("never", soften_to=None)
    assert as_it_is.softened == 1.0
    limit = (forgetful.value - 1) * 0.99
    softened, anchor, manifest = ended("softened", soften_to=0.9, gates={"max_anchor_rise": limit})
    assert (forgetful.value <= 1 + limit, anchor.passed) == (False, True)
    assert LEAST <= softened.softened < 1.0
    assert anchor.value <= 1 + 0.9 * limit + 1e-6
    assert manifest.training["softened"] == softened.softened
