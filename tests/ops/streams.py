"""What gateways would have logged in a rollout, for people of a known true preference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

from feedback.events import (
    AdapterLive,
    AdapterRefused,
    CompletionCreated,
    CompletionText,
    Event,
    Exposure,
    FeedbackSet,
    Message,
    Outcome,
    Preference,
    Rating,
    Target,
)
from ops.assignment import Assignment, assign, sides
from ops.deployment import Deployment

TEXT = CompletionText(messages=(Message(role="user", content="hi"),), answer="hello")


def live(adapter: str, time: float = 0.0, project: str = "default") -> Event:
    data = AdapterLive(adapter=adapter, gateway="g1", published=time, seconds=0.5)
    return Event(id=f"live-{adapter}", time=time, project=project, key=project, data=data)


def refused(adapter: str, reason: str, time: float = 0.0, project: str = "default") -> Event:
    data = AdapterRefused(adapter=adapter, gateway="g1", reason=reason)
    return Event(id=f"refused-{adapter}", time=time, project=project, key=project, data=data)


@dataclass
class Stream:
    """Users of one project talk and vote; every event gets its own id and a later time. Seeded."""

    seed: int = 0
    project: str = "default"
    now: float = 1_000_000.0
    rng: Random = field(init=False)
    count: int = 0

    def __post_init__(self) -> None:
        self.rng = Random(self.seed)

    def duel(
        self, deployment: Deployment, user: str, *, prefers: float, ties: float = 0.0, outcome: Outcome = "ok"
    ) -> list[Event]:
        """Two answers side by side and a vote: the challenger's is preferred with probability ``prefers``.

        Only users of the analysed arms are shown both; the rest have nothing to compare, and no events here.
        ``outcome`` is the challenger's side's.
        """
        assignment = assign(deployment, user)
        if assignment.arm == "champion" or deployment.challenger is None:
            return []
        arms = [("control", deployment.champion), ("challenger", deployment.challenger)]
        shown = [arms[side] for side in sides(self.rng.random())]
        comparison = f"cmp_{self._next()}"
        completions, exposures = [], []
        for position, (arm, adapter) in enumerate(shown):
            exposure = self._exposure(deployment, assignment, adapter, arm)
            failed = outcome if arm == "challenger" else "ok"
            completions.append(self._completion(user, exposure, failed, comparison, position))
            exposures.append(exposure)
        tie = self.rng.random() < ties
        preferred = "challenger" if self.rng.random() < prefers else "control"
        value = self.rng.choice(["tie", "both_bad"]) if tie else ("a" if shown[0][0] == preferred else "b")
        target = Target(completion_ids=tuple(e.completion_id for e in exposures), comparison_id=comparison)
        return [*completions, self._feedback(user, target, Preference(value=value), exposures)]

    def chat(
        self, deployment: Deployment, user: str, *, thumb: int | None = None, outcome: Outcome = "ok", fallback: bool = False
    ) -> list[Event]:
        """One answer by the user's arm, and a thumb if there is one."""
        assignment = assign(deployment, user)
        arm, adapter = ("champion", deployment.champion) if fallback else (assignment.arm, assignment.adapter)
        exposure = self._exposure(deployment, assignment, adapter, arm, "not live" if fallback else None)
        events = [self._completion(user, exposure, outcome)]
        if thumb is not None:
            events.append(self._feedback(user, Target(completion_ids=(exposure.completion_id,)), Rating(value=thumb), [exposure]))
        return events

    def _next(self) -> str:
        self.count += 1
        return f"{self.project}-{self.seed}-{self.count:06d}"

    def _tick(self) -> float:
        self.now += 0.25
        return self.now

    def _exposure(
        self, deployment: Deployment, assignment: Assignment, adapter: str, arm: str, fallback: str | None = None
    ) -> Exposure:
        return Exposure(
            completion_id=f"chatcmpl-{self._next()}",
            adapter=adapter,
            arm=arm,
            assigned=assignment.arm,
            rollout_id=deployment.rollout_id,
            propensity=assignment.propensity,
            propensities=assignment.propensities,
            bucket=assignment.bucket,
            fallback=fallback,
        )

    def _completion(
        self, user: str, exposure: Exposure, outcome: Outcome, comparison: str | None = None, position: int = 0
    ) -> Event:
        data = CompletionCreated(
            completion_id=exposure.completion_id,
            comparison_id=comparison,
            position=position,
            conversation=f"conv-{user}",
            user=user,
            text=TEXT,
            exposure=exposure,
            outcome=outcome,
        )
        return Event(id=exposure.completion_id, time=self._tick(), project=self.project, key=f"conv-{user}", data=data)

    def _feedback(self, user: str, target: Target, judgement: Preference | Rating, exposures: Sequence[Exposure]) -> Event:
        name = f"fb_{self._next()}"
        data = FeedbackSet(
            feedback_id=name, target=target, rater=user, judgement=judgement, exposures=tuple(exposures), source="simulated"
        )
        return Event(id=name, time=self._tick(), project=self.project, key=f"conv-{user}", data=data)


def duels(deployment: Deployment, users: Sequence[str], *, prefers: float, seed: int = 0, ties: float = 0.0) -> Iterator[Event]:
    """One duel per user in order, completions before their vote; users outside the experiment are skipped."""
    stream = Stream(seed)
    for user in users:
        yield from stream.duel(deployment, user, prefers=prefers, ties=ties)


def votes_replaced(events: Sequence[Event], rng: Random, *, how: str) -> list[Event]:
    """The same events with votes that mean nothing: "random" draws a or b anew, "shuffled" permutes the votes there are."""
    places = [i for i, event in enumerate(events) if isinstance(event.data, FeedbackSet)]
    values = [events[i].data.judgement.value for i in places]
    if how == "random":
        values = [rng.choice("ab") for _ in values]
    else:
        rng.shuffle(values)
    replaced = list(events)
    for i, value in zip(places, values, strict=True):
        data = events[i].data.model_copy(update={"judgement": Preference(value=value)})
        replaced[i] = events[i].model_copy(update={"data": data})
    return replaced
