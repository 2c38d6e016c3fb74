"""Every failure is an exception of the SDK's own, of the class that its documentation promises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest
from sdk_client import FIRST, NO_END, Sdk, setup, told

LONG = [{"role": "user", "content": "word " * 2000}]
REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"temperature": 3}, "temperature", "invalid_value"),
    ({"n": 99}, "n", "invalid_value"),
    ({"extra_body": {"nonsense": 1}}, "nonsense", "unknown_parameter"),
    ({"messages": []}, "messages", "invalid_value"),
    ({"messages": LONG}, "messages", "context_length_exceeded"),
]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize(("wrong", "param", "code"), REFUSED, ids=[param + "-" + code for _, param, code in REFUSED])
def check_what_is_wrong_with_a_request_is_a_bad_request_error(
    sdk: Sdk, wrong: dict[str, Any], param: str, code: str, stream: bool
):
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.chat(stream=stream, **wrong)
    error = refused.value
    said = told(error)
    assert (error.status_code, said["param"], said["code"], said["type"]) == (400, param, code, "invalid_request_error")
    assert error.response.headers["x-request-id"].startswith("req_")
    assert getattr(error, "request_id", "req_").startswith("req_")


def check_a_wrong_key_is_an_authentication_error(open_sdk: Callable[..., Sdk]):
    with pytest.raises(openai.AuthenticationError) as refused:
        open_sdk(setup()["url"], "sk-wrong").chat()
    assert (refused.value.status_code, told(refused.value)["code"]) == (401, "invalid_api_key")


def check_a_key_of_another_role_is_a_permission_error(open_sdk: Callable[..., Sdk]):
    with pytest.raises(openai.PermissionDeniedError) as refused:
        open_sdk(setup()["url"], setup()["annotator_key"]).chat()
    assert refused.value.status_code == 403


def check_other_models_do_not_exist_and_adapters_least_of_all(open_sdk: Callable[..., Sdk]):
    sdk = open_sdk(setup()["direct_url"], setup()["key"])
    for model in ("gpt-4o", "base", *setup()["adapters"]):
        with pytest.raises(openai.NotFoundError) as refused:
            sdk.chat(model=model)
        assert (told(refused.value)["param"], told(refused.value)["code"]) == ("model", "model_not_found")
        with pytest.raises(openai.NotFoundError):
            sdk.run(sdk.client.models.retrieve(model))


def check_an_application_cannot_pin_an_adapter(open_sdk: Callable[..., Sdk]):
    sdk = open_sdk(setup()["direct_url"], setup()["key"])
    with pytest.raises((openai.BadRequestError, openai.PermissionDeniedError)) as refused:
        sdk.chat(extra_body={"plaudit_adapter": setup()["adapters"][0]})
    assert told(refused.value)["param"] == "plaudit_adapter"


def check_a_key_that_asks_too_often_is_told_when_to_come_back(open_sdk: Callable[..., Sdk], kind: str):
    limited = open_sdk(setup()["url"], setup()["limited_keys"][kind])
    with pytest.raises(openai.RateLimitError) as refused:
        [limited.chat(max_tokens=1) for _ in range(3)]  # one a minute is allowed; a minute may end in between
    assert (refused.value.status_code, told(refused.value)["type"]) == (429, "rate_limit_error")
    assert 1 <= int(refused.value.response.headers["retry-after"]) <= 60


def check_a_failure_in_mid_stream_is_an_api_error_after_what_was_said(open_sdk: Callable[..., Sdk]):
    sdk = open_sdk(**setup()["scripted"])
    stream = sdk.chat(stream=True, messages=[{"role": "user", "content": "break now"}])
    heard = sdk.some(stream, 2)
    assert heard[1].choices[0].delta.content
    with pytest.raises(openai.APIError) as failed:
        sdk.all(stream)
    assert not isinstance(failed.value, openai.APIConnectionError)
    assert failed.value.code == "engine_unavailable"
    assert failed.value.message


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize(("script", "status", "code"), [("fail", 502, "engine_error"), ("late", 504, "timeout")])
def check_a_model_that_fails_is_an_internal_server_error(
    open_sdk: Callable[..., Sdk], script: str, status: int, code: str, stream: bool
):
    sdk = open_sdk(**setup()["scripted"])
    with pytest.raises(openai.InternalServerError) as failed:
        sdk.chat(stream=stream, messages=[{"role": "user", "content": script}])
    assert (failed.value.status_code, told(failed.value)["code"]) == (status, code)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def check_a_gateway_without_an_engine_asks_to_be_tried_again(open_sdk: Callable[..., Sdk], stream: bool):
    with pytest.raises(openai.InternalServerError) as failed:
        open_sdk(**setup()["without_engine"]).chat(stream=stream)
    assert (failed.value.status_code, told(failed.value)["code"]) == (503, "engine_unavailable")
    assert failed.value.response.headers["x-should-retry"] == "true"
    assert int(failed.value.response.headers["retry-after"]) >= 1


def check_a_client_that_waits_no_longer_gets_its_own_timeout(open_sdk: Callable[..., Sdk], kind: str):
    given = setup()
    hasty = open_sdk(given["url"], given["key"], timeout=0.15)
    # The first release's async client lets httpx's own exception through.
    with pytest.raises(httpx.ReadTimeout if FIRST and kind == "async" else openai.APITimeoutError):
        hasty.chat(max_tokens=400, logit_bias=NO_END)


def check_a_gateway_that_is_not_there_is_a_connection_error(open_sdk: Callable[..., Sdk]):
    with pytest.raises(openai.APIConnectionError):
        open_sdk("http://127.0.0.1:9", "nobody listens").chat()
