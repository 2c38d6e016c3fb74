"""Work that is worth doing only while the client listens."""

from __future__ import annotations

import asyncio
from types import TracebackType

from starlette.types import Receive

from serving.errors import ClientGone


class WhileListening:
    """``async with``: the block is cancelled, and `ClientGone` raised, when the client hangs up first.

    The request's body must have been read: ``receive`` is then silent until the client goes.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._gone = False

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._watch = asyncio.create_task(self._wait())

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._watch.cancel()
        if self._gone and self._task.uncancel() == 0 and kind is not None and issubclass(kind, asyncio.CancelledError):
            raise ClientGone("The client hung up.") from error

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        self._task.cancel()
