"""The gateway's wiring: which rooms there are, what each is given, and in which order they open and close."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI

from feedback.ids import new_id
from feedback.log import EventLog
from feedback.receipts import Receipts
from ops.models import ModelNotPrepared, prepared
from ops.open_log import open_settings_log
from ops.registry import Registry
from ops.secrets import load_secret, subkey
from ops.settings import SamplingSettings, Settings
from serving import chat, feedback, health, models_route
from serving.answering import Rooms
from serving.auth import Authenticator
from serving.capture import Capture
from serving.engine import Engine, VllmEngine
from serving.errors import install_error_handlers
from serving.keys import KeyStore
from serving.limits import BodyLimit
from serving.lookup import AnswerIndex
from serving.pages.routes import COOKIE, page_is_open
from serving.pages.routes import router as page_router
from serving.request_id import RequestId
from serving.sessions import Sessions
from serving.swap import AdapterManager

CAPTURE_FLUSH_S = 3.0
"""At shutdown: how long queued completion events may take to reach the log."""


_toss = random.SystemRandom().random


def create_app(
    settings: Settings,
    *,
    engines: Sequence[Engine] | None = None,
    log: EventLog | None = None,
    coin: Callable[[], float] = _toss,
) -> FastAPI:
    """The gateway over ``engines`` and ``log``; those not given are opened as the settings say, and closed at the end."""
    own_engines = [] if engines else [VllmEngine(url, settings.limits.request_timeout_s) for url in settings.engines]
    own_log = open_settings_log(settings) if log is None else None
    log = log or own_log
    assert log is not None
    secret = load_secret(settings)
    user_secret = subkey(secret, "users")
    receipts = Receipts([subkey(secret, "receipts")])
    sessions = Sessions(subkey(secret, "sessions"), settings.project)
    keys = KeyStore(settings.database_path)
    keys.ensure_project(settings.project)
    authenticator = Authenticator(keys, sessions, COOKIE, partial(page_is_open, settings))
    manager = AdapterManager(engines or own_engines, Registry(settings.adapters_dir), log, settings, new_id("gw_"))
    index = AnswerIndex(log, settings.limits.receipt_days)
    capture = Capture(log)
    rooms = Rooms(settings, _sampling(settings), manager, capture, receipts, index)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        capture.start()
        await manager.start()
        try:
            yield
        finally:
            await capture.stop(CAPTURE_FLUSH_S)
            await manager.stop()
            for engine in own_engines:
                await engine.close()
            if own_log is not None:
                own_log.close()
            keys.close()

    app = FastAPI(title="Plaudit", lifespan=lifespan, openapi_url=None)
    app.include_router(chat.router(rooms, authenticator, user_secret, coin))
    app.include_router(feedback.router(log, receipts, index, authenticator, user_secret))
    app.include_router(models_route.router(keys, authenticator))
    app.include_router(health.router(manager))
    app.include_router(page_router(settings, sessions))
    install_error_handlers(app)
    app.add_middleware(BodyLimit, max_bytes=settings.limits.max_body_bytes, timeout_s=settings.limits.body_timeout_s)
    app.add_middleware(RequestId)
    return app


def _sampling(settings: Settings) -> SamplingSettings:
    """What a request gets that names nothing: the model's own, where the model was prepared on this machine."""
    try:
        return prepared(settings).sampling(settings.sampling)
    except ModelNotPrepared:  # the engines run elsewhere
        return settings.sampling
