"""Web pages of other origins: they may send feedback with a receipt, where the receipt's project names their origin.

Nothing else is for them. What a page may send says the preflight, which knows no project yet, so any project's origins
pass it; the answer itself is decided by the project.
"""

from __future__ import annotations

from contextlib import suppress

from fastapi import Request, Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ops.database import DatabaseUnavailable
from serving.errors import ApiError, Forbidden, as_api_error, error_response
from serving.known_keys import KnownKeys

_PREFLIGHT = {
    "access-control-allow-methods": "POST",
    "access-control-allow-headers": "content-type, idempotency-key, x-plaudit-receipt",
    "access-control-max-age": "600",
}
_EXPOSED = "x-request-id, retry-after"


def foreign_origin(headers: Headers) -> str | None:
    """The origin of the page that makes a request; None for our own pages, and for what is no page."""
    origin = headers.get("origin")
    if origin is None:
        return None
    scheme, _, host = origin.partition("://")
    return None if scheme and host and host == headers.get("host") else origin


class Origins:
    """Which origins the projects name, as far as the gateway knows its projects."""

    def __init__(self, keys: KnownKeys) -> None:
        self._keys = keys

    async def known(self, origin: str) -> bool:
        """Whether any project names it. Raises `DatabaseUnavailable`."""
        return any(origin in named for named in (await self._keys.origins()).values())

    async def check(self, request: Request, project: str) -> None:
        """Raise `Forbidden` for a page of an origin that the project does not name; others may read the answer."""
        origin = foreign_origin(request.headers)
        if origin is None:
            return
        if origin not in (await self._keys.origins()).get(project, ()):
            request.state.allow_origin = None
            text = f"Pages of {origin[:200]} may not rate answers of this project: allow it with 'plaudit projects origins'."
            raise Forbidden(text, param="origin", code="origin_not_allowed")
        request.state.allow_origin = origin


class Cors:
    """ASGI middleware for the one ``path`` that pages of other origins may call."""

    def __init__(self, app: ASGIApp, origins: Origins, path: str) -> None:
        self._app, self._origins, self._path = app, origins, path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != self._path:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = foreign_origin(headers)
        if origin is not None and scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            await (await self._preflight(origin))(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state["allow_origin"] = None
        with suppress(DatabaseUnavailable):  # whoever has to decide about the origin says so
            state["allow_origin"] = origin if origin is not None and await self._origins.known(origin) else None
        await self._answer(scope, receive, send)

    async def _preflight(self, origin: str) -> Response:
        try:
            if await self._origins.known(origin):
                return Response(status_code=204, headers=_PREFLIGHT | _allowing(origin))
            text = f"Pages of {origin[:200]} may not rate answers: allow it with 'plaudit projects origins'."
            response = error_response(Forbidden(text, param="origin", code="origin_not_allowed"))
        except DatabaseUnavailable as error:
            response = error_response(as_api_error(error))
        response.headers["vary"] = "origin"
        return response

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def send_readable(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message).update(_allowing(scope["state"]["allow_origin"]))
            await send(message)

        try:
            await self._app(scope, receive, send_readable)
        except Exception as error:
            if not started:  # no handler knew it: told here, so that the page can read that too
                failure: ApiError = as_api_error(error)
                await error_response(failure, scope["state"].get("request_id"))(scope, receive, send_readable)
            raise


def _allowing(origin: str | None) -> dict[str, str]:
    if origin is None:
        return {"vary": "origin"}
    return {"vary": "origin", "access-control-allow-origin": origin, "access-control-expose-headers": _EXPOSED}
