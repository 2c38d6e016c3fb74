"""``POST /v1/feedback``: what somebody says about an answer. 201 once it is on disk, never before."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from feedback.events import Event, Source
from feedback.ids import annotator_hash, new_id, user_hash
from feedback.log import EventLog, LogUnavailable
from feedback.receipts import Receipt, ReceiptExpired, Receipts
from ops import metrics
from serving.auth import Authenticator
from serving.cors import Origins
from serving.errors import Forbidden, InvalidRequest, NotFound, Unauthenticated
from serving.feedback_request import FeedbackRequest, PreferenceRequest, fact_of, parse_feedback
from serving.keys import Caller
from serving.lookup import AnswerIndex
from serving.quota import Quota

PATH = "/v1/feedback"
RECEIPT_HEADER = "x-plaudit-receipt"
IDEMPOTENCY_HEADER = "idempotency-key"
DURABLE_TIMEOUT_S = 10.0
_LONGEST_IDEMPOTENCY_KEY = 200


def router(
    log: EventLog,
    receipts: Receipts,
    index: AnswerIndex,
    authenticator: Authenticator,
    quota: Quota,
    origins: Origins,
    user_secret: bytes,
    clock: Callable[[], float] = time.time,
) -> APIRouter:
    routes = APIRouter()

    @routes.post(PATH)
    async def create_feedback(request: Request) -> JSONResponse:
        caller = authenticator.by_key(request)
        headers = {} if caller is None else await quota.count(caller)
        body = parse_feedback(await request.body())
        token = body.receipt or request.headers.get(RECEIPT_HEADER)
        receipt = await _receipt(body, token, caller)
        origins.check(request, receipt.project)
        source = _source(body, caller)
        rater = _rater(body, caller, receipt, sealed=token is not None)
        feedback_id = _feedback_id(request, receipt.project, rater)
        event = Event(
            id=feedback_id,
            time=clock(),
            project=receipt.project,
            key=receipt.conversation,
            data=fact_of(body, feedback_id, rater, source, receipt),
        )
        await _durable(log, event)
        metrics.FEEDBACK.labels(body.type, source).inc()
        reply = {"id": feedback_id, "object": "feedback", "created": int(event.time)}
        return JSONResponse(reply, status_code=201, headers=headers)

    async def _receipt(body: FeedbackRequest, token: str | None, caller: Caller | None) -> Receipt:
        """What the feedback is about: the receipt sent, else what is known of the id named."""
        if token is not None:
            receipt = receipts.open(token)
            if caller is not None and not caller.may(receipt.project):
                raise Forbidden("This receipt is of a project that is not the API key's.", param="receipt")
            return receipt
        if caller is None:
            raise Unauthenticated("Send the answer's 'receipt', or an API key and the answer's 'completion_id'.", param="receipt")
        return await _known(body, caller)

    async def _known(body: FeedbackRequest, caller: Caller) -> Receipt:
        param = "comparison_id" if body.comparison_id else "completion_id"
        if body.comparison_id is None and body.completion_id is None:
            wanted = "comparison_id" if isinstance(body, PreferenceRequest) else "completion_id"
            text = f"Say what this is about: send the answer's 'receipt', or its '{wanted}'."
            raise InvalidRequest(text, param=wanted, code="missing_required_parameter")
        receipt = await index.find(body.comparison_id or body.completion_id or "")
        if receipt is None or not caller.may(receipt.project):
            text = f"'{param}' is not among the last {index.capacity} answers of this project: send the answer's 'receipt'."
            raise NotFound(text, param=param, code="unknown_completion")
        if clock() >= receipt.expires:
            raise ReceiptExpired(f"'{param}' is too old: only newer answers can be rated.")
        return receipt

    def _rater(body: FeedbackRequest, caller: Caller | None, receipt: Receipt, *, sealed: bool) -> str:
        """Who judges: an annotator in their own name, else whom a sealed receipt was given to, else the user named."""
        if caller is not None and caller.role == "annotator":
            return annotator_hash(user_secret, receipt.project, caller.key_id or "")
        named = receipt.user if body.user is None else user_hash(user_secret, receipt.project, body.user)
        if sealed and named != receipt.user:
            raise InvalidRequest("'user' is not whom this receipt was given to: leave it out.", param="user")
        return named

    return routes


def _source(body: FeedbackRequest, caller: Caller | None) -> Source:
    if caller is not None and caller.role == "annotator":
        return "annotator"
    if body.source != "end_user" and caller is None:
        text = f"'source' {body.source!r} needs an API key: leave it out, or send 'Authorization: Bearer <API key>'."
        raise Forbidden(text, param="source")
    return body.source


def _feedback_id(request: Request, project: str, rater: str) -> str:
    """A fresh id; with an ``Idempotency-Key`` always the same for one rater, so that a repeated request has one effect."""
    key = request.headers.get(IDEMPOTENCY_HEADER)
    if key is None:
        return new_id("fb_")
    if not 1 <= len(key) <= _LONGEST_IDEMPOTENCY_KEY:
        text = f"The header Idempotency-Key must have 1 to {_LONGEST_IDEMPOTENCY_KEY} characters."
        raise InvalidRequest(text, param=IDEMPOTENCY_HEADER)
    return "fb_" + hashlib.sha256(f"{project}\0{rater}\0{key}".encode()).hexdigest()[:32]


async def _durable(log: EventLog, event: Event) -> None:
    """Return once the event is on disk. Raises `LogError`, `LogUnavailable` also at the deadline."""
    written = asyncio.wrap_future(log.submit(event))
    try:
        await asyncio.wait_for(asyncio.shield(written), DURABLE_TIMEOUT_S)
    except TimeoutError as error:
        written.add_done_callback(lambda late: late.cancelled() or late.exception())  # it may still fail: nobody asks
        raise LogUnavailable(f"the log took longer than {DURABLE_TIMEOUT_S} s") from error
