"""The reward model's bench, whole, on the tiny model and people with a plain taste."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from judgements import taste

from ops.errors import CommandError
from ops.settings import Settings, load_settings
from trainer.bench.readings import Kept
from trainer.bench.reward import Options, decided_pairs, folds_of, imported, opening, run, shorter_margins
from trainer.frozen import Reader
from trainer.policy import AdapterModel

WAYS = {"majority", "shorter wins", "TF-IDF", "frozen states", "reward model"}


def transcripts(tmp_path: Path, count: int) -> str:
    """Everybody asks twice; polite answers are chosen, and are the longer ones but for one in four."""
    file = tmp_path / "pairs.jsonl"
    rows = []
    for number in range(count):
        begin = f"\n\nHuman: question {number // 2}?\n\nAssistant:" + ("" if number % 2 else " hm?\n\nHuman: well?\n\nAssistant:")
        rude = f" ugh, {number} no" + (" and no and no" if number % 4 == 0 else "")
        rows.append(json.dumps({"chosen": f"{begin} thanks, {number} yes", "rejected": begin + rude}))
    file.write_text("\n".join(rows))
    return str(file)


@pytest.fixture
def settings(tmp_path: Path, tiny_folder: Path) -> Settings:
    return load_settings(data_dir=tmp_path, model=str(tiny_folder), train={"reward": {"trunk": "frozen"}})


def test_every_pair_is_foretold_once_by_what_learnt_from_other_conversations(tmp_path: Path, settings: Settings):
    said: list[str] = []
    options = Options(transcripts(tmp_path, 36), "hh-rlhf", folds=3, limit=None)
    made = run(options, settings, tmp_path / "bench", lambda what, share: said.append(what))
    assert (made["pairs"], made["conversations"]) == (36, 18)
    assert set(made["ways"]) == WAYS
    assert all(len(row["folds"]) == 3 for row in made["ways"].values())
    assert made["ways"]["reward model"]["accuracy"]["value"] >= 0.9
    assert made["ways"]["TF-IDF"]["accuracy"]["value"] >= 0.9
    assert made["ways"]["shorter wins"]["accuracy"]["value"] == 0.25
    assert [figure["name"] for figure in made["figures"] if figure["aim"] is not None] == [
        "reward model, % foretold",
        "points over TF-IDF, at least",
        "points over frozen states, at least",
    ]
    json.dumps(made)
    assert not list((tmp_path / "bench").glob("tmp*"))
    assert said.count("folds") == 3 * 5 + 1


def test_what_has_been_read_is_kept_in_a_file_and_read_no_more(tmp_path: Path, tiny: AdapterModel):
    passes: list[int] = []
    tiny.decoder.register_forward_hook(lambda *_: passes.append(1))
    examples, file = taste(8, seed=1), tmp_path / "readings.safetensors"
    first = Kept(Reader(tiny), tiny, file)
    first.read_all(examples[:6], lambda what, share: None)
    before = len(passes)
    second = Kept(Reader(tiny), tiny, file)
    second.read_all(examples[:6], lambda what, share: None)
    pairs = [example for example in examples[:6] if example.is_pair]
    assert second.means(pairs) == pytest.approx(first.means(pairs))
    assert len(passes) == before > 0
    second.read_all(examples, lambda what, share: None)
    assert len(passes) > before


def test_the_data_sets_order_is_forgotten_and_conversations_that_begin_alike_share_a_fold(tmp_path: Path):
    options = Options(transcripts(tmp_path, 20), "hh-rlhf", folds=5, limit=None)
    examples = decided_pairs(imported(options, tmp_path / "bench"), None)
    folds = folds_of([opening(example) for example in examples], 5)
    assert sorted(set(folds)) == [0, 1, 2, 3, 4]
    by_opening: dict[str, set[int]] = {}
    for example, fold in zip(examples, folds, strict=True):
        by_opening.setdefault(example.prompt[0].content, set()).add(fold)
    assert len(by_opening) == 10
    assert all(len(each) == 1 for each in by_opening.values())
    assert {example.label for example in examples} == {"a", "b"}
    assert len(decided_pairs(examples, 7)) == 7
    chosen = [example.answers["ab".index(example.label)] for example in examples]
    assert all("thanks" in answer for answer in chosen)
    margins = shorter_margins([], examples)
    assert margins == [len(example.answers[1]) - len(example.answers[0]) for example in examples]


def test_too_few_conversations_and_a_file_of_something_else_are_refused_by_name(tmp_path: Path):
    with pytest.raises(CommandError, match="--folds=5: the data has 2 conversations"):
        folds_of(["one", "other", "one"], 5)
    with pytest.raises(CommandError, match="none of its 4 rows could be used as arena"):
        imported(Options(transcripts(tmp_path, 4), "arena", folds=5, limit=None), tmp_path / "bench")
