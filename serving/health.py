"""``/healthz`` (the process lives), ``/readyz`` (it can answer, or why not) and ``/metrics``."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from ops import metrics
from serving.known_keys import KnownKeys
from serving.log_check import LogCheck
from serving.swap import AdapterManager
from serving.worker_metrics import WorkerMetrics

_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


def router(manager: AdapterManager, keys: KnownKeys, log: LogCheck, told: WorkerMetrics) -> APIRouter:
    routes = APIRouter()

    @routes.get("/healthz")
    async def healthz() -> dict[str, Any]:
        return {"status": "ok"}

    @routes.get("/readyz")
    async def readyz() -> JSONResponse:
        """``warnings`` are what an operator must see to, while requests are answered all the same."""
        (away, warnings), unwritten = await asyncio.gather(keys.reach(), log.trouble())
        warnings = [*warnings, *unwritten]
        reasons = [*manager.ready(), *away]
        body = {"ready": not reasons, "reasons": reasons} | ({"warnings": warnings} if warnings else {})
        return JSONResponse(body, status_code=503 if reasons else 200)

    @routes.get("/metrics")
    def metrics_page() -> Response:
        return Response(told.page(metrics.GATEWAY, metrics.LOG), media_type=_PROMETHEUS)

    return routes
