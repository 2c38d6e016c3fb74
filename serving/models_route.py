"""``GET /v1/models``: a caller's projects. Adapters are nobody's business."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from serving.auth import Authenticator, require_project
from serving.keys import Caller, KeyStore


def router(keys: KeyStore, authenticator: Authenticator) -> APIRouter:
    routes = APIRouter()

    @routes.get("/v1/models")
    async def list_models(request: Request) -> dict[str, Any]:
        return {"object": "list", "data": [_model(authenticator.caller(request))]}

    @routes.get("/v1/models/{model:path}")
    async def retrieve_model(model: str, request: Request) -> dict[str, Any]:
        caller = authenticator.caller(request)
        require_project(caller, model)
        return _model(caller)

    def _model(caller: Caller) -> dict[str, Any]:
        created = keys.projects().get(caller.project, 0.0)
        return {"id": caller.project, "object": "model", "created": int(created), "owned_by": "plaudit"}

    return routes
