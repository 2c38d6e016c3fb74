"""``plaudit bench page``: a Markdown page with tables and plots, made of the benches' JSON files and of nothing else."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ops.bench import plots
from ops.bench.curves import Run, curves
from ops.bench.demos import HEAD, TITLE, is_demo, rows_of
from ops.bench.goals import goals
from ops.bench.learning import BY, COLUMNS, reached_text
from ops.bench.table import Figure, aim_text, figure_of, number
from ops.errors import CommandError

_INTRODUCTION = """# How fast it learns

Made by `{command}` from these JSON files: every figure is in them, and of the benches the machine, the settings and the code.

Simulated people with a hidden taste ask the starter model's questions and vote on what they get (70 % pairs, 30 % thumbs; a
quarter of the pairs against the base). After every {every} votes a training cycle learns from the log, and an adapter that
passes its gates becomes the champion at once. *Win rate* is the champion's over the base by the people's taste without noise, a
draw being half a win, on held-out questions. CPU minutes are those of the training cycles; to a win rate they are medians over
the seeds that reach it. Intervals are Student's, over the seeds. *Garbled* answers are no sentences of the starter's grammar,
*rambling* ones have fillers; *distinct-2* is the share of word pairs that differ; KL is the champion's from the base, nats an
answer.
"""


_NO_GPU = "Nothing of this was measured on a GPU; on a machine that has one, `plaudit bench ppo --device cuda --size 1b` does.\n"


def write_page(target: Path, sources: Sequence[Path]) -> list[Path]:
    """Write the page and its plots, which go into a folder beside it of the page's name; all paths written.

    Raises `CommandError` for a file that is no report of a bench.
    """
    reports = [_read(source) for source in sources]
    learnt = [run for report in reports for run in report.get("runs", ())]
    texts, written = [], []
    if learnt:
        command = f"plaudit bench page --to {target} {' '.join(map(str, sources))}"
        every = next(report["options"]["votes_per_round"] for report in reports if "runs" in report)
        texts.append(_INTRODUCTION.format(command=command, every=every))
        text, drawn = _learning(learnt, target.with_suffix(""))
        texts += [text, *(f"Asked for and not measured: {missing}.\n" for missing in _missing(reports))]
        written += drawn
    texts += [_figures(report, source) for report, source in zip(reports, sources, strict=True) if "figures" in report]
    texts += _demos([report for report in reports if is_demo(report)])
    texts.append(_machines(reports, sources))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("\n".join(texts))
    return [target, *written]


def _read(source: Path) -> dict[str, Any]:
    try:
        report: dict[str, Any] = json.loads(source.read_text())
    except (OSError, ValueError) as error:
        raise CommandError(f"{source}: {error}; give it a file that a bench has written with --json") from error
    if not isinstance(report, dict) or not ({"runs", "figures"} & set(report) or is_demo(report)):
        raise CommandError(f"{source}: has neither runs nor figures; give it a file that a bench has written with --json")
    if "runs" in report and "votes_per_round" not in (report.get("options") or {}):
        raise CommandError(f"{source}: options has no votes_per_round; give it a file as a bench has written it")
    for of, needed in _NEEDED.items():
        entries = report.get(of, [])
        if not isinstance(entries, list):
            raise CommandError(f"{source}: {of}={entries!r} is no list; give it a file as a bench has written it")
        for place, entry in enumerate(entries):
            if missing := needed - set(entry if isinstance(entry, dict) else ()):
                raise CommandError(f"{source}: {of}[{place}] has no {min(missing)}; give it a file as a bench has written it")
    return report


_NEEDED = {"runs": {"algorithm", "adversaries", "seed", "start", "rounds", "best_of"}, "figures": {"name", "value"}}
"""What the entries of a report have."""


def _missing(reports: Sequence[Mapping[str, Any]]) -> list[str]:
    """The runs that were asked for and are in no report, by algorithm and share of adversaries."""
    lacking = dict[str, None]()
    done = [(run["algorithm"], run["adversaries"], run["seed"]) for report in reports for run in report.get("runs", ())]
    for report in reports:
        asked = report.get("options", {})
        for algorithm, share in itertools.product(asked.get("algorithms", ()), asked.get("adversaries", ())):
            seeds = [str(seed) for seed in asked.get("seeds", ()) if (algorithm, share, seed) not in done]
            if seeds:
                lacking[f"{algorithm}, {share:.0%} adversaries, seeds {', '.join(seeds)}"] = None
    return [*lacking]


def _learning(runs: Sequence[Mapping[str, Any]], folder: Path) -> tuple[str, list[Path]]:
    """The section of all learning curves, and the plots drawn into ``folder``."""
    found = curves([Run.of(run) for run in runs])
    first = _most_asked(found)
    names = [first, *(curve["algorithm"] for curve in found)]
    found.sort(key=lambda curve: (names.index(curve["algorithm"]), curve["adversaries"]))
    main, clean = found[0], {curve["algorithm"]: curve for curve in found if not curve["adversaries"]}
    ceilings = {f"best of {name.split()[1]} by the {BY[name.split()[0]]}": r["mean"] for name, r in main["best_of"].items()}
    drawn = [folder / "win-rate.svg", folder / "answers.svg"]
    plots.win_rates(
        drawn[0], clean or {main["algorithm"]: main}, ceilings, "Win rate by votes (means, least and most of the seeds)"
    )
    shown = ("toxicity", "correct", "garbled", "polite", "rambling")
    plots.shares(drawn[1], main, shown, f"What the champion's answers are ({main['algorithm']})")
    text = ["## Votes and minutes", "", f"![Win rate by votes]({folder.name}/win-rate.svg)", "", *_reached(found), ""]
    text += [f"![Shares of the champion's answers by votes]({folder.name}/answers.svg)", ""]
    against = {f"{c['adversaries']:.0%} adversaries": c for c in found if c["algorithm"] == main["algorithm"]}
    if len(against) > 1:
        drawn.append(folder / "adversaries.svg")
        plots.win_rates(drawn[2], against, {}, f"With people who vote reversed ({main['algorithm']})")
        text += [
            "## People who vote reversed",
            "",
            f"![With adversaries]({folder.name}/adversaries.svg)",
            "",
            *_kept(found),
            "",
        ]
    if main["algorithm"] in clean:
        of_others = [curve for curve in against.values() if curve["adversaries"]]
        text += [f"## What it should reach ({main['algorithm']})", "", *_beside_aims(goals(main, of_others)), ""]
    text += ["## Every curve", ""]
    for curve in found:
        text += [*_table(curve), ""]
    return "\n".join(text), drawn


def _most_asked(found: Sequence[Mapping[str, Any]]) -> str:
    """The algorithm with the most curves, of several the one whose champions end best: what the page is about."""
    names: list[str] = [curve["algorithm"] for curve in found]
    ends = {curve["algorithm"]: curve["points"][-1]["win_rate"]["mean"] for curve in found if not curve["adversaries"]}
    return max(names, key=lambda name: (names.count(name), ends.get(name, 0.0)))


def _reached(found: Sequence[Mapping[str, Any]]) -> list[str]:
    goals = list(found[0]["reached"])
    rows = [
        [
            curve["algorithm"],
            f"{curve['adversaries']:.0%}",
            *(reached_text(curve["reached"][g], len(curve["seeds"])) for g in goals),
        ]
        for curve in found
    ]
    ceiling = [
        f"The base's best of {name.split()[1]} answers by the {BY[name.split()[0]]} has a win rate of {rate['mean']:.3f}."
        for name, rate in found[0]["best_of"].items()
    ]
    head = ["algorithm", "adversaries", *(f"votes and CPU minutes to a win rate of {goal}" for goal in goals)]
    return [*_rows(head, rows), "", *ceiling]


def _kept(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """How much of its clean gain each algorithm that was measured with adversaries has left at the end."""
    ends = {(c["algorithm"], c["adversaries"]): c["points"][-1]["win_rate"]["mean"] for c in found}
    against = {algorithm for algorithm, share in ends if share}
    rows = []
    for (algorithm, share), end in ends.items():
        clean = ends.get((algorithm, 0.0), 0.5) - 0.5
        kept = f"{(end - 0.5) / clean:.0%}" if clean > 0 else "-"
        if algorithm in against:
            rows.append([algorithm, f"{share:.0%} adversaries", f"{end:.3f}", kept])
    return _rows(["algorithm", "people", "win rate at the end, mean", "of the clean gain over 0.5"], rows)


def _table(curve: Mapping[str, Any]) -> list[str]:
    seeds = ", ".join(map(str, curve["seeds"]))
    title = f"**{curve['algorithm']}, {curve['adversaries']:.0%} adversaries**: means over seeds {seeds}, with Student's interval"
    rows = [[cell(point) for _, cell in COLUMNS] for point in curve["points"]]
    return [title, "", *_rows([name for name, _ in COLUMNS], rows)]


def _figures(report: Mapping[str, Any], source: Path) -> str:
    """The table of a bench that tells single figures."""
    notes = [f"{note}\n" for note in report.get("notes", ())]
    title = report.get("title", source.stem)
    return "\n".join([f"## {title}", "", *_beside_aims(map(figure_of, report["figures"])), "", *notes, *_trunk(report)])


def _trunk(report: Mapping[str, Any]) -> list[str]:
    """What the reward model stood on, where the bench was of one."""
    options = report.get("options") or {}
    trunk = (options.get("reward") or {}).get("trunk")
    stands = {
        "frozen": "heads on the frozen base's states; no adapter was trained",
        "adapter": "heads on a LoRA adapter of its own",
    }
    return [f"The reward model: {stands[trunk]} ({options['model']}, train.reward.trunk={trunk!r}).\n"] if trunk in stands else []


def _beside_aims(figures: Iterable[Figure]) -> list[str]:
    verdict = {True: "met", False: "**missed**", None: ""}
    rows = [[each.name, number(each.value), aim_text(each), verdict[each.met], each.note] for each in figures]
    return _rows(["figure", "measured", "aim", "", "beside"], rows)


def _demos(reports: Sequence[Mapping[str, Any]]) -> list[str]:
    return ["\n".join([f"## {TITLE}", "", *_rows(HEAD, rows_of(reports)), ""])] if reports else []


def _machines(reports: Sequence[Mapping[str, Any]], sources: Sequence[Path]) -> str:
    rows = []
    for report, source in zip(reports, sources, strict=True):
        if is_demo(report):
            continue
        about = report.get("machine", {})
        load = ", ".join(map(str, about.get("load_before", ())))
        made = [f"`{source.name}`", f"`{report.get('command', '')}`", f"`{about.get('code_sha256', '')[:8]}`"]
        rows.append([*made, str(about.get("cpus", "")), load])
    head = ["file", "made by", "code (SHA-256)", "CPUs", "load before (1, 5, 15 min)"]
    on_gpu = any((report.get("options") or {}).get("device") == "cuda" for report in reports)
    return "\n".join(["## Where it was measured", "", *_rows(head, rows), "", *([] if on_gpu else [_NO_GPU])])


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]
