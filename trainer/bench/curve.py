"""How good a reward model is after so many votes of simulated people, beside whoever knows nothing and whoever reads words.

Tested on pairs of the base's answers to held-out questions, of which one is better by the people's taste without noise: what
is counted is the truth found out, not the noise foretold.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from feedback.events import BASE, Message
from feedback.ids import text_hash
from feedback.join import Vote
from ops.bench.table import Figure, machine
from ops.domain.people import crowd, gold_preference
from ops.models import prepared
from ops.open_log import open_log_of
from ops.progress import Report
from ops.settings import RewardSettings, Settings
from trainer.bench.voters import Shares, Voters
from trainer.doubt import asking
from trainer.evaluate import ask
from trainer.examples import Example, believed, prompt_hash
from trainer.generate import generate
from trainer.inbox import Inbox
from trainer.load import load_model
from trainer.policy import AdapterModel
from trainer.report import RewardReport
from trainer.vote_curve import tried


@dataclass(frozen=True)
class Options:
    sizes: tuple[int, ...] = (50, 100, 200, 400, 800)
    seeds: tuple[int, ...] = (0, 1, 2)
    adversaries: tuple[float, ...] = (0.0,)
    people: int = 40
    pairs: int = 1000
    """Held out; those of two as good answers do not count."""


def run(options: Options, settings: Settings, tell: Report) -> dict[str, Any]:
    """The report: a figure for each number of votes, its aim being TF-IDF's; ``raw`` has each seed's `RewardReport`."""
    before, raw = machine(), []
    runs = [(share, seed) for share in options.adversaries for seed in options.seeds]
    for done, (share, seed) in enumerate(runs):
        tell(f"{share:.0%} adversaries, seed {seed}", done / len(runs))
        model = load_model(settings.model_copy(update={"seed": seed}), prepared(settings))
        votes = _votes(model, options, settings, share, seed)
        tested = gold_pairs(model, settings, options.pairs, seed)
        told = learning_curve(model, votes, tested, options.sizes, settings.train.reward, seed)
        raw += [
            {"adversaries": share, "seed": seed, "size": size, **each.to_json()}
            for size, each in zip(options.sizes, told, strict=True)
        ]
    tell("", 1.0)
    return {
        "bench": "curve",
        "machine": before,
        "figures": [figure.as_json() for figure in figures(raw)],
        "notes": [
            f"Share of held-out pairs in which it finds the better answer, means of seeds {', '.join(map(str, options.seeds))};"
            " the aim is a logistic regression on the words' TF-IDF, taught the same votes."
        ],
        "raw": raw,
    }


def learning_curve(
    model: AdapterModel,
    votes: Sequence[Vote],
    tested: Sequence[Example],
    sizes: Sequence[int],
    settings: RewardSettings,
    seed: int,
) -> Iterator[RewardReport]:
    """For each size a model of its own, taught the first so many votes and tried on the same pairs; each as it is made."""
    for size in sizes:
        first = votes[:size]
        yield tried(model, believed(first), tested, settings, seed, ask=asking(first))


def gold_pairs(model: AdapterModel, settings: Settings, count: int, seed: int) -> list[Example]:
    """Pairs of the base's answers to at most ``count`` held-out questions, without those that are as good as each other."""
    asked = ask(count, seed)
    prompts = [model.encode_prompt([{"role": "user", "content": question}]) for question in asked]
    how = {"temperature": settings.sampling.pair_temperature, "max_new_tokens": settings.sampling.max_tokens}
    made = generate(model, BASE, prompts, n=2, seed=seed, **how)
    texts = [[model.decode_answer(answer.tokens) for answer in said] for said in made]
    ended = [tuple(answer.ended for answer in said) for said in made]
    pairs = map(gold_pair, asked, texts, ended)
    return [pair for pair in pairs if pair is not None]


def gold_pair(question: str, answers: Sequence[str], ended: tuple[bool, ...]) -> Example | None:
    """What the people's taste without noise says of two answers; None where they are as good as each other."""
    better = gold_preference(question, *answers)
    if better == 0.5:
        return None
    prompt = (Message(role="user", content=question),)
    return Example(
        feedback_id=text_hash(question),
        time=0.0,
        rater="",
        prompt=prompt,
        prompt_hash=prompt_hash(prompt),
        answers=tuple(answers),
        ended=ended,
        label="a" if better else "b",
    )


def figures(raw: Sequence[dict[str, Any]]) -> list[Figure]:
    """One for each share of adversaries and number of votes, in the order in which they come."""
    found = []
    for share, size in dict.fromkeys((each["adversaries"], each["size"]) for each in raw):
        own = [each for each in raw if (each["adversaries"], each["size"]) == (share, size)]
        name = f"{size} votes" + (f", {share:.0%} of the people adversaries" if share else "")
        values = ", ".join(f"{each['accuracy']:.3f}" for each in own)
        note = f"TF-IDF {fmean(each['tfidf'] for each in own):.3f}; by seed {values}"
        found.append(Figure(name, fmean(each["accuracy"] for each in own), fmean(each["tfidf"] for each in own), "least", note))
    return found


def _votes(model: AdapterModel, options: Options, settings: Settings, adversaries: float, seed: int) -> tuple[Vote, ...]:
    """On the base's answers, in a log of their own that is gone afterwards; the oldest first."""
    folder = settings.data_dir / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        own = settings.model_copy(update={"data_dir": Path(place), "seed": seed})
        with open_log_of(own) as log:
            people = crowd(options.people, seed=seed, adversaries=adversaries)
            Voters(people, log, own, seed, Shares()).vote(model, BASE, BASE, max(options.sizes))
            inbox = Inbox(log, own.project)
            inbox.refresh()
            return tuple(sorted(inbox.batch({}).votes, key=lambda vote: vote.time))
