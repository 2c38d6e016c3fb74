"""What `plaudit export` writes loads with ``datasets`` and trains with TRL's trainers as it is."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import datasets
import pytest
import trl
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from vote_log import completion, fill

from feedback.events import Correction, Event, FeedbackSet, Target
from feedback.sqlite_log import SqliteLog
from ops.exporting import export

TRAINERS = {
    "DPO": ("preference", AutoModelForCausalLM),
    "Reward": ("preference", AutoModelForSequenceClassification),
    "KTO": ("kto", AutoModelForCausalLM),
    "SFT": ("sft", AutoModelForCausalLM),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All formats of a log with thumbs, pairs and corrections."""
    folder = tmp_path_factory.mktemp("exported")
    log = SqliteLog(folder / "log.db")
    fill(log, 48)
    corrected = [completion(f"c{n}", f"why {n}?", "ugh") for n in range(4)]
    log.append([*corrected, *(_correction(n) for n in range(4))])
    for format in ("preference", "kto", "sft", "raw"):
        for suffix in ("jsonl", "parquet"):
            path = folder / f"{format}.{suffix}"
            export(log, format=format, project="default", path=path, parquet=suffix == "parquet")  # type: ignore[arg-type]
    log.close()
    return folder


def _correction(number: int) -> Event:
    data = FeedbackSet(
        feedback_id=f"k{number}",
        target=Target(completion_ids=(f"c{number}",)),
        rater=f"r{number}",
        judgement=Correction(text="thanks, it is so"),
    )
    return Event(id=f"k{number}", time=99.0, project="default", key="conversation", data=data)


def loaded(folder: Path, name: str, cache: Path) -> datasets.Dataset:
    builder = "json" if name.endswith("jsonl") else "parquet"
    return datasets.load_dataset(builder, data_files=str(folder / name), cache_dir=str(cache), split="train")


@pytest.mark.parametrize("format", ["preference", "kto", "sft"])
def test_json_lines_and_parquet_load_alike(folder, tmp_path, format):
    lines, table = (loaded(folder, f"{format}.{suffix}", tmp_path) for suffix in ("jsonl", "parquet"))
    assert lines.features == table.features
    assert lines.to_list() == table.to_list()
    assert len(lines) >= 32  # 48 votes, a third of them thumbs, and 4 corrections
    assert set(lines["split"]) > {"train"}


def test_raw_events_load_too(folder, tmp_path):
    for name in ("raw.jsonl", "raw.parquet"):
        assert set(loaded(folder, name, tmp_path)["type"]) == {"completion.created", "feedback.set"}


@pytest.mark.parametrize("trainer", TRAINERS)
def test_trls_trainers_take_the_file_as_it_is(folder, tiny_folder, tmp_path, trainer):
    format, model_class = TRAINERS[trainer]
    rows = loaded(folder, f"{format}.jsonl", tmp_path)
    options: dict[str, Any] = {"num_labels": 1} if trainer == "Reward" else {}
    config = getattr(trl, f"{trainer}Config")(
        output_dir=str(tmp_path / "out"),
        max_steps=2,
        per_device_train_batch_size=4,
        learning_rate=1e-2,
        logging_steps=1,
        bf16=False,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    teacher = getattr(trl, f"{trainer}Trainer")(
        model=model_class.from_pretrained(tiny_folder, **options),
        args=config,
        train_dataset=rows,
        processing_class=AutoTokenizer.from_pretrained(tiny_folder),
    )
    before = {name: weight.detach().clone() for name, weight in teacher.model.named_parameters()}
    result = teacher.train()
    assert result.global_step == 2
    assert math.isfinite(result.training_loss)
    assert any((weight != before[name]).any() for name, weight in teacher.model.named_parameters())
    assert len(teacher.train_dataset) == len(rows)  # none was filtered out
