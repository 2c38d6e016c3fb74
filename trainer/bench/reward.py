"""``plaudit bench reward``: does the reward model foretell votes of real people that it was not taught?

A data set goes the way of every vote: through the importer into a log, out of it by the trainer's inbox. Conversations that begin
with the same words are in one fold. In each fold the trainer's own reward model learns from the other folds' votes, and so does
what stands beside it; nothing about a fold is chosen by its votes.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from ops.bench.foretold import right, table
from ops.bench.table import Figure, machine
from ops.errors import CommandError
from ops.importing import import_rows
from ops.open_log import open_log_of
from ops.progress import Report
from ops.row_files import rows_of
from ops.settings import Settings, load_settings
from trainer.baselines import majority_margins, tfidf_margins
from trainer.bench.readings import Kept
from trainer.examples import Example, examples_of
from trainer.frozen import Reader, width
from trainer.inbox import Inbox
from trainer.load import load_model
from trainer.models import prepare
from trainer.reward import RewardModel

AIM = 0.68
REWARD, STATES, WORDS = "reward model", "frozen states", "TF-IDF"

PLAIN_C = 1e-3
"""Of the logistic regression: about one over the number of coordinates."""

Way = Callable[[Sequence[Example], Sequence[Example]], list[float]]
"""From votes learnt from and votes tested: a margin for each of the latter, positive for "a"."""


@dataclass(frozen=True)
class Options:
    file: str
    format: str
    folds: int
    limit: int | None


def run(options: Options, settings: Settings, folder: Path, report: Report) -> dict[str, Any]:
    """Measure; the report, fit for JSON, its figures first. ``folder`` keeps what the frozen model has read, for the next run."""
    here, started = machine(), time.monotonic()
    examples = decided_pairs(imported(options, folder), options.limit)
    openings = [opening(example) for example in examples]
    folds = folds_of(openings, options.folds)
    reader = _reader(settings, folder, report)
    reader.read_all(examples, report)
    margins, seconds = foretold(ways_of(reader, settings), examples, folds, report)
    signs = [example.sign for example in examples]
    ways = table({way: right(each, signs) for way, each in margins.items()}, openings, folds, REWARD)
    return {
        "figures": [figure.as_json() for figure in figures(ways)],
        "notes": notes(ways, len(examples), len(set(openings))),
        "machine": here,
        "options": asdict(options) | {"model": settings.model, "reward": settings.train.reward.model_dump()},
        "pairs": len(examples),
        "conversations": len(set(openings)),
        "seconds": {"all": time.monotonic() - started, "reading": reader.seconds} | seconds,
        "ways": ways,
    }


# what is read


def imported(options: Options, folder: Path) -> list[Example]:
    """The file's votes as the trainer's inbox gives them, through a log of their own that is thrown away."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        settings = load_settings(data_dir=Path(scratch), log_backend="sqlite")
        with open_log_of(settings) as log:
            account = import_rows(log, rows_of(options.file), format=options.format, project=settings.project)
            if not account.votes:
                raise CommandError(f"--data={options.file!r}: none of its {account.rows} rows could be used as {options.format}")
            inbox = Inbox(log, settings.project)
            inbox.refresh()
            return examples_of(inbox.batch({}).votes)


def decided_pairs(examples: Sequence[Example], limit: int | None) -> list[Example]:
    """In the order of their ids, which has nothing to do with the file's; the first ``limit`` of them."""
    decided = sorted((e for e in examples if e.is_pair and e.sign), key=lambda example: example.feedback_id)
    return decided[:limit]


def opening(example: Example) -> str:
    """What a person first said: conversations that begin alike are one person's tries at one thing."""
    return next((message.content for message in example.prompt if message.role == "user"), "")


def folds_of(openings: Sequence[str], count: int) -> list[int]:
    """A fold for each vote, openings being dealt out in turn, so that folds are of like size."""
    order = {name: place for place, name in enumerate(dict.fromkeys(openings))}
    if len(order) < count:
        raise CommandError(f"--folds={count}: the data has {len(order)} conversations that begin differently; take fewer folds")
    return [order[name] % count for name in openings]


def _reader(settings: Settings, folder: Path, report: Report) -> Kept:
    ref = prepare(settings, report)
    model = load_model(settings, ref)
    return Kept(Reader(model, kept=10**9), model, folder / f"readings-{ref.digest[:16]}-{width(model)}.safetensors")


# what foretells


def foretold(
    ways: dict[str, Way], examples: Sequence[Example], folds: Sequence[int], report: Report
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Each way's margins of all examples, each by what learnt from the other folds; and the seconds that each way took."""
    margins = {way: [0.0] * len(examples) for way in ways}
    seconds = dict.fromkeys(ways, 0.0)
    count = max(folds) + 1
    for fold in range(count):
        taught = [example for example, own in zip(examples, folds, strict=True) if own != fold]
        places = [place for place, own in enumerate(folds) if own == fold]
        for done, (way, learn) in enumerate(ways.items()):
            report("folds", (fold + done / len(ways)) / count)
            before = time.monotonic()
            for place, margin in zip(places, learn(taught, [examples[place] for place in places]), strict=True):
                margins[way][place] = margin
            seconds[way] += time.monotonic() - before
    report("folds", 1.0)
    return margins, seconds


def ways_of(kept: Kept, settings: Settings) -> dict[str, Way]:
    return {
        "majority": majority_margins,
        "shorter wins": shorter_margins,
        WORDS: tfidf_margins,
        STATES: lambda taught, tested: frozen_margins(kept, taught, tested),
        REWARD: lambda taught, tested: reward_margins(kept, settings, taught, tested),
    }


def shorter_margins(taught: Sequence[Example], tested: Sequence[Example]) -> list[float]:
    """Characters by which the second answer is longer."""
    return [float(len(example.answers[1]) - len(example.answers[0])) for example in tested]


def frozen_margins(kept: Kept, taught: Sequence[Example], tested: Sequence[Example]) -> list[float]:
    """The plainest use of the frozen model: logistic regression on the words' mean states at two depths."""
    learnt, unseen = (kept.means(examples) for examples in (taught, tested))
    scaler = StandardScaler(with_mean=False).fit(learnt)
    model = LogisticRegression(C=PLAIN_C, fit_intercept=False, max_iter=500)
    model.fit(scaler.transform(learnt), [example.sign for example in taught])
    return [float(margin) for margin in model.decision_function(scaler.transform(unseen))]


def reward_margins(kept: Kept, settings: Settings, taught: Sequence[Example], tested: Sequence[Example]) -> list[float]:
    """The trainer's own reward model, taught from nothing."""
    reward = RewardModel(kept.model, "bench", reader=kept.reader)
    try:
        reward.fit(taught, settings.train.reward, settings.seed)
        scores = reward.score_examples(tested)
        return [reward.margin(example, score) for example, score in zip(tested, scores, strict=True)]
    finally:
        kept.model.remove("bench")


# what is told


def figures(ways: dict[str, dict[str, Any]]) -> list[Figure]:
    """Accuracies in percent, then what the reward model has over what it must beat: at the lower end of the interval."""
    made = []
    for way, row in ways.items():
        own, folds = row["accuracy"], row["folds"]
        note = f"{_interval(own)}; folds {100 * min(folds):.1f} to {100 * max(folds):.1f}"
        aim = 100 * AIM if way == REWARD else None
        made.append(Figure(f"{way}, % foretold", round(100 * own["value"], 2), aim, "least", note))
    for way in (WORDS, STATES):
        lead = ways[way]["lead"]
        note = f"{100 * lead['value']:+.1f}; {_interval(lead)}"
        made.append(Figure(f"points over {way}, at least", round(100 * lead["low"], 2), 0.0, "least", note))
    return made


def _interval(share: dict[str, float]) -> str:
    return f"95 %: {100 * share['low']:.1f} to {100 * share['high']:.1f}"


def notes(ways: dict[str, dict[str, Any]], pairs: int, conversations: int) -> list[str]:
    return [
        f"{pairs} pairs of {conversations} conversations; every pair is foretold once, by what learnt from the other folds",
        "intervals: bootstrap over conversations, of the same votes for all ways",
        f"of so many pairs a share of two thirds is known to {100 * math.sqrt(2 / 9 / pairs):.1f} points (one standard error):"
        " they do not tell a lead of a point or two from chance",
    ]
