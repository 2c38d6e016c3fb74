from __future__ import annotations

import json

import pytest
from feedback_samples import completion, preference, rating, record, retraction
from hypothesis import example, given
from hypothesis import strategies as st

from feedback.codec import DecodeError, decode, decode_record, encode, no_target
from feedback.events import AdapterLive, Event, RolloutChanged, Unrecognized
from feedback.log import Position, Record
from feedback.partition import murmur2, partition_of

EVENTS = [
    completion("x1", comparison="cmp_1"),
    rating("f1", comment="naïve \u2028 “quoted” \x00 \U0001f600"),
    preference("f2", value="both_bad"),
    retraction("f1", sequence=3),
    Event(id="r", time=1.5, project="p", key="p", data=RolloutChanged(rollout_id="r1", state="RAMP", coverage=0.1)),
    Event(id="a", time=1.5, project="p", key="p", data=AdapterLive(adapter="p-v1-0", gateway="g", published=1.25, seconds=2)),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.data.type)
def test_every_kind_of_event_comes_back_as_it_was(event):
    assert decode(*encode(event)) == event


def test_the_envelope_is_a_cloud_event_in_binary_mode():
    body, headers = encode(rating("f1", time=1_700_000_000.25))
    assert dict(headers) == {
        "content-type": b"application/json",
        "ce_specversion": b"1.0",
        "ce_id": b"e-f1",
        "ce_type": b"plaudit.feedback.set.v1",
        "ce_source": b"/plaudit",
        "ce_subject": b"c1",
        "ce_time": b"2023-11-14T22:13:20.25Z",
        "ce_project": b"p",
    }
    assert json.loads(body)["judgement"] == {
        "kind": "rating",
        "value": 1,
        "tags": [],
        "comment": "",
        "decision_ms": None,
    }


@given(st.floats(min_value=0, max_value=2e11))
@example(-1.25)
def test_a_time_keeps_every_digit(time):
    assert decode(*encode(rating("f1", time=time))).time == time


def test_a_time_in_another_zone_is_read():
    body, headers = encode(rating("f1"))
    headers = [(name, b"2023-11-14T23:13:20.5+01:00" if name == "ce_time" else value) for name, value in headers]
    assert decode(body, headers).time == 1_700_000_000.5


def test_readers_ignore_what_they_do_not_know():
    body, headers = encode(rating("f1"))
    newer = json.dumps(json.loads(body) | {"mood": "sunny"}).encode()
    assert decode(newer, [*headers, ("ce_new", b"\xff")]) == rating("f1")


def test_a_kind_of_feedback_that_a_newer_version_writes_is_left_alone():
    body, headers = encode(rating("f1"))
    newer = json.loads(body) | {"judgement": {"kind": "hum", "pitch": 440}}
    event = decode(json.dumps(newer).encode(), headers)
    assert (event.id, event.topic, event.data) == (
        "e-f1",
        "feedback",
        Unrecognized(type="feedback.set", unrecognized=True),
    )
    with pytest.raises(ValueError, match=r"feedback\.set"):
        encode(event)


def test_a_type_of_event_that_a_newer_version_writes_is_left_alone():
    _, headers = encode(rating("f1"))
    headers = [(name, b"plaudit.feedback.sung.v1" if name == "ce_type" else value) for name, value in headers]
    assert decode(b'{"type":"feedback.sung"}', headers).topic == "feedback"
    headers = [(name, b"plaudit.opera.sung.v1" if name == "ce_type" else value) for name, value in headers]
    with pytest.raises(DecodeError):
        decode(b'{"type":"opera.sung"}', headers)


def test_the_dead_letter_of_feedback_without_a_target_holds_nothing_that_people_wrote():
    record = Record(Position("feedback", 3, 7), rating("f1", comment="a canary sang"))
    letter = no_target(record, 1.0)
    assert "canary" not in letter.model_dump_json()
    assert json.loads(letter.data.body)["feedback_id"] == "f1"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ce_id": None}, "'ce_id' is missing"),
        ({"ce_specversion": b"0.3"}, "CloudEvent 1.0"),
        ({"ce_type": b"plaudit.feedback.set.v2"}, "ce_type"),
        ({"ce_time": b"yesterday"}, "yesterday"),
        ({"ce_time": b"2023-11-14T22:13:20.xZ"}, "."),
        ({"ce_subject": b"\xff"}, "utf-8"),
        ({"ce_id": b""}, "id: "),
    ],
)
def test_a_wrong_header_is_named(change, said):
    body, headers = encode(rating("f1"))
    changed = [(name, change.get(name, value)) for name, value in headers]
    with pytest.raises(DecodeError, match=said):
        decode(body, [(name, value) for name, value in changed if value is not None])


@pytest.mark.parametrize("body", [b"", b"\xff", b"[]", b'{"type":"feedback.set"}', b'{"type":"unknown"}', b"[" * 100_000])
def test_a_wrong_body_is_a_decode_error(body):
    with pytest.raises(DecodeError):
        decode(body, encode(rating("f1"))[1])


def test_what_cannot_be_read_becomes_a_dead_letter_at_its_place_with_one_id():
    place = Position("feedback", 3, 7)
    first, second = (decode_record(place, b"x" * 100_000, [], received) for received in (1.0, 2.0))
    assert first.position == place
    assert first.event.id == second.event.id == "dead-letter:poison:feedback:3:7"
    assert len(first.event.data.body) == 65_536
    assert decode(*encode(first.event)) == first.event


def test_an_orphans_dead_letter_says_where_it_is():
    letter = no_target(record(rating("f1"), 7, 3), now=9.0)
    assert (letter.id, letter.project, letter.data.reason) == ("dead-letter:no_target:feedback:3:7", "p", "no_target")
    assert json.loads(letter.data.body)["feedback_id"] == "f1"


@pytest.mark.parametrize(
    ("key", "hashed"),
    # From Kafka's own UtilsTest.java (testMurmur2), as signed 32-bit numbers there.
    [("21", -973932308), ("foobar", -790332482), ("a-little-bit-long-string", -985981536), ("abc", 479470107)],
)
def test_murmur2_is_kafkas(key, hashed):
    assert murmur2(key.encode()) == hashed % 2**32


@given(st.text(), st.integers(1, 100))
def test_a_partition_is_what_kafkas_own_client_takes(key, partitions):
    from kafka.partitioner.default import murmur2 as reference

    assert murmur2(key.encode()) == reference(key.encode())
    assert partition_of(key, partitions) == (reference(key.encode()) & 0x7FFFFFFF) % partitions
