"""What the log holds of answers that simulated people judged, as the gateway would have written it: no gateway was asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from feedback.events import CompletionCreated, CompletionText, Event, Exposure, FeedbackSet, Judgement, Message, Target

FIRST = 1_750_000_000.0
"""Unix time of the first vote."""

SECONDS_BETWEEN = 30.0
"""From one vote to the next, by the events' clock."""


@dataclass(frozen=True)
class Shown:
    """One answer to the question, as somebody was shown it."""

    completion_id: str
    adapter: str
    text: str
    finish_reason: str = "stop"


@dataclass(frozen=True)
class Asking:
    """Somebody's question; ``comparison`` if they are shown two answers."""

    project: str
    rater: str
    question: str
    time: float
    comparison: str | None = None

    def events(self, shown: Sequence[Shown], feedback_id: str, judgement: Judgement | None) -> Iterator[Event]:
        """The answers' events, and the judgement's if there is one."""
        answers = [self._answered(side, answer) for side, answer in enumerate(shown)]
        for answer in answers:
            yield self._event(answer.completion_id, answer)
        if judgement is None:
            return
        feedback = FeedbackSet(
            feedback_id=feedback_id,
            target=Target(completion_ids=tuple(answer.completion_id for answer in answers), comparison_id=self.comparison),
            rater=self.rater,
            judgement=judgement,
            exposures=tuple(answer.exposure for answer in answers),
            source="simulated",
        )
        yield self._event(feedback_id, feedback)

    @property
    def _conversation(self) -> str:
        return f"conversation-{self.rater}"

    def _answered(self, side: int, answer: Shown) -> CompletionCreated:
        return CompletionCreated(
            completion_id=answer.completion_id,
            comparison_id=self.comparison,
            position=side,
            conversation=self._conversation,
            user=self.rater,
            text=CompletionText(messages=(Message(role="user", content=self.question),), answer=answer.text),
            exposure=Exposure(completion_id=answer.completion_id, adapter=answer.adapter),
            finish_reason=answer.finish_reason,
        )

    def _event(self, id: str, data: CompletionCreated | FeedbackSet) -> Event:
        return Event(id=id, time=self.time, project=self.project, key=self._conversation, data=data)
