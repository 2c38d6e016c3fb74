"""Who makes a request: the holder of a key, or a browser with the chat page's session. Everybody else is refused."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import Request

from serving.cors import foreign_origin
from serving.errors import Forbidden, InvalidRequest, NotFound, Unauthenticated
from serving.keys import Caller
from serving.known_keys import KnownKeys
from serving.sessions import Sessions

_NAMED = 5
"""How many of a key's projects a message names."""


class Authenticator:
    """``page_is_open(host)`` says whether the page is served to browsers that call this server ``host``; without: never."""

    def __init__(
        self,
        keys: KnownKeys,
        sessions: Sessions | None = None,
        cookie: str = "",
        page_is_open: Callable[[str | None], bool] = lambda host: False,
    ) -> None:
        self._keys = keys
        self._sessions = sessions
        self._cookie = cookie
        self._page_is_open = page_is_open

    async def by_key(self, request: Request) -> Caller | None:
        """The key's holder; None when the request has no ``Authorization``.

        Raises `Unauthenticated` for a bad key, `DatabaseUnavailable` where nobody can say.
        """
        header = request.headers.get("authorization")
        if header is None:
            return None
        scheme, _, secret = header.partition(" ")
        if scheme.lower() != "bearer" or not secret:
            raise Unauthenticated("The Authorization header must be 'Bearer <API key>'.")
        caller = await self._keys.check(secret.strip())
        if caller is None:
            raise Unauthenticated("This API key is unknown, expired or revoked: make one with 'plaudit keys create'.")
        return caller

    async def caller(self, request: Request) -> Caller:
        """The key's holder, else the visitor of the page's session. Raises `Unauthenticated`."""
        caller = await self.by_key(request) or self._visitor(request)
        if caller is None:
            raise Unauthenticated("Send an API key: 'Authorization: Bearer <API key>'.")
        return caller

    def _visitor(self, request: Request) -> Caller | None:
        """A cookie goes with requests that other sites provoke, so those are refused; JSON and the page's own only."""
        token = request.cookies.get(self._cookie)
        if token is None or self._sessions is None or not self._page_is_open(request.url.hostname):
            return None
        foreign = request.headers.get("sec-fetch-site", "same-origin") != "same-origin"
        if foreign or foreign_origin(request.headers) is not None:
            raise Forbidden("The page's session is for the page itself: send an API key from elsewhere.")
        is_json = request.headers.get("content-type", "").partition(";")[0].strip() == "application/json"
        if request.method != "GET" and not is_json:
            raise InvalidRequest("The content-type must be application/json.", param="content-type")
        return self._sessions.check(token)


def require_project(caller: Caller, model: str) -> str:
    """The project that ``model`` names. Raises `NotFound` unless it is the caller's: adapters and others do not exist for it."""
    if caller.may(model):
        return model
    known = ", ".join(map(repr, caller.projects[:_NAMED]))
    text = f"There is no model {model[:100]!r} for this key: use {known} (see GET /v1/models)."
    raise NotFound(text, param="model", code="model_not_found")
