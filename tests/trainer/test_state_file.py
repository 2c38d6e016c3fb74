from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from trainer.state_file import read_state, write_state


def test_an_optimizer_comes_back_as_it_was(tmp_path: Path):
    weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = torch.optim.Adam([weight], lr=0.1)
    weight.sum().backward()
    optimizer.step()
    write_state(tmp_path / "state", optimizer.state_dict())
    again = torch.optim.Adam([weight], lr=0.7)
    again.load_state_dict(read_state(tmp_path / "state"))
    assert again.param_groups[0]["lr"] == 0.1
    for key, value in optimizer.state[weight].items():
        assert torch.equal(again.state[weight][key], value)


def test_numbers_keep_every_bit_and_keys_their_type(tmp_path: Path):
    random = torch.Generator().manual_seed(5)
    state = {1: [0.1 + 0.2, -math.inf, None, True], "random": random.get_state(), "none": {}, "empty": torch.zeros(0)}
    write_state(tmp_path / "state", state)
    again = read_state(tmp_path / "state")
    assert list(again) == [1, "random", "none", "empty"]
    assert (again[1], again["none"]) == ([0.1 + 0.2, -math.inf, None, True], {})
    other = torch.Generator()
    other.set_state(again["random"])
    assert torch.equal(torch.randn(4, generator=other), torch.randn(4, generator=random))


def test_tensors_that_share_memory_are_written_each(tmp_path: Path):
    whole = torch.arange(4.0)
    write_state(tmp_path / "state", [whole, whole[1:], whole[::2]])
    assert [tensor.tolist() for tensor in read_state(tmp_path / "state")] == [[0, 1, 2, 3], [1, 2, 3], [0, 2]]


def test_the_same_state_gives_the_same_bytes(tmp_path: Path):
    for name in "ab":
        write_state(tmp_path / name, {"x": torch.ones(3), "y": [1.5, torch.zeros(2)]})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_what_is_no_plain_value_is_refused(tmp_path: Path):
    with pytest.raises(TypeError, match="set: a state is made of"):
        write_state(tmp_path / "state", {"x": {1, 2}})
