"""``/healthz`` (the process lives), ``/readyz`` (it can answer, or why not) and ``/metrics``."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from ops import metrics
from serving.swap import AdapterManager
from serving.worker_metrics import WorkerMetrics

_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


def router(manager: AdapterManager, told: WorkerMetrics) -> APIRouter:
    routes = APIRouter()

    @routes.get("/healthz")
    async def healthz() -> dict[str, Any]:
        return {"status": "ok"}

    @routes.get("/readyz")
    async def readyz() -> JSONResponse:
        reasons = manager.ready()
        return JSONResponse({"ready": not reasons, "reasons": reasons}, status_code=503 if reasons else 200)

    @routes.get("/metrics")
    def metrics_page() -> Response:
        return Response(told.page(metrics.GATEWAY, metrics.LOG), media_type=_PROMETHEUS)

    return routes
