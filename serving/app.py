"""The gateway's wiring: which rooms there are, what each is given, and in which order they open and close."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import cache, partial
from typing import Any

from fastapi import FastAPI

from feedback.ids import new_id
from feedback.log import EventLog
from feedback.receipts import Receipts
from ops.database import DatabaseUnavailable
from ops.models import ModelNotPrepared, prepared
from ops.open_log import open_settings_log
from ops.receipt_keys import ReceiptKeys
from ops.registry import Registry
from ops.secrets import load_secret, subkey
from ops.settings import LimitSettings, SamplingSettings, Settings
from serving import chat, docs_page, feedback, health, models_route
from serving.answering import Rooms
from serving.auth import Authenticator
from serving.capture import Capture
from serving.chat import Chat
from serving.cors import Cors, Origins
from serving.engine import Engine, VllmEngine
from serving.errors import install_error_handlers
from serving.gate import PUBLIC_PORT, Gate
from serving.gateway import Gateway
from serving.keys import KeyStore
from serving.known_keys import KnownKeys
from serving.labeling.desk import Desk
from serving.labeling.queue import TaskQueue
from serving.labeling.routes import router as label_router
from serving.labeling.streams import Streams
from serving.limits import BodyLimit
from serving.log_check import LogCheck
from serving.lookup import AnswerIndex
from serving.pages.routes import COOKIE, page_is_open
from serving.pages.routes import router as page_router
from serving.quota import open_quota
from serving.request_id import RequestId
from serving.sessions import Sessions
from serving.swap import AdapterManager
from serving.worker_metrics import WorkerMetrics

CAPTURE_FLUSH_S = 3.0
"""At shutdown: how long queued completion events may take to reach the log."""


_toss = random.SystemRandom().random


def create_app(
    settings: Settings,
    *,
    engines: Sequence[Engine] | None = None,
    log: EventLog | None = None,
    coin: Callable[[], float] = _toss,
    ready_within_s: float = 0.0,
    slot: int = 0,
) -> Gateway:
    """The gateway over ``engines`` and ``log``; those not given are opened as the settings say, and closed at the end.

    It starts once it can answer, but at the latest after ``ready_within_s`` seconds. ``slot``: which of several workers.
    """
    own_engines = [] if engines else _engines(settings)
    own_log = open_settings_log(settings) if log is None else None
    log = log or own_log
    assert log is not None
    secret = load_secret(settings)
    user_secret = subkey(secret, "users")
    receipts = Receipts(ReceiptKeys.of(settings))
    sessions = Sessions(subkey(secret, "sessions"), settings.project)
    keys = KeyStore(settings)
    with suppress(DatabaseUnavailable):  # /readyz says so; whoever makes the first key makes the project
        keys.ensure_project(settings.project)
    known = KnownKeys(keys)
    authenticator = Authenticator(known, sessions, COOKIE, partial(page_is_open, settings))
    registry = Registry(settings.adapters_dir)
    manager = AdapterManager(engines or own_engines, registry, log, settings, new_id("gw_"))
    told = WorkerMetrics(settings.run_dir / "metrics", slot if settings.workers > 1 else None)
    index = AnswerIndex(log, settings.limits.receipt_days)
    capture = Capture(log, max_bytes=settings.limits.capture_mb * 2**20)
    quota = open_quota(settings)
    origins = Origins(known)
    salt = cache(lambda project: subkey(secret, f"cache-salt\0{project}").hex())
    rooms = Rooms(settings, _sampling(settings), manager, capture, receipts, index, salt)
    streams = Streams(keys)
    desk = Desk(streams, TaskQueue(streams), log, receipts, user_secret)
    hot = Chat(rooms, authenticator, quota, user_secret, coin, desk.check_may_chat)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        capture.start()
        told.start()
        await manager.start()
        await manager.wait_ready(ready_within_s)
        try:
            yield
        finally:
            await capture.stop(CAPTURE_FLUSH_S)
            await manager.stop()
            await told.stop()
            await quota.close()
            for engine in own_engines:
                await engine.close()
            if own_log is not None:
                own_log.close()
            known.close()
            keys.close()

    app = Gateway(title="Plaudit", lifespan=lifespan, openapi_url=None, redirect_slashes=False)
    app.hot, app.admin_port = hot, settings.admin_port
    if settings.admin_port is not None:
        from serving.admin import create_admin_app  # some megabytes, where nobody asks for it

        app.admin = create_admin_app(settings, keys, registry, log, manager, told, known=known)
    app.router.add_route(chat.PATH, hot, methods=["POST"], name="create_chat_completion")
    timeout_s = settings.limits.request_timeout_s
    app.include_router(
        feedback.router(log, receipts, index, authenticator, quota, origins, user_secret, capture.settled, timeout_s)
    )
    app.include_router(label_router(desk, quota))
    app.include_router(models_route.router(known, quota))
    app.include_router(health.router(manager, known, LogCheck(log), told))
    app.include_router(page_router(settings, sessions))
    described = partial(_described, settings.limits)
    app.openapi = described  # type: ignore[method-assign]
    app.include_router(docs_page.router(described))
    install_error_handlers(app)
    app.add_middleware(BodyLimit, max_bytes=settings.limits.max_body_bytes, timeout_s=settings.limits.body_timeout_s)
    app.add_middleware(Gate, rules=PUBLIC_PORT, routes=app.routes, authenticator=authenticator)
    app.add_middleware(Cors, origins=origins, path=feedback.PATH)
    app.add_middleware(RequestId)
    return app


def _described(limits: LimitSettings) -> dict[str, Any]:
    from serving import openapi  # eight megabytes, where nobody asks for it

    return openapi.document(limits)


def _engines(settings: Settings) -> list[VllmEngine]:
    return [VllmEngine(url, settings.limits.request_timeout_s, settings.engine_token) for url in settings.engines]


def _sampling(settings: Settings) -> SamplingSettings:
    """What a request gets that names nothing: the model's own, where the model was prepared on this machine."""
    try:
        return prepared(settings).sampling(settings.sampling)
    except ModelNotPrepared:  # the engines run elsewhere
        return settings.sampling
