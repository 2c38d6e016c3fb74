from __future__ import annotations

import time

import pytest

from ops.errors import SettingsError
from ops.hours import parse_hours, within_hours
from ops.settings import load_settings


@pytest.fixture(autouse=True)
def _berlin(monkeypatch):
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def at(hour: int, minute: int = 0) -> float:
    return time.mktime((2026, 7, 1, hour, minute, 0, 0, 0, -1))


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("22-6", [(22, 0), (23, 59), (0, 0), (5, 59)], [(6, 0), (12, 0), (21, 59)]),
        ("8:30-12", [(8, 30), (11, 59)], [(8, 29), (12, 0), (0, 0)]),
        ("22-24", [(22, 0), (23, 59)], [(0, 0), (21, 59)]),
        (" 0 - 6 ", [(0, 0)], [(6, 0)]),
    ],
)
def test_hours_are_of_local_time_and_may_pass_midnight(text, inside, outside):
    assert [within_hours(text, at(*moment)) for moment in inside] == [True] * len(inside)
    assert [within_hours(text, at(*moment)) for moment in outside] == [False] * len(outside)


def test_no_hours_are_all_day():
    assert within_hours("", at(3))


@pytest.mark.parametrize("wrong", ["night", "22", "22-25", "24-6", "7-7", "8:60-9", "8:5-9", "22-6-8", "-1-3"])
def test_what_is_no_hours_is_refused_with_an_example(wrong, tmp_path):
    with pytest.raises(ValueError, match="22-6 or 8:30-12"):
        parse_hours(wrong)
    with pytest.raises(SettingsError, match=r"train\.hours=.*8:30-12.*PLAUDIT_TRAIN__HOURS"):
        load_settings(data_dir=tmp_path, train={"hours": wrong})
