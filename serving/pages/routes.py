"""The chat page: ``GET /`` and its static files.

The page holds no key. ``GET /`` sets a session cookie that no script can read (HttpOnly) and no other site can send
(SameSite=Strict); it authorises chat, while feedback needs an answer's receipt alone. All that a model says enters the
document as text, and the content security policy allows nothing but this folder's files and calls to this server.
"""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ops.settings import Settings

COOKIE = "plaudit_session"

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

_HERE = Path(__file__).parent
_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
_HOW_TO_TURN_ON = (
    "The chat page is off here, because whoever opens it chats without a key.\n"
    "Turn it on with PLAUDIT_PAGE=on, or open it on this machine as http://127.0.0.1:{port}/ (PLAUDIT_PAGE=auto).\n"
    "The API answers at /v1/chat/completions with a key: plaudit keys create\n"
)


class Sessions(Protocol):
    """Sealed browser sessions: what the page needs of them."""

    seconds: int
    """How long a session lasts."""

    def issue(self) -> str:
        """A new session's token, for a cookie's value."""
        ...

    def known(self, token: str) -> bool:
        """Whether a token is one of ours and still good."""
        ...


@dataclass(frozen=True)
class _File:
    body: bytes
    media_type: str
    etag: str


def _static_files() -> dict[str, _File]:
    """Every static file by its name: what is not in this table cannot be asked for."""
    files = {}
    for path in sorted((_HERE / "static").iterdir()):
        if path.suffix in _TYPES:
            body = path.read_bytes()
            files[path.name] = _File(body, _TYPES[path.suffix], f'"{hashlib.sha256(body).hexdigest()[:16]}"')
    return files


def _is_loopback(host: str) -> bool:
    """Whether a host, as in a setting or a Host header without its port, is this machine's own name for itself."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def page_is_open(settings: Settings, host: str | None) -> bool:
    """Whether the page is served to a browser that addresses this server as ``host``.

    "auto" wants loopback twice: the server listens there only, and the browser calls it by a loopback name; so neither
    a proxy in front nor a foreign name that resolves to 127.0.0.1 (DNS rebinding) opens it to others.
    """
    if settings.page == "auto":
        return _is_loopback(settings.host) and host is not None and _is_loopback(host)
    return settings.page == "on"


def router(settings: Settings, sessions: Sessions) -> APIRouter:
    """``/`` and ``/static/{file}``; both answer 404 in plain words where the page is off."""
    files = _static_files()
    templates = Environment(loader=FileSystemLoader(_HERE / "templates"), autoescape=True, undefined=StrictUndefined)
    modules = [name for name in files if name.endswith(".js") and name != "chat.js"]
    page = templates.get_template("chat.html").render(project=settings.project, modules=modules)
    routes = APIRouter(include_in_schema=False)

    def closed(request: Request) -> Response | None:
        if page_is_open(settings, request.url.hostname):
            return None
        return PlainTextResponse(_HOW_TO_TURN_ON.format(port=settings.port), status_code=404, headers=HEADERS)

    @routes.get("/")
    async def chat_page(request: Request) -> Response:
        if refusal := closed(request):
            return refusal
        response = HTMLResponse(page, headers={**HEADERS, "Cache-Control": "no-store"})
        if not sessions.known(request.cookies.get(COOKIE, "")):
            response.set_cookie(
                COOKIE,
                sessions.issue(),
                max_age=sessions.seconds,
                httponly=True,
                samesite="strict",
                secure=request.url.scheme == "https",
            )
        return response

    @routes.get("/static/{name}")
    async def static_file(name: str, request: Request) -> Response:
        if refusal := closed(request):
            return refusal
        file = files.get(name)
        if file is None:
            return PlainTextResponse("No such file.\n", status_code=404, headers=HEADERS)
        headers = {**HEADERS, "ETag": file.etag, "Cache-Control": "no-cache"}
        if file.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(file.body, media_type=file.media_type, headers=headers)

    return routes
