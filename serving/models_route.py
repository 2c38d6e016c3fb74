"""``GET /v1/models``: a caller's projects. Adapters are nobody's business."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from serving.auth import require_project
from serving.keys import Caller
from serving.known_keys import KnownKeys
from serving.quota import Quota


def router(keys: KnownKeys, quota: Quota) -> APIRouter:
    routes = APIRouter()

    @routes.get("/v1/models")
    async def list_models(request: Request, response: Response) -> dict[str, Any]:
        caller = await _counted(request, response)
        created = await keys.projects()
        return {"object": "list", "data": [_model(project, created) for project in caller.projects]}

    @routes.get("/v1/models/{model:path}")
    async def retrieve_model(model: str, request: Request, response: Response) -> dict[str, Any]:
        caller = await _counted(request, response)
        return _model(require_project(caller, model), await keys.projects())

    async def _counted(request: Request, response: Response) -> Caller:
        caller: Caller = request.state.caller
        response.headers.update(await quota.count(caller))
        return caller

    return routes


def _model(project: str, created: dict[str, float]) -> dict[str, Any]:
    return {"id": project, "object": "model", "created": int(created.get(project, 0.0)), "owned_by": "plaudit"}
