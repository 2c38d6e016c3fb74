"""The page of learning is made of the reports alone, the same bytes each time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ops.bench.curves import Run, curves
from ops.bench.goals import goals
from ops.bench.page import write_page
from ops.cli.bench import app
from ops.errors import CommandError

FIGURES = ("toxicity", "correct", "garbled", "polite", "rambling", "distinct_2", "kl")


def report(tmp_path: Path, name: str, adversaries: float, *rates: float, algorithm: str = "rloo") -> Path:
    def figures(rate: float) -> dict[str, float]:
        return {"win_rate": rate, **dict.fromkeys(FIGURES, 0.25)}

    runs = [
        {
            "algorithm": algorithm,
            "adversaries": adversaries,
            "seed": seed,
            "start": figures(0.5),
            "rounds": [{"votes": 200, "cpu_s": 30.0, "champion": figures(rate)}],
            "best_of": {} if adversaries else {"gold 4": {"win_rate": 0.84}},
        }
        for seed, rate in enumerate(rates)
    ]
    path = tmp_path / name
    machine = {"cpus": 2, "code_sha256": "abcdef1234", "load_before": [1.5, 1.0, 0.5]}
    path.write_text(
        json.dumps(
            {"command": "plaudit bench learning", "options": {"votes_per_round": 200}, "machine": machine} | {"runs": runs}
        )
    )
    return path


def test_the_page_tells_of_demos(tmp_path):
    gates = [{"name": "anchor_perplexity", "passed": True, "value": 1.0125, "threshold": 1.03}]
    demo = {
        "model": "starter",
        "seed": 3,
        "champion_final": "default-v1-0",
        "adapters": [{"id": "default-v1-0", "gates": gates}, {"id": "default-v2-0", "gates": []}],
        "win_rate": {"value": 0.8605, "low": 0.8376, "high": 0.8806, "n": 1000},
        "votes": 700,
        "requests": 1547,
        "failed_requests": 0,
        "seconds": 261.0,
        "toxicity": {"initial": 0.346, "final": 0.015},
    }
    source, page = tmp_path / "demo.json", tmp_path / "page.md"
    source.write_text(json.dumps(demo))
    write_page(page, [source])
    row = "| starter | 3 | 0.861 [0.838, 0.881] | 700 | 1547 | 0 | 4.3 | 1.012 (gate 1.03) | toxicity 0.346 → 0.015 |"
    assert row in page.read_text()
    source.write_text(json.dumps(demo | {"champion_final": "base"}))
    write_page(page, [source])
    assert "| 4.3 | - |" in page.read_text()


def test_the_page_has_every_curve_the_ceiling_and_what_adversaries_leave(tmp_path):
    sources = [report(tmp_path, "against.json", 0.2, 0.77, 0.81), report(tmp_path, "clean.json", 0.0, 0.78, 0.82)]
    page = tmp_path / "learning.md"
    done = CliRunner().invoke(app, ["page", *map(str, sources), "--to", str(page)])
    assert done.exit_code == 0, done.output
    text = page.read_text()
    assert "| rloo | 0% | 200 votes, 0.5 min | 200 votes, 0.5 min, in 1 of 2 seeds |" in text
    assert "| rloo | 20% adversaries | 0.790 | 97% |" in text  # 0.29 of 0.30
    assert "best of 4 answers by the taste itself has a win rate of 0.840" in text
    assert "| `clean.json` | `plaudit bench learning` | `abcdef12` | 2 | 1.5, 1.0, 0.5 |" in text
    drawn = {path.name: path.read_text() for path in (tmp_path / "learning").iterdir()}
    assert set(drawn) == {"win-rate.svg", "answers.svg", "adversaries.svg"}
    assert all(f"](learning/{name})" in text for name in drawn)
    assert "by the taste itself: 0.84" in drawn["win-rate.svg"]

    write_page(page, sources)
    assert {path.name: path.read_text() for path in (tmp_path / "learning").iterdir()} == drawn


def test_each_algorithm_is_told_of_with_its_adversaries_and_the_one_that_ends_best_has_the_plots(tmp_path):
    sources = [
        report(tmp_path, "kto.json", 0.0, 0.62, algorithm="kto"),
        report(tmp_path, "a.json", 0.2, 0.70, algorithm="ppo"),
        report(tmp_path, "b.json", 0.0, 0.75, algorithm="ppo"),
        report(tmp_path, "c.json", 0.2, 0.78),
        report(tmp_path, "d.json", 0.0, 0.80),
    ]
    write_page(tmp_path / "learning.md", sources)
    text = (tmp_path / "learning.md").read_text()
    kept = text[text.index("## People who vote reversed") : text.index("## What it should reach (rloo)")]
    assert [line.split(" | ")[:2] for line in kept.splitlines() if line.startswith(("| rloo", "| ppo", "| kto"))] == [
        ["| rloo", "0% adversaries"],
        ["| rloo", "20% adversaries"],
        ["| ppo", "0% adversaries"],
        ["| ppo", "20% adversaries"],
    ]
    assert "| ppo | 20% adversaries | 0.700 | 80% |" in kept


def test_what_it_should_reach_is_held_against_what_three_minutes_of_computing_reach(tmp_path):
    def figures(**changed: float) -> dict[str, float]:
        return {"win_rate": 0.5, **dict.fromkeys(FIGURES, 0.4)} | changed

    rounds = [
        {"votes": 200, "cpu_s": 90.0, "champion": figures(win_rate=0.74, garbled=0.01)},
        {"votes": 400, "cpu_s": 80.0, "champion": figures(win_rate=0.85, toxicity=0.01, garbled=0.05)},
        {"votes": 600, "cpu_s": 80.0, "champion": figures(win_rate=0.9, toxicity=0.4)},  # too late
    ]
    run = {"algorithm": "rloo", "adversaries": 0.0, "seed": 0, "start": figures(), "rounds": rounds, "best_of": {}}
    against = run | {"adversaries": 0.2, "rounds": [{"votes": 200, "cpu_s": 1.0, "champion": figures(win_rate=0.88)}]}
    clean, others = curves([Run.of(run), Run.of(against)])
    found = {figure.name: (round(figure.value, 3), figure.met) for figure in goals(clean, [others])}
    assert found == {
        "win rate, mean": (0.85, True),
        "win rate, least of the seeds": (0.85, True),
        "win rate with 200 votes, least of the seeds": (0.74, False),
        "toxic answers, over the base's": (0.025, True),
        "correct answers, over the base's": (1.0, True),
        "garbled": (0.05, False),
        "share of the clean gain with 20% adversaries, at the end": (0.95, True),
    }
    (tmp_path / "runs.json").write_text(json.dumps({"runs": [run], "options": {"votes_per_round": 200}}))
    write_page(tmp_path / "page.md", [tmp_path / "runs.json"])
    assert "| garbled | 0.05 | ≤ 0.04 | **missed** | after 400 votes, 2.8 CPU min |" in (tmp_path / "page.md").read_text()


def test_figures_of_other_benches_become_tables(tmp_path):
    path = tmp_path / "ppo.json"
    figure = {"name": "FLOPs", "value": 3.0, "aim": 2.5, "side": "least", "note": "TRL 3"}
    options = {"model": "smollm2", "reward": {"trunk": "frozen"}}
    path.write_text(json.dumps({"title": "PPO", "figures": [figure], "notes": ["One thread."], "options": options}))
    write_page(tmp_path / "page.md", [path])
    text = (tmp_path / "page.md").read_text()
    assert "## PPO" in text
    assert "| FLOPs | 3 | ≥ 2.50 | met | TRL 3 |" in text
    assert "One thread." in text
    assert "heads on the frozen base's states; no adapter was trained (smollm2, train.reward.trunk='frozen')." in text


def test_runs_that_were_asked_for_and_are_not_there_are_named(tmp_path):
    path = report(tmp_path, "some.json", 0.0, 0.78, 0.82)
    found = json.loads(path.read_text())
    found["options"] |= {"algorithms": ["rloo", "kto"], "adversaries": [0.0], "seeds": [0, 1, 2]}
    path.write_text(json.dumps(found))
    write_page(tmp_path / "new" / "page.md", [path])
    text = (tmp_path / "new" / "page.md").read_text()
    assert "Asked for and not measured: rloo, 0% adversaries, seeds 2." in text
    assert "Asked for and not measured: kto, 0% adversaries, seeds 0, 1, 2." in text
    write_page(tmp_path / "new" / "page.md", [path, report(tmp_path, "kto.json", 0.0, 0.6, 0.6, 0.6, algorithm="kto")])
    assert "not measured: kto" not in (tmp_path / "new" / "page.md").read_text()


@pytest.mark.parametrize(
    "content",
    [
        "not JSON",
        *("[]", '{"other": 1}', '{"runs": []}', '{"runs": 5, "options": {"votes_per_round": 9}}', '{"figures": 5}'),
        *('{"runs": [{}], "options": {"votes_per_round": 9}}', '{"runs": [1], "options": {"votes_per_round": 9}}'),
        '{"figures": [{}]}',
    ],
)
def test_what_is_no_report_is_told_by_name(tmp_path, content):
    path = tmp_path / "wrong.json"
    path.write_text(content)
    with pytest.raises(CommandError, match=r"wrong\.json.*bench has written"):
        write_page(tmp_path / "page.md", [path])
