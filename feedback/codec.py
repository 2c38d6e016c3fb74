"""Events as bytes: CloudEvents 1.0 in binary mode (attributes in ``ce_*`` headers, the data as a JSON body).

Source: CloudEvents 1.0.2 and its Kafka protocol binding, section 3.2. Readers ignore fields and headers they do not know.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from feedback.events import Data, DeadLetter, Event, Topic, Unrecognized, is_ours
from feedback.log import EventTooLarge, LogError, Position, Record

MAX_EVENT_BYTES = 900_000
"""Body and headers together: what a Kafka broker takes with its default ``message.max.bytes`` of 1 MiB, and a margin."""

_DEAD_LETTER_CHARACTERS = 65_536

_TEXT: dict[str, Any] = {"judgement": {"comment", "text"}, "changes": {"comment", "text"}, "sealed": True}
"""What people wrote, in feedback: erasing it must not leave a copy behind."""

_TOMBSTONES: dict[Topic, str] = {
    "completions": "completion.tombstone",
    "feedback": "feedback.tombstone",
    "control": "rollout.tombstone",
    "dead-letter": "dead-letter.tombstone",
}

Headers = list[tuple[str, bytes]]

_data: TypeAdapter[Data] = TypeAdapter(Data)


class DecodeError(LogError, ValueError):
    """Bytes that are no event of ours; the message names what is wrong with them."""


def encode(event: Event) -> tuple[bytes, Headers]:
    """Body and headers of an event. Raises `EventTooLarge` above `MAX_EVENT_BYTES`, ValueError if it cannot be JSON."""
    body = _dump(event)
    headers = [
        ("content-type", b"application/json"),
        ("ce_specversion", b"1.0"),
        ("ce_id", event.id.encode()),
        ("ce_type", f"plaudit.{event.data.type}.v1".encode()),
        ("ce_source", b"/plaudit"),
        ("ce_subject", event.key.encode()),
        ("ce_time", _rfc3339(event.time).encode()),
        ("ce_project", event.project.encode()),
    ]
    size = len(body) + sum(len(name) + len(value) for name, value in headers)
    if size > MAX_EVENT_BYTES:
        raise EventTooLarge(f"event {event.id} has {size} bytes, the most is {MAX_EVENT_BYTES}: send a shorter text")
    return body, headers


def decode(body: bytes, headers: Headers) -> Event:
    """The event that `encode` was given. Raises `DecodeError`."""
    attributes = dict(headers)
    if attributes.get("ce_specversion") != b"1.0":
        raise DecodeError(f"ce_specversion={attributes.get('ce_specversion')!r}: not a CloudEvent 1.0")
    try:
        data = _data_of(body, attributes["ce_type"])
        event = Event(
            id=attributes["ce_id"].decode(),
            time=_unix_time(attributes["ce_time"].decode()),
            project=attributes["ce_project"].decode(),
            key=attributes["ce_subject"].decode(),
            data=data,
        )
    except KeyError as error:
        raise DecodeError(f"header {error} is missing") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise DecodeError(f"{'.'.join(map(str, first['loc'])) or 'body'}: {first['msg']}") from error
    except (ValueError, InvalidOperation) as error:  # a header that is not UTF-8, or no time
        raise DecodeError(str(error)) from error
    if attributes.get("ce_type") != f"plaudit.{data.type}.v1".encode():
        raise DecodeError(f"ce_type={attributes.get('ce_type')!r} is not the body's type {data.type!r}")
    return event


def _dump(event: Event, exclude: Any = None) -> bytes:
    if isinstance(event.data, Unrecognized):
        raise ValueError(f"event {event.id}: its type {event.data.type!r} is not known here; a newer Plaudit can write it")
    return _data.dump_json(event.data, exclude=exclude)


def _data_of(body: bytes, type: bytes) -> Data | Unrecognized:
    """What a body says. Raises ValidationError; a type or kind of ours that is newer than this code is no error."""
    try:
        return _data.validate_json(body)
    except ValidationError as error:
        name = type.decode().removeprefix("plaudit.").removesuffix(".v1")
        newer = any(e["type"] == "union_tag_invalid" for e in error.errors(include_url=False))
        if newer and is_ours(name) and json.loads(body)["type"] == name:
            return Unrecognized(type=name, unrecognized=True)
        raise


def decode_record(position: Position, body: bytes, headers: Headers, received: float) -> Record:
    """The record at a position. No reader stalls at one that holds no event.

    A tombstone (no body at all) holds its place with an `Unrecognized`, which readers leave alone; bytes that are no event
    become a `DeadLetter`. ``received`` (Unix seconds) is the time of either.
    """
    if not body:
        return Record(position, _tombstone(position, received))
    try:
        return Record(position, decode(body, headers))
    except DecodeError as error:
        return Record(position, dead_letter("poison", position, body, received, detail=str(error)))


def _tombstone(position: Position, received: float) -> Event:
    place = f"{position.topic}:{position.partition}:{position.offset}"
    gone = Unrecognized(type=_TOMBSTONES[position.topic], unrecognized=True)
    return Event(id=f"tombstone:{place}", time=received, project="", key=place, data=gone)


def letters_among(records: list[Record]) -> list[Event]:
    """The dead letters that `decode_record` put in place of what it could not read."""
    return [r.event for r in records if r.event.topic == "dead-letter" and r.position.topic != "dead-letter"]


def no_target(record: Record, now: float) -> Event:
    """The dead letter of feedback whose completion never came; the feedback still joins on replay."""
    body = _dump(record.event, exclude=_TEXT)
    return dead_letter("no_target", record.position, body, now, project=record.event.project)


def dead_letter(reason: str, position: Position, body: bytes, now: float, *, project: str = "", detail: str = "") -> Event:
    """What stands for a record that nobody could use, and why. Its id follows from reason and position: it is kept once.

    A long body is cut; the whole one is still at the position.
    """
    place = f"{position.topic}:{position.partition}:{position.offset}"
    letter = DeadLetter(
        reason=f"{reason}: {detail}" if detail else reason,
        topic=position.topic,
        partition=position.partition,
        offset=position.offset,
        body=shortened(body),
    )
    return Event(id=f"dead-letter:{reason}:{place}", time=now, project=project, key=place, data=letter)


def shortened(body: bytes) -> str:
    """As much of a body as a dead letter holds, readable."""
    return body[:_DEAD_LETTER_CHARACTERS].decode(errors="backslashreplace")[:_DEAD_LETTER_CHARACTERS]


def same_fact(first: Event, second: Event) -> bool:
    """Whether two events with one id say the same. Their times may differ: a client's retry is stamped anew."""
    return (first.project, first.key, first.data) == (second.project, second.key, second.data)


def _rfc3339(unix_time: float) -> str:
    """All digits of the float, so that the time round-trips exactly; RFC 3339 sets no limit to the fraction."""
    digits = repr(float(unix_time))
    if "e" not in digits and unix_time >= 0:  # all there are, but for tests: four times as fast
        whole, _, fraction = digits.partition(".")
        return f"{_second(int(whole))}.{fraction or 0}Z"
    exact = Decimal(repr(unix_time))
    seconds = int(exact // 1) - (exact % 1 < 0)
    fraction = f"{exact - seconds:f}".partition(".")[2] or "0"
    return f"{_second(seconds)}.{fraction}Z"


@lru_cache(maxsize=64)
def _second(unix_time: int) -> str:
    return f"{datetime.fromtimestamp(unix_time, UTC):%Y-%m-%dT%H:%M:%S}"


def _unix_time(text: str) -> float:
    """Unix seconds of an RFC 3339 time in any zone."""
    head, zone = (text[:-1], "+00:00") if text[-1:] in "Zz" else (text[:-6], text[-6:])
    whole, _, fraction = head.partition(".")
    moment = datetime.fromisoformat(whole + zone)
    return float(Decimal(int(moment.timestamp())) + Decimal(f"0.{fraction or 0}"))
