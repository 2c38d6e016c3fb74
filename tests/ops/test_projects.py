from __future__ import annotations

import pytest

from ops.projects import check_origin, check_project_name
from ops.settings import SettingsError, load_settings


@pytest.mark.parametrize("name", ["a", "0", "shop", "shop-2", "a" * 41])
def test_a_name_that_a_setting_may_have_a_project_may_have(name: str):
    assert check_project_name(name) == load_settings(project=name).project


@pytest.mark.parametrize("name", ["", "-a", "Shop", "a_b", "a" * 42, "a\n", "é", "*"])
def test_a_name_that_is_none_is_refused_by_both(name: str):
    with pytest.raises(ValueError, match="project"):
        check_project_name(name)
    with pytest.raises(SettingsError, match="project"):
        load_settings(project=name)


@pytest.mark.parametrize("origin", ["https://a.example", "http://localhost:3000", "https://a.example:8443", "http://[::1]:3000"])
def test_what_a_browser_sends_is_an_origin(origin: str):
    assert check_origin(origin) == origin


@pytest.mark.parametrize(
    ("origin", "sent"),
    [
        ("https://a.example/", "https://a.example"),
        ("https://a.example/page?x#y", "https://a.example"),
        ("HTTPS://A.example", "https://a.example"),
        ("https://a.example:443", "https://a.example"),
        ("http://a.example:80", "http://a.example"),
        ("https://user:secret@a.example", "https://a.example"),
    ],
)
def test_what_no_browser_sends_is_refused_with_what_it_would_send(origin: str, sent: str):
    with pytest.raises(ValueError, match="browsers send it") as refused:
        check_origin(origin)
    assert f" {sent}," in str(refused.value)


@pytest.mark.parametrize(
    "origin", ["", "*", "null", "a.example", "ftp://a.example", "https://", "https://*.example", "http://[", "https://a:b"]
)
def test_what_is_no_origin_is_refused(origin: str):
    with pytest.raises(ValueError, match="such as https://app"):
        check_origin(origin)
