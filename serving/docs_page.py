"""``GET /openapi.json``, and ``GET /docs``, which shows it with the vendored Swagger UI; works offline.

The content security policy allows this server's own files and nothing else: no other host, no inline script. It cannot ask
for trusted types, as the chat page's does: Swagger UI writes HTML itself.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import orjson
from fastapi import APIRouter, Response
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse
from swagger_ui_bundle import swagger_ui_path

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

_HERE = Path(__file__).parent / "docs"
_VENDORED = Path(swagger_ui_path)
_FILES = {
    "start.js": (_HERE / "start.js", "text/javascript; charset=utf-8"),
    "swagger-ui-bundle.js": (_VENDORED / "swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
    "swagger-ui.css": (_VENDORED / "swagger-ui.css", "text/css; charset=utf-8"),
    "favicon-32x32.png": (_VENDORED / "favicon-32x32.png", "image/png"),
}
"""What the page needs: what is not in this table cannot be asked for."""


def router(document: Callable[[], dict[str, Any]]) -> APIRouter:
    """The description and the page that shows it. ``document`` is asked for it when somebody asks us, and then never again."""
    routes = APIRouter(include_in_schema=False)
    described = cache(lambda: orjson.dumps(document()))
    page = (_HERE / "page.html").read_text()

    @routes.get("/openapi.json")
    def openapi() -> Response:
        return Response(described(), media_type="application/json")

    @routes.get("/docs")
    async def docs() -> Response:
        return HTMLResponse(page, headers=HEADERS)

    @routes.get("/docs/{name}")
    async def docs_file(name: str) -> Response:
        if name not in _FILES:
            return PlainTextResponse("No such file.\n", status_code=404, headers=HEADERS)
        path, media_type = _FILES[name]
        return FileResponse(path, media_type=media_type, headers={**HEADERS, "Cache-Control": "no-cache"})

    return routes
