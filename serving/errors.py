"""Errors as OpenAI's API tells them: ``{"error": {"message", "type", "param", "code"}}``, whatever went wrong.

Messages say what to do. None of them holds a path, an engine's address or an adapter's name.
"""

from __future__ import annotations

import math
import re
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from feedback.log import LogError
from feedback.receipts import ReceiptError, ReceiptExpired
from feedback.seal import KeysUnavailable
from ops.database import DatabaseUnavailable
from serving.capture import AnswerUnsealed
from serving.engine import EngineError, EngineTimeout, EngineUnavailable

_API = "/v1/chat/completions, /v1/models, /v1/feedback and /v1/label/…, see /openapi.json"
_TOO_LONG = re.compile("context length|maximum model length|max_model_len")
_ENGINES_NAMES = re.compile(r"\s*\(parameter=[^)]*\)")

_logger = structlog.get_logger(__name__)


class ApiError(Exception):
    """Base of what the gateway answers instead of a result."""

    status = 500
    type = "server_error"
    code: str | None = "internal_error"
    headers: dict[str, str] = {}  # noqa: RUF012 - never changed

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code or self.code
        self.retry_after_s = retry_after_s

    @property
    def body(self) -> dict[str, Any]:
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


class InvalidRequest(ApiError):
    status = 400
    type = "invalid_request_error"
    code = "invalid_value"


class Unauthenticated(ApiError):
    status = 401
    type = "authentication_error"
    code = "invalid_api_key"
    headers = {"www-authenticate": "Bearer"}  # noqa: RUF012


class Forbidden(ApiError):
    status = 403
    type = "permission_error"
    code = "forbidden"


class NotFound(ApiError):
    status = 404
    type = "invalid_request_error"
    code = "not_found"


class RequestTimeout(ApiError):
    """The client did not send its request in time."""

    status = 408
    type = "invalid_request_error"
    code = "request_timeout"
    headers = {"connection": "close"}  # noqa: RUF012


class Conflict(ApiError):
    status = 409
    type = "invalid_request_error"
    code = "idempotency_conflict"
    headers = {"x-should-retry": "false"}  # noqa: RUF012 - OpenAI's SDK repeats a 409 unless told not to


class TooLarge(ApiError):
    status = 413
    type = "invalid_request_error"
    code = "body_too_large"
    headers = {"connection": "close"}  # noqa: RUF012 - the rest of the body is not read


class ClientGone(ApiError):
    """The client hung up; nobody reads this answer."""

    status = 499
    type = "invalid_request_error"
    code = "client_gone"


class RateLimited(ApiError):
    """A key has used up what it may. ``retry_after_s`` is when there is room again."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class EngineFailed(ApiError):
    status = 502
    code = "engine_error"


class Unavailable(ApiError):
    status = 503
    code = "unavailable"
    headers = {"x-should-retry": "true"}  # noqa: RUF012

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None, retry_after_s: float = 1) -> None:
        super().__init__(message, param=param, code=code, retry_after_s=retry_after_s)


class DeadlineExceeded(ApiError):
    status = 504
    code = "timeout"


def as_api_error(error: Exception) -> ApiError:
    """What to tell the client of an error from any of the rooms below. Errors that are not known become a 500."""
    match error:
        case ApiError():
            return error
        case ReceiptExpired():
            return InvalidRequest(error.message, param="receipt", code=error.code)
        case ReceiptError():
            return Unauthenticated(error.message, param="receipt", code=error.code)
        case AnswerUnsealed():
            text = (
                "This answer is not kept yet, since it is kept sealed, and the database with its user's key does not answer now"
            )
            return Unavailable(f"{text}: nothing was recorded, try again.", code=error.code, retry_after_s=2)
        case KeysUnavailable():
            text = "What people write is kept sealed, and the database with this user's key does not answer now"
            return Unavailable(f"{text}: nothing was recorded, try again.", code=error.code, retry_after_s=2)
        case LogError(status=409):
            return Conflict("This Idempotency-Key came with another body before: send a new key, or the same body again.")
        case LogError(status=413):
            return TooLarge("This event is too large to be kept: send shorter texts.", code=error.code)
        case LogError():
            return Unavailable("The event log cannot keep this now: nothing was recorded, try again.", code=error.code)
        case DatabaseUnavailable() | PoolTimeout():
            return Unavailable("The database does not answer now: try again.", code="database_unavailable", retry_after_s=2)
        case EngineError():
            return _of_engine(error)
        case TimeoutError():
            return DeadlineExceeded("The answer took longer than the gateway waits for one: ask for fewer tokens.")
        case _:
            return ApiError("The server failed on this request. It was logged under the request id.")


def _of_engine(error: EngineError) -> ApiError:
    """An engine's refusal of the request itself is passed on; all else is the engine's trouble, not the client's."""
    match error:
        case EngineTimeout():
            return DeadlineExceeded("The model did not answer within the deadline: ask for fewer tokens, or try again.")
        case EngineUnavailable():
            return Unavailable("The model is not available now: try again.", code="engine_unavailable", retry_after_s=2)
        case EngineError(status=400 | 422):
            return _refused_by_engine(error)
        case EngineError(status=429):  # an upstream with limits of its own
            return RateLimited("The model takes no more requests now: try again.", retry_after_s=2)
        case EngineError(status=404):  # it restarted and does not know the adapter yet
            return Unavailable("The model is being loaded: try again.", code="engine_unavailable", retry_after_s=1)
        case _:
            return EngineFailed("The model failed to answer: try again.", code="engine_error")


def _refused_by_engine(error: EngineError) -> InvalidRequest:
    """In the engine's words, without its own names for things."""
    message = _ENGINES_NAMES.sub("", error.message)
    if not _TOO_LONG.search(message):
        return InvalidRequest(message, param=error.param)
    advice = "Shorten the conversation, or ask for fewer tokens."
    return InvalidRequest(f"{message.rstrip('.')}. {advice}", param="messages", code="context_length_exceeded")


def error_response(error: ApiError, request_id: str | None = None) -> JSONResponse:
    headers = dict(error.headers)
    if error.retry_after_s is not None:
        headers["retry-after"] = str(math.ceil(error.retry_after_s))
    if request_id is not None:
        headers["x-request-id"] = request_id
    return JSONResponse(error.body, status_code=error.status, headers=headers)


def install_error_handlers(app: FastAPI, api: str = _API) -> None:
    """Every error of every route in one shape. ``api`` is what a wrong path is told there is."""

    async def known(request: Request, error: Exception) -> JSONResponse:
        answer = as_api_error(error)
        if answer.status >= 500:
            _logger.warning("request_failed", code=answer.code, error=f"{type(error).__name__}: {error}")
        return error_response(answer)

    async def of_router(request: Request, error: HTTPException) -> JSONResponse:
        return error_response(_of_router(request, error, api))

    async def unknown(request: Request, error: Exception) -> JSONResponse:
        return error_response(as_api_error(error), getattr(request.state, "request_id", None))

    for kind in (ApiError, ReceiptError, LogError, DatabaseUnavailable, PoolTimeout, EngineError, TimeoutError):
        app.add_exception_handler(kind, known)
    app.add_exception_handler(HTTPException, of_router)
    app.add_exception_handler(Exception, unknown)


def _of_router(request: Request, error: HTTPException, api: str) -> ApiError:
    """Starlette's own 404 and 405; FastAPI's 400 for a body that it could not read, which is ours to explain."""
    if isinstance(error.__cause__, ApiError):
        return error.__cause__
    path, method = request.url.path, request.method
    if error.status_code == HTTPStatus.NOT_FOUND:
        answer: ApiError = NotFound(f"There is no {path} here: the API is {api}.", code="unknown_url")
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "another method")
        answer = InvalidRequest(f"{path} does not take {method}: send {allowed}.", code="method_not_allowed")
    else:
        answer = InvalidRequest(str(error.detail))
    answer.status = error.status_code
    answer.headers = {**answer.headers, **(error.headers or {})}
    return answer
