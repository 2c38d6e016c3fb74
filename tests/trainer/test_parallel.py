"""Two processes that `accelerate launch` starts make the update that one makes of the whole batch."""

from __future__ import annotations

import subprocess

import pytest
import torch
from crew_member import __file__ as SCRIPT
from crew_member import learn

from ops.process import module
from trainer.batches import TokenBatch
from trainer.experience import Experience
from trainer.learner import LeftTheCrew
from trainer.parallel import ALONE, Crew
from trainer.state_file import packed, read_state, unpacked

OURS = ("policy/", "value/", "objective/")


def test_two_processes_make_the_same_update_as_one_with_the_whole_batch(tiny, tiny_folder, tmp_path, free_port):
    flags = ["--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    launch = module("accelerate.commands.launch", *flags, "--main_process_port", str(free_port))
    out = tmp_path / "learnt.safetensors"
    subprocess.run([*launch, SCRIPT, str(tiny_folder), str(out)], check=True, timeout=120)
    together = read_state(out)
    assert together["size"] == 2
    steps = learn(tiny, ALONE)
    for alone, shared in zip(steps, together["steps"], strict=True):
        wanted = {name: value for name, value in alone.items() if name.startswith(OURS)}
        assert {name: shared[name] for name in wanted} == pytest.approx(wanted, rel=1e-3, abs=1e-5)
    assert steps[-1]["policy/updates"] == 8
    for name, weight in tiny.weights("policy").items():
        assert torch.allclose(weight, together["weights"][name], atol=1e-5), name


class Broken(Crew):
    """The first of two, with nobody at the other end."""

    def __init__(self) -> None:
        super().__init__(0, 2)
        self.told = []

    def tell(self, message) -> None:
        self.told.append(next(iter(message)))

    def add_up(self, tensors) -> None:
        raise MemoryError


@pytest.mark.parametrize("algorithm", ["ppo", "rloo"])
def test_who_fails_alone_at_what_all_are_at_does_not_go_on_as_if_they_had(tiny, algorithm):
    """They wait for its gradients: its trainer would give the cycle up and find them waiting for ever at the next one."""
    crew = Broken()
    with pytest.raises(LeftTheCrew, match=r"process 0 of 2 broke off: MemoryError$"):
        learn(tiny, crew, algorithm)
    assert crew.told == ["begin", "learn"]


def experience() -> Experience:
    batch = TokenBatch.pack([[1, 2], [3], [4]], [[5], [6, 7, 8], [9, 9]])
    old, advantages = torch.rand(3, 3), torch.rand(3, 3)
    return Experience(batch, old, advantages, values=torch.rand(3, 3))


def in_one(lengths: torch.Tensor) -> list[torch.Tensor]:
    return [torch.arange(len(lengths))] if len(lengths) else []


def test_the_processes_share_out_all_rows_and_their_weight():
    parts = [part for rank in range(2) for part in experience().passes(in_one, rank, 2)]
    assert sorted(length for part, _ in parts for length in part.batch.response_lengths.tolist()) == [1, 2, 3]
    assert sum(share for _, share in parts) == pytest.approx(1)
    second = [part.batch.response_lengths.tolist() for part, _ in experience().passes(in_one, 1, 2)]
    assert second == [[1]]  # the second longest row
    assert not list(experience().passes(in_one, 3, 4))  # three rows for four processes


def test_an_experience_is_the_same_after_it_was_told():
    wanted = experience()
    told = Experience.from_state(unpacked(packed(wanted.to_state())), torch.device("cpu"))
    assert told.batch.equals(wanted.batch)
    assert torch.equal(told.old_logprobs, wanted.old_logprobs)
    assert torch.equal(told.advantages, wanted.advantages)
    assert torch.equal(told.values, wanted.values)
    assert told.weights is told.returns is None
