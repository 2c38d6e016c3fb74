"""Who answers: a pure function from deployment, person and coin to the answers that are to be made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from feedback.events import Arm, Exposure, Target
from feedback.ids import conversation_hash, new_id, user_hash
from feedback.receipts import Receipt
from ops.assignment import Assignment, assign, sides
from ops.deployment import Deployment
from serving.errors import Unavailable
from serving.keys import Caller

NOT_LIVE = "adapter_not_live"
PINNED = "pinned"


@dataclass(frozen=True)
class Person:
    """Whose turn of which conversation it is. ``unit`` is the user's hash, or the conversation's: it is what is assigned."""

    project: str
    unit: str
    conversation: str
    key_id: str = ""


@dataclass(frozen=True)
class Choice:
    """One answer to be made: its place in display order, its id, and who makes it."""

    position: int
    completion_id: str
    exposure: Exposure

    @property
    def adapter(self) -> str:
        return self.exposure.adapter


@dataclass(frozen=True)
class Plan:
    """All answers to one request."""

    person: Person
    choices: tuple[Choice, ...]
    comparison_id: str | None
    sampling: dict[str, Any]
    created: float
    """Unix seconds."""

    @property
    def completion_id(self) -> str:
        return self.choices[0].completion_id

    def receipt(self, days: float) -> Receipt:
        """What its holder may rate, for so many days."""
        return Receipt(
            project=self.person.project,
            target=Target(completion_ids=tuple(c.completion_id for c in self.choices), comparison_id=self.comparison_id),
            exposures=tuple(c.exposure for c in self.choices),
            user=self.person.unit,
            key_id=self.person.key_id,
            conversation=self.person.conversation,
            issued=self.created,
            expires=self.created + days * 86_400,
        )


def identify(
    secret: bytes, caller: Caller, project: str, user: str | None, conversation: str | None, first_message: str
) -> Person:
    """The person behind a request. A browser's session is one visitor, whatever user it names.

    Without a conversation's id, its first message and who asks stand for it; without a user, the conversation does.
    """
    known_user = caller.visitor or user
    if conversation is None:
        asker = known_user or caller.key_id or ""
        conversation = "conv_" + user_hash(secret, project, f"conversation\0{asker}\0{first_message}")
    unit = user_hash(secret, project, known_user) if known_user else conversation_hash(secret, project, conversation)
    return Person(project, unit, conversation, caller.key_id or "")


def choose(
    deployment: Deployment, unit: str, *, n: int, compare: bool, live: Callable[[str], bool], coin: Callable[[], float]
) -> tuple[Choice, ...]:
    """The answers to make, in display order.

    A comparison of an analysed unit (challenger or control) is a duel while the rollout asks for duels and both
    adapters are live: one answer of each, sides by ``coin`` (uniform on [0, 1)). All else is n samples of the adapter
    that the unit is assigned; where that is not live, of the champion: nobody gets the base instead. Raises `Unavailable`.
    """
    assignment = assign(deployment, unit)
    duellists = _duellists(deployment, assignment, live) if compare else None
    if duellists is not None:
        tossed = coin()
        shown = [duellists[side] for side in sides(tossed)]
        return tuple(
            _choice(place, adapter, arm, deployment, assignment, coin=tossed) for place, (adapter, arm) in enumerate(shown)
        )
    adapter = _first_live((assignment.adapter, deployment.champion), live)
    fallback = None if adapter == assignment.adapter else NOT_LIVE
    arm: Arm = "control" if assignment.arm == "challenger" and fallback else assignment.arm
    return tuple(_choice(place, adapter, arm, deployment, assignment, fallback=fallback) for place in range(n))


def choose_pinned(adapter: str, n: int) -> tuple[Choice, ...]:
    """n samples of the adapter an operator has named: of no rollout, so no evidence for or against one."""
    ids = [new_id("chatcmpl-") for _ in range(n)]
    return tuple(Choice(place, id, Exposure(completion_id=id, adapter=adapter, fallback=PINNED)) for place, id in enumerate(ids))


def _duellists(
    deployment: Deployment, assignment: Assignment, live: Callable[[str], bool]
) -> tuple[tuple[str, Arm], tuple[str, Arm]] | None:
    """Champion and challenger with the arms they stand for; None when this unit's comparison is no duel."""
    challenger = deployment.challenger
    if challenger is None or not deployment.duels or assignment.arm == "champion":
        return None
    if not (live(deployment.champion) and live(challenger)):
        return None
    return (deployment.champion, "control"), (challenger, "challenger")


def _first_live(adapters: tuple[str, ...], live: Callable[[str], bool]) -> str:
    for adapter in adapters:
        if live(adapter):
            return adapter
    raise Unavailable("No model is ready yet: try again.", code="engine_unavailable", retry_after_s=2)


def _choice(
    position: int,
    adapter: str,
    arm: Arm,
    deployment: Deployment,
    assignment: Assignment,
    *,
    fallback: str | None = None,
    coin: float | None = None,
) -> Choice:
    completion_id = new_id("chatcmpl-")
    exposure = Exposure(
        completion_id=completion_id,
        adapter=adapter,
        arm=arm,
        assigned=assignment.arm,
        rollout_id=deployment.rollout_id,
        propensity=assignment.propensity,
        propensities=assignment.propensities,
        bucket=assignment.bucket,
        fallback=fallback,
        coin=coin,
    )
    return Choice(position, completion_id, exposure)
