from __future__ import annotations

import threading

import pytest

from feedback.events import CompletionCreated, CompletionText, Event, Exposure, FeedbackSet, Message, Rating, Target
from feedback.log import LogUnavailable, TopicReader
from feedback.sqlite_log import SqliteLog
from ops.controller import run
from ops.open_log import open_log_of
from ops.retention import Retention, days_of
from ops.settings import SettingsError, load_settings

DAY = 86_400.0


def completion(name: str, time: float) -> Event:
    exposure = Exposure(completion_id=name, adapter="base")
    text = CompletionText(messages=(Message(role="user", content="hi"),), answer="hello")
    data = CompletionCreated(completion_id=name, conversation="c", user="u", text=text, exposure=exposure)
    return Event(id=name, time=time, project="default", key="c", data=data)


def thumb(name: str, target: str, time: float) -> Event:
    data = FeedbackSet(feedback_id=name, target=Target(completion_ids=(target,)), rater="u", judgement=Rating(value=1))
    return Event(id=name, time=time, project="default", key="c", data=data)


def settings_for(folder, **retention):
    return load_settings(data_dir=folder, retention=retention, metrics_port_controller=0)


def fill(settings) -> None:
    with open_log_of(settings) as log:
        log.append([completion("x1", time=0.0), thumb("f1", "x1", time=1.0), thumb("f2", "x1", time=50 * DAY)])


def left(settings) -> dict[str, int]:
    with open_log_of(settings) as log:
        return {topic: len(TopicReader(log, topic).drain()) for topic in ("completions", "feedback")}


def test_nothing_is_deleted_unless_the_settings_say_so(tmp_path):
    settings = settings_for(tmp_path)
    fill(settings)
    with open_log_of(settings) as log:
        assert Retention(log, settings.retention, clock=lambda: 1e12).keep() == {}
    assert left(settings) == {"completions": 1, "feedback": 2}
    assert days_of(settings.retention) == {}


def test_what_is_too_old_goes_once_an_hour(tmp_path):
    settings = settings_for(tmp_path, feedback_days=20, completions_days=60)
    fill(settings)
    now = [59 * DAY]
    with open_log_of(settings) as log:
        retention = Retention(log, settings.retention, clock=lambda: now[0])
        assert retention.keep() == {"feedback": 1, "completions": 0}
        now[0] += 3599
        assert retention.keep() == {}
        now[0] = 61 * DAY
        assert retention.keep() == {"feedback": 0, "completions": 1}
    assert left(settings) == {"completions": 0, "feedback": 1}


def test_the_controller_keeps_it(tmp_path):
    settings = settings_for(tmp_path, feedback_days=20)
    fill(settings)
    stop = threading.Event()
    thread = threading.Thread(target=run, args=(settings,), kwargs={"stop": stop})
    thread.start()
    try:
        log = SqliteLog(settings.log_path)
        waited = threading.Event()
        for _ in range(500):
            if not TopicReader(log, "feedback").drain():
                break
            waited.wait(0.02)
        assert TopicReader(log, "feedback").drain() == []
        log.close()
    finally:
        stop.set()
        thread.join(10)
    assert not thread.is_alive()


def test_a_controller_that_looks_once_keeps_it_too(tmp_path):
    settings = settings_for(tmp_path, feedback_days=20, completions_days=60)
    fill(settings)
    run(settings, once=True)
    assert left(settings) == {"completions": 0, "feedback": 0}


def test_what_is_said_of_too_long_a_life_names_what_is_set_and_what_would_fit(tmp_path):
    with pytest.raises(SettingsError, match="Set PLAUDIT_RETENTION__FEEDBACK_DAYS to at most 370"):
        settings_for(tmp_path, completions_days=400)
    with pytest.raises(
        SettingsError, match="COMPLETIONS_DAYS above 30, and PLAUDIT_RETENTION__FEEDBACK_DAYS, now 90, to at most"
    ):
        settings_for(tmp_path, completions_days=30, feedback_days=90)


def test_a_clusters_topics_are_asked_about_until_they_can_be(tmp_path):
    cluster = {"log_backend": "kafka", "kafka_bootstrap_servers": "127.0.0.1:1"}
    settings = load_settings(data_dir=tmp_path, retention={"feedback_days": 20}, **cluster)
    with open_log_of(settings) as log:
        retention = Retention(log, settings.retention, clock=lambda: 0.0)
        for _ in range(2):
            with pytest.raises(LogUnavailable, match="nobody listens"):
                retention.keep()


@pytest.mark.parametrize(
    "retention",
    [{"completions_days": 90}, {"completions_days": 90, "feedback_days": 61}, {"completions_days": 20, "feedback_days": 1}],
)
def test_completions_outlive_the_feedback_on_them(tmp_path, retention):
    with pytest.raises(SettingsError, match=r"retention.completions_days=\d+: feedback.*PLAUDIT_RETENTION__FEEDBACK_DAYS"):
        settings_for(tmp_path, **retention)
    assert settings_for(tmp_path, completions_days=90, feedback_days=60).retention.completions_days == 90
