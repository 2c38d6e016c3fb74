"""``plaudit raters``: who judges, how well, and who is not heard for now."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli.common import CommandError, DataDir, Json, Project, print_json, print_table, settings_from, when

if TYPE_CHECKING:
    from feedback.events import RaterChanged
    from feedback.raters.report import RaterReport
    from feedback.raters.share import Share
    from feedback.raters.standing import Standing
    from ops.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Raters: list, show, pause, reinstate.")

_Rater = Annotated[str | None, typer.Argument(help="The rater's hash, as in 'plaudit raters list'.", show_default=False)]
_User = Annotated[
    str | None, typer.Option("--user", help="The application's own id of the user, instead of the hash.", show_default=False)
]
_Stream = Annotated[
    str | None,
    typer.Option("--stream", help="Votes of this labeling stream only, by id or name. [default: all]", show_default=False),
]
_Reason = Annotated[str, typer.Option("--reason", help="Why; it is kept.", show_default=False)]


@app.command("list")
def list_raters(stream: _Stream = None, data_dir: DataDir = None, project: Project = None, json: Json = False) -> None:
    """Every rater with a standing vote, the paused ones first."""
    settings = settings_from(data_dir, project=project)
    reports = sorted(
        _reports(settings, stream).values(), key=lambda report: (not report.standing.paused, -report.votes, report.rater)
    )
    if json:
        print_json([_as_json(report) for report in reports])
        return
    columns = ["rater", "state", "votes", "median", "golden", "majority", "κ", "shown first", "longer", "ε", "weight"]
    print_table(f"Raters of {settings.project}", columns, [_row(report) for report in reports])


@app.command()
def show(
    rater: _Rater = None,
    user: _User = None,
    stream: _Stream = None,
    data_dir: DataDir = None,
    project: Project = None,
    json: Json = False,
) -> None:
    """One rater: every figure with its 95 % interval, and how they stand."""
    settings = settings_from(data_dir, project=project)
    report = _reports(settings, stream).get(_hash(settings, rater, user))
    if report is None:
        raise CommandError(f"{_named(rater, user)}: no such rater of {settings.project!r} has a vote; see 'plaudit raters list'")
    if json:
        print_json(_as_json(report))
        return
    print_table(f"Rater {report.rater}", ["what", "figure"], [[name, text] for name, text in _figures(report).items()])


@app.command()
def pause(
    reason: _Reason,
    rater: _Rater = None,
    user: _User = None,
    hours: Annotated[float, typer.Option("--hours", help="Votes of so many hours back are in doubt too.", min=0)] = 0.0,
    data_dir: DataDir = None,
    project: Project = None,
    json: Json = False,
) -> None:
    """Hear a rater no more until they are reinstated: their votes from now on, or from some hours ago, do not count."""
    from feedback.raters.standing import pause as paused

    now = time.time()
    settings = settings_from(data_dir, project=project)
    who = _hash(settings, rater, user)
    reports = _reports(settings, None)
    if user is None and who not in reports:  # a hash that was mistyped would pause nobody
        raise CommandError(f"{_named(rater, user)}: no such rater of {settings.project!r} has a vote; see 'plaudit raters list'")
    change = _change(
        settings, who, "rater.pause", now, lambda standing: paused(standing, who, reason, now - 3600 * hours, "operator", {})
    )
    if who not in reports:
        print(f"plaudit: {_named(rater, user)} has no vote yet in {settings.project!r}: is the name right?", file=sys.stderr)
    _tell(change, json, f"paused: {who}; votes since {when(change.since)} are in doubt until 'plaudit raters reinstate'")


@app.command()
def reinstate(
    rater: _Rater = None,
    user: _User = None,
    reason: _Reason = "reviewed",
    drop: Annotated[bool, typer.Option("--drop", help="The votes in doubt never count.")] = False,
    data_dir: DataDir = None,
    project: Project = None,
    json: Json = False,
) -> None:
    """End a pause, once the votes in doubt have been reviewed: they count again, or with --drop never."""
    from feedback.raters.standing import reinstate as reinstated

    now = time.time()
    settings = settings_from(data_dir, project=project)
    who = _hash(settings, rater, user)
    change = _change(settings, who, "rater.reinstate", now, lambda standing: reinstated(standing, reason, now, drop=drop))
    _tell(
        change,
        json,
        f"reinstated: {who}; the votes in doubt since {when(change.since)} {'are dropped' if drop else 'count again'}",
    )


def _reports(settings: Settings, stream: str | None) -> dict[str, RaterReport]:
    from feedback.raters.report import rater_reports
    from ops.cli.label import find_stream, open_streams
    from ops.open_log import existing_log_of
    from ops.raters import Raters

    with existing_log_of(settings) as log:
        raters = Raters(log, settings.project)
        raters.refresh()
        votes = raters.votes()
        if stream is not None:
            if all(vote.stream != stream for vote in votes):
                stream = find_stream(open_streams(settings), settings, stream).id
            votes = [vote for vote in votes if vote.stream == stream]
        return rater_reports(votes, raters.standings)


def _change(settings: Settings, rater: str, what: str, now: float, decide: Callable[[Standing], RaterChanged]) -> RaterChanged:
    """Say it in the log, and in the audit log what an operator did. Raises `CommandError` if it cannot be."""
    from feedback.log import EventConflict, TopicReader
    from feedback.raters.standing import NoSuchChange, Standings, event_of
    from ops.audit import audit
    from ops.open_log import existing_log_of

    with existing_log_of(settings) as log:
        standings = Standings(settings.project)
        for record in TopicReader(log, "control").everything():
            standings.add(record)
        try:
            change = decide(standings.of(settings.project, rater))
            audit(settings, what, f"{settings.project}/{rater}")
            log.append([event_of(change, settings.project, now)])
        except NoSuchChange as error:
            raise CommandError(f"rater {rater!r}: {error}; see 'plaudit raters list'") from error
        except EventConflict as error:
            raise CommandError(f"rater {rater!r}: was changed by somebody else just now; look again") from error
    return change


def _hash(settings: Settings, rater: str | None, user: str | None) -> str:
    """Who is meant. Raises `CommandError` unless it is said in just one way."""
    from ops.erase import hash_of

    if (rater is None) == (user is None):
        raise CommandError("name the rater by the hash or by --user, one of the two")
    return rater if user is None and rater is not None else hash_of(settings, settings.project, user or "")


def _named(rater: str | None, user: str | None) -> str:
    return f"rater {rater!r}" if user is None else f"--user={user!r}"


def _tell(change: RaterChanged, json: bool, text: str) -> None:
    if json:
        print_json(change.model_dump(mode="json"))
    else:
        print(text)


def _row(report: RaterReport) -> list[Any]:
    state = "paused" if report.standing.paused else "active"
    median = "" if report.times.median_ms is None else f"{report.times.median_ms / 1000:.1f} s"
    shares = [_percent(share) for share in (report.golden, report.majority.agreed)]
    sides = [_percent(share) for share in (report.position, report.longer)]
    kappa = "" if report.majority.kappa is None else f"{report.majority.kappa:.2f}"
    return [report.rater, state, report.votes, median, *shares, kappa, *sides, f"{report.flip:.2f}", f"{report.weight:.3f}"]


def _percent(share: Share) -> str:
    return "" if share.value is None else f"{share.value:.0%} of {share.n}"


def _figures(report: RaterReport) -> dict[str, str]:
    change, times = report.standing.change, report.times
    stands = "active" if change is None else f"{change.state} since {when(report.standing.time)} by {change.by}: {change.reason}"
    quantiles = [f"{name} {ms / 1000:.1f} s" for name, ms in _quantiles(report).items() if ms is not None]
    return {
        "standing": stands,
        "votes": f"{report.votes}, {report.in_doubt} in doubt, {report.dropped} dropped",
        "first, last": f"{when(report.first)}, {when(report.last)}",
        "decision time": ", ".join(quantiles),
        "too fast": _interval(times.too_fast),
        "too slow": _interval(times.too_slow),
        "golden items right": _interval(report.golden),
        "with the majority": _interval(report.majority.agreed),
        "κ with the majority": "" if report.majority.kappa is None else f"{report.majority.kappa:.3f}",
        "chose the side shown first": f"{_interval(report.position)}, p {report.position.p_even():.3g}",
        "chose the longer answer": f"{_interval(report.longer)}, p {report.longer.p_even():.3g}",
        "contradicted: items judged again": _interval(report.contradictions.repeated),
        "contradicted: preferences on a circle": _interval(report.contradictions.cyclic),
        "contradicted: own thumbs": _interval(report.contradictions.rated),
        "flip probability ε": f"{report.flip:.3f}",
        "says the opposite more often than not": "" if report.doubt is None else f"{report.doubt:.1%} sure",
        "weight": f"{report.weight:.3f}",
    }


def _quantiles(report: RaterReport) -> dict[str, float | None]:
    return {"median": report.times.median_ms, "p10": report.times.p10_ms, "p90": report.times.p90_ms}


def _interval(share: Share) -> str:
    if share.value is None:
        return ""
    low, high = share.interval()
    return f"{share.value:.1%} of {share.n} ({low:.1%} to {high:.1%})"


def _as_json(report: RaterReport) -> dict[str, Any]:
    change = report.standing.change
    plain = asdict(report)
    for name in ("standing", "skipped"):
        del plain[name]
    return plain | {
        "state": "active" if change is None else change.state,
        "change": None if change is None else change.model_dump(mode="json") | {"time": report.standing.time},
        "times": plain["times"] | {name: getattr(report.times, name).to_json() for name in ("too_fast", "too_slow")},
        "golden": report.golden.to_json(),
        "majority": {"agreed": report.majority.agreed.to_json(), "kappa": report.majority.kappa},
        "position": report.position.to_json() | {"p": report.position.p_even()},
        "longer": report.longer.to_json() | {"p": report.longer.p_even()},
    }
