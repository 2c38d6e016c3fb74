"""What a project may be called, and which web pages it may name as its own."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

PROJECT_NAME = r"[a-z0-9][a-z0-9-]{0,40}"
"""The whole of a project's name, as a regular expression."""

_DEFAULT_PORTS = {"http": 80, "https": 443}


def check_project_name(name: str) -> str:
    """The name. Raises ValueError for one that cannot be a project's."""
    if not re.fullmatch(PROJECT_NAME, name):
        raise ValueError(f"project {name[:100]!r}: use 1 to 41 lower-case letters, digits and hyphens, a hyphen not first")
    return name


def check_origin(origin: str) -> str:
    """The origin, which is what a browser sends of a page's address. Raises ValueError for what no browser would send."""
    try:
        parts = urlsplit(origin)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
        parts = urlsplit("")
    if parts.scheme not in _DEFAULT_PORTS or not host or not re.fullmatch(r"[a-z0-9.-]+|[0-9a-f:]+", host):
        raise ValueError(f"origin {origin[:200]!r}: use a page's scheme and host, such as https://app.example")
    host = f"[{host}]" if ":" in host else host
    sent = f"{parts.scheme}://{host}" + ("" if port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{port}")
    if origin != sent:
        raise ValueError(f"origin {origin[:200]!r}: browsers send it as {sent}, so name it like that")
    return origin
