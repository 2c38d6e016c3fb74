"""Events of an older version are read by this one, and this one's by the older; schemas in the repository say how.

``older_version/`` has the schemas and events of the version that knew ratings and preferences only, as it wrote them.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from feedback_samples import amendment, completion, judged, preference, rating, retraction
from schema_changes import breaks

from feedback.codec import dead_letter, decode, encode
from feedback.events import (
    AdapterLive,
    AdapterRefused,
    Correction,
    Event,
    Flag,
    Implicit,
    Preference,
    Ranking,
    RolloutChanged,
    Score,
    Unrecognized,
)
from feedback.log import Position
from feedback.schema import FOLDER, files, schemas, write

OLDER = Path(__file__).parent / "older_version"
OLDER_SCHEMAS: dict[str, dict[str, Any]] = json.loads((OLDER / "schemas.json").read_text())
OLDER_EVENTS: list[dict[str, Any]] = json.loads((OLDER / "events.json").read_text())


def event_of(data: Any) -> Event:
    return Event(id="e", time=1.5, project="p", key="p", data=data)


OLD_KINDS = [
    completion("x1", comparison="cmp_1"),
    rating("f1", comment="naïve", sequence=3),
    *(preference("f2", value=value) for value in ("a", "b", "tie", "both_bad")),
    retraction("f1", sequence=4),
    event_of(RolloutChanged(rollout_id="r1", state="RAMP", coverage=0.1)),
    event_of(AdapterLive(adapter="p-v1-0", gateway="g", published=1.25, seconds=2)),
    event_of(AdapterRefused(adapter="p-v1-0", gateway="g", reason="too large")),
    dead_letter("poison", Position("feedback", 1, 2), b"\xff", 1.0),
]
NEW_KINDS = [
    judged("f3", Ranking(ranks=(1, 2, 2)), ("x1", "x2", "x3")),
    judged("f4", Correction(text="Noon.")),
    judged("f5", Score(metric="resolved", value=1, boolean=True)),
    judged("f6", Flag(harms=("toxicity",))),
    judged("f7", Implicit(action="dwell", ms=900)),
    judged("f8", Preference(value="both_good"), ("x1", "x2")),
    amendment("f9", {"comment": "better"}),
]


def test_the_schemas_in_the_repository_are_those_of_the_models():
    found = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}
    assert found == files(), "run: python -m feedback.schema"


def test_writing_the_schemas_removes_those_of_types_that_are_no_more(tmp_path):
    (tmp_path / "plaudit.opera.sung.v1.json").write_text("{}")
    assert {path.name for path in write(tmp_path)} == {path.name for path in tmp_path.iterdir()} == set(files())


@pytest.mark.parametrize("event", OLD_KINDS + NEW_KINDS, ids=lambda event: event.data.type)
def test_what_is_written_fits_its_schema(event):
    body, headers = encode(event)
    jsonschema.validate(json.loads(body), schemas()[dict(headers)["ce_type"].decode()])


def test_events_of_the_older_version_are_read_and_nothing_of_them_is_lost():
    assert {each["headers"]["ce_type"] for each in OLDER_EVENTS} == {f"plaudit.{type}.v1" for type in OLDER_SCHEMAS}
    for each in OLDER_EVENTS:
        headers = [(name, value.encode()) for name, value in each["headers"].items()]
        event = decode(json.dumps(each["body"]).encode(), headers)
        assert not isinstance(event.data, Unrecognized)
        assert missing(each["body"], json.loads(event.data.model_dump_json())) == []
        jsonschema.validate(each["body"], schemas()[each["headers"]["ce_type"]])


def missing(old: Any, new: Any, path: str = "") -> list[str]:
    """Paths of what ``old`` says and ``new`` does not."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [p for name, value in old.items() for p in missing(value, new.get(name), f"{path}/{name}")]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [p for n, (a, b) in enumerate(zip(old, new, strict=True)) for p in missing(a, b, f"{path}/{n}")]
    return [] if old == new else [path]


@pytest.mark.parametrize("event", OLD_KINDS, ids=lambda event: event.data.type)
def test_an_older_reader_reads_what_this_version_writes_of_what_it_knows(event):
    body, _ = encode(event)
    jsonschema.validate(json.loads(body), OLDER_SCHEMAS[event.data.type])


@pytest.mark.parametrize("event", NEW_KINDS, ids=lambda event: event.data.type)
def test_to_an_older_reader_new_kinds_are_new_and_never_something_else(event):
    assert event.data.type not in OLDER_SCHEMAS or not jsonschema.Draft202012Validator(OLDER_SCHEMAS[event.data.type]).is_valid(
        json.loads(encode(event)[0])
    )


def test_fields_are_only_ever_added_with_a_default():
    now = {name.removeprefix("plaudit.").removesuffix(".v1"): schema for name, schema in schemas().items()}
    for type, schema in OLDER_SCHEMAS.items():
        assert breaks(schema, now[type]) == [], type


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (["properties", "rater"], None, "/rater: gone"),
        (["properties", "rater"], {"type": "integer"}, "/rater: type string is not taken any more"),
        (["properties", "client_sequence"], {"type": "integer"}, "/client_sequence: type null is not taken any more"),
        (["properties", "rater"], {"anyOf": [{"type": "string"}, {"type": "null"}]}, "/rater: type null is new"),
        (["$defs", "Rating", "properties", "value", "enum"], [1], "/judgement[rating]/value: value -1 is not taken any more"),
        (["$defs", "Target", "properties", "completion_ids"], None, "/target/completion_ids: gone"),
        (["properties", "mood"], {"type": "string"}, None),
        (["required"], ["feedback_id", "target", "rater", "judgement", "source"], "/source: required now"),
    ],
)
def test_a_change_that_breaks_readers_is_found(path, value, said):
    old = OLDER_SCHEMAS["feedback.set"]
    new = copy.deepcopy(old)
    place = new
    for name in path[:-1]:
        place = place[name]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    found = breaks(old, new)
    assert (found == []) if said is None else (said in found)


def test_a_new_field_that_must_be_there_is_found():
    new = copy.deepcopy(OLDER_SCHEMAS["feedback.set"])
    new["properties"]["mood"] = {"type": "string"}
    new["required"].append("mood")
    assert breaks(OLDER_SCHEMAS["feedback.set"], new) == ["/mood: new, and required"]
