"""What annotators and operators are told, as the APIs describe it. Times are Unix seconds."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from feedback.events import Message
from serving.labeling.desk import Handed
from serving.labeling.plan import Kind, Live
from serving.labeling.streams import Stream


class _View(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LabelText(_View):
    """One answer, as text: it is never to be read as HTML."""

    content: str
    tool_calls: list[dict[str, Any]] = Field(default=[], description="What it calls, as the model wrote it.")


class LabelMessage(_View):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str


class LabelTask(_View):
    """A task: judge the answers in the order given, or converse and rate every answer."""

    id: str = Field(description="With kind 'conversation', send it as `conversation` in chat requests, by the same key.")
    object: Literal["label.task"] = "label.task"
    stream: str
    name: str = Field(description="The stream's.")
    kind: Literal["rating", "preference", "ranking", "correction", "score", "flag", "conversation"]
    metric: str = Field(description="Of the kind 'score': what is scored.")
    guideline: str
    topic: str = Field(description="Of a conversation: what to talk about.")
    turns: int = Field(ge=0, description="Of a conversation: the fewest answers it must have.")
    messages: list[LabelMessage] = Field(description="What was asked; empty for a conversation.")
    answers: list[LabelText] = Field(description="In order of display: 0 is a.")
    handed_out: float
    lease_until: float = Field(description="Afterwards somebody else is asked.")

    @classmethod
    def of(cls, handed: Handed) -> LabelTask:
        task, stream, shown = handed.task, handed.stream, handed.shown
        plan, source = stream.plan, stream.plan.source
        live = isinstance(source, Live) and not handed.item.places
        topics = source.topics if isinstance(source, Live) else []
        asked = shown[0].completion.text.messages if shown else ()
        return cls(
            id=task.id,
            stream=stream.id,
            name=stream.name,
            kind="conversation" if live else plan.kind,
            metric=plan.metric,
            guideline=plan.guideline,
            topic=topics[(handed.item.number or 0) % len(topics)] if live and topics else "",
            turns=source.turns if isinstance(source, Live) and live else 0,
            messages=[_message(message) for message in asked],
            answers=[
                LabelText(content=text.answer, tool_calls=[call.model_dump() for call in text.tool_calls])
                for text in (found.completion.text for found in shown)
            ],
            handed_out=task.handed_out,
            lease_until=task.lease_until,
        )


class LabelReply(_View):
    """The answer is on disk."""

    id: str = Field(description="The task's.")
    object: Literal["label.answer"] = "label.answer"
    feedback: list[str] = Field(description="Ids of what the log has of it; empty when it was skipped.")


class LabelStream(_View):
    """A stream as its annotators see it."""

    id: str
    name: str
    project: str
    kind: Kind
    guideline: str
    open: bool
    admitted: bool | None = Field(description="Whether this key passed the entry test; null while it goes on.")

    @classmethod
    def of(cls, stream: Stream, admitted: bool | None) -> LabelStream:
        return cls(
            id=stream.id,
            name=stream.name,
            project=stream.project,
            kind=stream.plan.kind,
            guideline=stream.plan.guideline,
            open=stream.closed is None,
            admitted=admitted,
        )


class LabelStreamList(_View):
    object: Literal["list"] = "list"
    data: list[LabelStream]


def _message(message: Message) -> LabelMessage:
    return LabelMessage(role=message.role, content=message.content)
