"""The application that uvicorn is given: it sends every request to the room that answers it."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving import chat


class Gateway(FastAPI):
    """FastAPI, but chat goes to its own application before any framework has looked at it, and admin's port to admin's."""

    hot: ASGIApp
    admin: ASGIApp
    admin_port: int | None = None
    draining = False
    """Every answer asks the client to close its connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        if self.draining:
            send = _closing(send)
        if self.admin_port is not None and scope["server"][1] == self.admin_port:
            await self.admin(scope, receive, send)
        elif scope["path"] == chat.PATH and scope["method"] == "POST":
            await self.hot(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def _closing(send: Send) -> Send:
    async def closing(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
        await send(message)

    return closing
