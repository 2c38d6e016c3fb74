"""One trainer in several processes, as ``accelerate launch`` starts them: gradient steps are shared, all else is the first one's.

The first reads the log, holds the lease, samples, scores, judges and publishes. It tells the others what there is to learn from;
of every minibatch each takes its share of the rows, gradients are added up, and all make the same step: their weights never part.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed

from trainer.state_file import packed, unpacked

_FOR_EVER = timedelta(days=365)
"""The others wait for votes as long as the first one does."""


class Crew:
    """The processes of one trainer: this one is number ``rank`` of ``size``. 0 leads; one alone has nobody to tell."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @classmethod
    def joined(cls) -> Crew:
        """Those that were started together by ``accelerate launch`` or ``torchrun``; without either, this process alone."""
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls()
        backend = "gloo"
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
            backend = "cpu:gloo,cuda:nccl"
        distributed.init_process_group(backend, timeout=_FOR_EVER)
        return cls(distributed.get_rank(), distributed.get_world_size())

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Each becomes the sum of what the processes have for it: the same bits in all of them."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        distributed.all_reduce(flat)
        for tensor, total in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(total.view_as(tensor))

    def tell(self, message: Any) -> None:
        """From the first process to all others: tensors, numbers, strings, and lists and dicts of them."""
        if self.size == 1:
            return
        content = torch.frombuffer(bytearray(packed(message)), dtype=torch.uint8)
        distributed.broadcast(torch.tensor([len(content)]), 0)
        distributed.broadcast(content, 0)

    def hear(self) -> Any:
        """The next thing that the first process tells; waits for it. Tensors are on the CPU."""
        length = torch.zeros(1, dtype=torch.long)
        distributed.broadcast(length, 0)
        content = torch.zeros(int(length), dtype=torch.uint8)
        distributed.broadcast(content, 0)
        return unpacked(content.numpy().tobytes())

    def leave(self) -> None:
        """The first process tells the others that it is done; all close what connects them: its threads do not outlive it.

        For who ends in order: one that fails is to die at once, lest the others wait for it.
        """
        if self.size == 1:
            return
        if not self.rank:
            with suppress(RuntimeError):  # the others have failed and are gone
                self.tell(None)
        distributed.destroy_process_group()


ALONE = Crew()
