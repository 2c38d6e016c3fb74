"""``/v1/label/…``: for keys of role 'annotator'. The next task, and the answer to it, 201 once it is on disk."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response

from serving.errors import InvalidRequest
from serving.keys import Caller
from serving.labeling.answers import parse_answer
from serving.labeling.desk import Desk
from serving.labeling.views import LabelReply, LabelStream, LabelStreamList, LabelTask
from serving.quota import Quota

_LONGEST_NAME = 200


def router(desk: Desk, quota: Quota) -> APIRouter:
    routes = APIRouter()

    @routes.get("/v1/label/streams")
    async def list_label_streams(request: Request, response: Response) -> LabelStreamList:
        caller = await _counted(request, response)
        return await asyncio.to_thread(_streams, desk, caller)

    @routes.get("/v1/label/next", response_model=LabelTask)
    async def next_label_task(request: Request, response: Response) -> LabelTask | Response:
        caller = await _counted(request, response)
        stream = request.query_params.get("stream", "")
        if not 1 <= len(stream) <= _LONGEST_NAME:
            raise InvalidRequest("'stream' is missing: add ?stream= and a stream's id or name.", param="stream")
        handed = await asyncio.to_thread(desk.next, caller, stream)
        if handed is None:
            return Response(status_code=204, headers=dict(response.headers))
        return LabelTask.of(handed)

    @routes.post("/v1/label/{task}", status_code=201)
    async def answer_label_task(task: str, request: Request, response: Response) -> LabelReply:
        caller = await _counted(request, response)
        answer = parse_answer(await request.body())
        kept = await asyncio.to_thread(desk.answer, caller, task, answer)
        return LabelReply(id=task, feedback=list(kept))

    async def _counted(request: Request, response: Response) -> Caller:
        caller: Caller = request.state.caller
        response.headers.update(await quota.count(caller))
        return caller

    return routes


def _streams(desk: Desk, caller: Caller) -> LabelStreamList:
    known = desk.streams.list(caller.projects)
    return LabelStreamList(data=[LabelStream.of(stream, desk.passed(caller, stream)) for stream in known])
