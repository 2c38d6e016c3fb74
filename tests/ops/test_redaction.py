from __future__ import annotations

import importlib
from types import ModuleType, SimpleNamespace

import pytest

from feedback.events import CompletionCreated, CompletionText, Event, Exposure, Message
from feedback.log import TopicReader
from ops.open_log import open_log_of
from ops.redaction import redactor_of, without
from ops.settings import SettingsError, load_settings


def found(start: int, end: int, kind: str) -> SimpleNamespace:
    return SimpleNamespace(start=start, end=end, entity_type=kind)


def test_texts_are_kept_as_they_are_unless_the_settings_say_otherwise(tmp_path):
    assert redactor_of(load_settings(data_dir=tmp_path)) is None
    assert redactor_of(load_settings(data_dir=tmp_path, redact="patterns"))("to a@b.example") == "to [email]"


def test_what_a_log_keeps_is_redacted(tmp_path):
    text = CompletionText(messages=(Message(role="user", content="where?"),), answer="mail a@b.example")
    exposure = Exposure(completion_id="x1", adapter="base")
    data = CompletionCreated(completion_id="x1", conversation="c", user="u", text=text, exposure=exposure)
    event = Event(id="x1", time=0.0, project="default", key="c", data=data)
    with open_log_of(load_settings(data_dir=tmp_path, redact="patterns")) as log:
        log.append([event])
        (record,) = TopicReader(log, "completions").drain()
    assert record.event.data.text.answer == "mail [email]"


def test_spans_are_replaced_by_their_kinds_and_of_two_that_overlap_the_first():
    text = "Ann Lee lives in Rome"
    spans = [found(17, 21, "LOCATION"), found(4, 7, "PERSON"), found(0, 7, "PERSON"), found(0, 3, "PERSON")]
    assert without(text, lambda text: spans) == "[person] lives in [location]"
    assert without("nothing", lambda text: []) == "nothing"


def test_presidio_is_asked_after_the_patterns(tmp_path):
    class AnalyzerEngine:
        def analyze(self, *, text: str, language: str) -> list[SimpleNamespace]:
            assert (text, language) == ("Ann is [email]", "en")
            return [found(0, 3, "PERSON")]

    modules = {"presidio_analyzer": SimpleNamespace(AnalyzerEngine=AnalyzerEngine)}
    redact = redactor_of(load_settings(data_dir=tmp_path, redact="presidio"), modules.__getitem__)
    assert redact("Ann is a@b.example") == "[person] is [email]"


def test_where_presidio_is_missing_it_is_said_how_to_get_it(tmp_path):
    def imported(name: str) -> ModuleType:
        return importlib.import_module(f"{name}_that_nobody_has")

    with pytest.raises(SettingsError, match=r"plaudit\[presidio\]"):
        redactor_of(load_settings(data_dir=tmp_path, redact="presidio"), imported)
