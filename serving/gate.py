"""Default deny: a route that does not say in a table who may use it is refused, whatever it would do itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from fastapi import Request
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from ops.database import DatabaseUnavailable
from serving.auth import Authenticator
from serving.errors import ApiError, Forbidden, as_api_error, error_response
from serving.keys import Role

Rule = Literal["anyone", "itself"] | tuple[Role, ...]
"""``anyone``: without a key. ``itself``: the route asks the `Authenticator`. Roles: the gate has asked, see ``state.caller``."""

Rules = Mapping[tuple[str, str], Rule]
"""By method and path, as the route has it."""

PUBLIC_PORT: Rules = {
    ("POST", "/v1/chat/completions"): "itself",
    ("POST", "/v1/feedback"): "itself",
    ("GET", "/v1/label/streams"): ("annotator",),
    ("GET", "/v1/label/next"): ("annotator",),
    ("POST", "/v1/label/{task}"): ("annotator",),
    ("GET", "/v1/models"): ("app", "annotator", "operator", "visitor"),
    ("GET", "/v1/models/{model:path}"): ("app", "annotator", "operator", "visitor"),
    ("GET", "/healthz"): "anyone",
    ("GET", "/readyz"): "anyone",
    ("GET", "/metrics"): "anyone",
    ("GET", "/"): "anyone",
    ("GET", "/static/{name}"): "anyone",
    ("GET", "/docs"): "anyone",
    ("GET", "/docs/{name}"): "anyone",
    ("GET", "/openapi.json"): "anyone",
}


class Gate:
    """ASGI middleware before ``routes``, so that it holds for every kind of them."""

    def __init__(self, app: ASGIApp, rules: Rules, routes: Sequence[BaseRoute], authenticator: Authenticator) -> None:
        self._app, self._rules, self._routes, self._authenticator = app, rules, routes, authenticator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                await self._check(scope)
            except (ApiError, DatabaseUnavailable) as error:
                await error_response(as_api_error(error))(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _check(self, scope: Scope) -> None:
        """Raise `Unauthenticated` or `Forbidden`. A path without a route passes: that it is not there is no secret."""
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        path = scope["path"]
        rule = self._rules.get((method, path))
        if rule is None:
            route = next((route for route in self._routes if route.matches(scope)[0] is Match.FULL), None)
            if route is None:
                return
            path = getattr(route, "path", "")
            rule = self._rules.get((method, path))
        if rule is None:
            raise Forbidden(f"{path} says of nobody that they may use it, so nobody can.", code="undeclared_route")
        if rule not in ("anyone", "itself"):
            await self._check_role(scope, path, rule)

    async def _check_role(self, scope: Scope, path: str, roles: tuple[Role, ...]) -> None:
        caller = await self._authenticator.caller(Request(scope))
        if caller.role not in roles:
            allowed = " or ".join(f"'{role}'" for role in roles if role != "visitor")
            raise Forbidden(f"A key of role '{caller.role}' cannot use {path}: use one of role {allowed}.")
        scope.setdefault("state", {})["caller"] = caller
