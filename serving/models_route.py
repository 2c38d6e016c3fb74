"""``GET /v1/models``: a caller's projects. Adapters are nobody's business."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from serving.auth import Authenticator, require_project
from serving.keys import KeyStore


def router(keys: KeyStore, authenticator: Authenticator) -> APIRouter:
    routes = APIRouter()

    @routes.get("/v1/models")
    async def list_models(request: Request) -> dict[str, Any]:
        caller = authenticator.caller(request)
        created = keys.projects()
        return {"object": "list", "data": [_model(project, created) for project in caller.projects]}

    @routes.get("/v1/models/{model:path}")
    async def retrieve_model(model: str, request: Request) -> dict[str, Any]:
        return _model(require_project(authenticator.caller(request), model), keys.projects())

    return routes


def _model(project: str, created: dict[str, float]) -> dict[str, Any]:
    return {"id": project, "object": "model", "created": int(created.get(project, 0.0)), "owned_by": "plaudit"}
