"""What the frozen model has read in a data set, kept beside the bench's other files: reading is nearly all of its time.

A data set is a file that is there anyway, so unlike the trainer (see `trainer.frozen`) a bench may keep what it has read of it.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from ops.progress import Report
from trainer.examples import Example
from trainer.frozen import Answer, Reader
from trainer.policy import AdapterModel
from trainer.reward import LONGEST_ANSWER, LONGEST_PROMPT, encode_prompt

_AT_ONCE = 128
"""Answers between two writes."""


class Kept:
    """A `Reader` whose readings are in a file too."""

    def __init__(self, reader: Reader, model: AdapterModel, file: Path) -> None:
        self.reader, self.model, self.file = reader, model, file
        self.seconds = 0.0
        """That reading has taken in this run."""

    def read_all(self, examples: Sequence[Example], report: Report) -> None:
        """Read what is not in the file yet, adding to it now and then."""
        answers = list(dict.fromkeys(answer for example in examples for answer in self.answers(example)))
        kept = load_file(self.file) if self.file.is_file() else {}
        names = {answer: _name(answer) for answer in answers}
        self.reader.known.update((answer, kept[name]) for answer, name in names.items() if name in kept)
        new = [answer for answer in answers if names[answer] not in kept]
        before = time.monotonic()
        for start in range(0, len(new), _AT_ONCE):
            report("reading answers", 1 - (len(new) - start) / len(answers))
            part = new[start : start + _AT_ONCE]
            kept |= {names[answer]: reading.cpu().clone() for answer, reading in zip(part, self.reader(part), strict=True)}
            staging = self.file.with_suffix(".new")
            save_file(kept, staging)
            staging.rename(self.file)
        report("reading answers", 1.0)
        self.seconds = time.monotonic() - before

    def answers(self, example: Example) -> list[Answer]:
        """As the reward model reads them."""
        prompt = tuple(encode_prompt(self.model, example.prompt)[-LONGEST_PROMPT:])
        rows = [self.model.encode_answer(text) for text in example.answers]
        cut = [row if ended else row[:-1] for row, ended in zip(rows, example.ended, strict=True)]
        return [(prompt, tuple(row[:LONGEST_ANSWER])) for row in cut]

    def means(self, pairs: Sequence[Example]) -> NDArray[np.float32]:
        """(B, 2 H) the first answer's mean states less the second's."""
        read = self.reader([answer for pair in pairs for answer in self.answers(pair)]).cpu().numpy()
        both = read.reshape(len(pairs), 2, -1)[:, :, : 2 * self.model.hidden_size]
        return np.asarray(both[:, 0] - both[:, 1], np.float32)


def _name(answer: Answer) -> str:
    return hashlib.sha256(json.dumps(answer).encode()).hexdigest()
