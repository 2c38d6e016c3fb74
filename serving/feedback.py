"""``POST /v1/feedback``: what somebody says about an answer. 201 once it is on disk, never before.

A list of up to a hundred is answered with 207 and an outcome for each.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from feedback.events import Event, Source
from feedback.ids import annotator_hash, new_id, user_hash
from feedback.log import EventLog, LogError, LogUnavailable, Position
from feedback.receipts import Receipt, ReceiptError, ReceiptExpired, Receipts
from feedback.seal import Owner
from ops import metrics
from serving.auth import Authenticator
from serving.capture import AnswerUnsealed
from serving.cors import Origins
from serving.errors import ApiError, Forbidden, InvalidRequest, NotFound, Unauthenticated, Unavailable, as_api_error
from serving.feedback_facts import Said, condition_of, fact_of, kind_of
from serving.feedback_request import FeedbackRequest, parse_feedback, parse_list
from serving.keys import Caller
from serving.lookup import AnswerIndex
from serving.quota import Quota

T = TypeVar("T")

PATH = "/v1/feedback"
RECEIPT_HEADER = "x-plaudit-receipt"
IDEMPOTENCY_HEADER = "idempotency-key"
DURABLE_TIMEOUT_S = 10.0

_SETTLED_S = 10.0
"""So long after its request has timed out, every answer is in the log."""

_ELSEWHERE_S = 0.4
"""How long an answer of another process is waited for."""

_POLL_S = 0.02
_LONGEST_IDEMPOTENCY_KEY = 200


class _Made(NamedTuple):
    """A judgement that has been checked."""

    event: Event
    condition: str | None
    kind: str
    source: Source
    receipt: Receipt


def router(
    log: EventLog,
    receipts: Receipts,
    index: AnswerIndex,
    authenticator: Authenticator,
    quota: Quota,
    origins: Origins,
    user_secret: bytes,
    settled: Callable[[Collection[str], float], Awaitable[None]],
    request_timeout_s: float,
    clock: Callable[[], float] = time.time,
) -> APIRouter:
    """``settled(ids, seconds)`` returns once this process has written the answers of these ids."""
    routes = APIRouter()

    @routes.post(PATH)
    async def create_feedback(request: Request) -> JSONResponse:
        caller = await authenticator.by_key(request)
        headers = {} if caller is None else await quota.count(caller)
        raw = await request.body()
        _check_idempotency_key(request)
        entries = parse_list(raw)
        if entries is None:
            return JSONResponse(await _take(request, raw, caller), status_code=201, headers=headers)
        outcomes = await _take_all(request, entries, caller)
        if all(outcome["status"] == 503 for outcome in outcomes):
            why = outcomes[0]["error"]
            raise Unavailable(why["message"], param=why["param"], code=why["code"], retry_after_s=2)
        return JSONResponse({"object": "list", "data": outcomes}, status_code=207, headers=headers)

    async def _take(request: Request, raw: bytes, caller: Caller | None) -> dict[str, Any]:
        """Check one judgement and make it durable."""
        until = _moment()
        made = await _made(request, raw, caller, until)
        await _answered([made], until)
        await _durable(log, made.event)
        return _reply(made)

    async def _made(request: Request, raw: bytes, caller: Caller | None, until: float, part: str = "") -> _Made:
        """One judgement, checked. ``part``: which of several it is that share a request's headers."""
        body = parse_feedback(raw, listed=bool(part))
        token = body.receipt or request.headers.get(RECEIPT_HEADER)
        receipt = await _receipt(body, token, caller, until)
        await origins.check(request, receipt.project)
        rater = _rater(body, caller, receipt, sealed=token is not None)
        key_id = receipt.key_id if caller is None else caller.key_id or ""
        said = Said(_feedback_id(request, body, receipt.project, rater, part), rater, _source(body, caller), key_id)
        fact = fact_of(body, said, receipt)
        event = Event(id=said.feedback_id, time=clock(), project=receipt.project, key=receipt.conversation, data=fact)
        return _Made(event, condition_of(fact), body.type, said.source, receipt)

    async def _take_all(request: Request, entries: list[bytes], caller: Caller | None) -> list[dict[str, Any]]:
        """An outcome for each entry: all are checked, then handed over, then waited for at once."""
        until = _moment()
        taken: list[_Made | Exception] = []
        for at, entry in enumerate(entries):
            try:
                taken.append(await _made(request, entry, caller, until, f"/{at}"))
            except (ApiError, ReceiptError, LogError) as error:
                taken.append(error)
        taken = await _about_kept(taken, until)
        written = [log.submit(each.event) if isinstance(each, _Made) else None for each in taken]
        await _done([future for future in written if future is not None])
        return [_outcome(at, *each) for at, each in enumerate(zip(taken, written, strict=True))]

    async def _about_kept(taken: Sequence[_Made | Exception], until: float) -> list[_Made | Exception]:
        """As taken, but refused where the answer waits for its user's key; the others' answers are in the log."""
        kept = list(taken)
        while True:
            try:
                await _answered([each for each in kept if isinstance(each, _Made)], until)
            except AnswerUnsealed as error:
                refused = [error if _is_of(each, error.owners) else each for each in kept]
                if refused == kept:  # nobody of the list: no reason to go on
                    raise
                kept = refused
            else:
                return kept

    async def _answered(made: Sequence[_Made], until: float) -> None:
        """Return once the answers are in the log: a judgement of what nobody knows any more would be worth nothing."""
        await settled({id for each in made for id in each.receipt.target.completion_ids}, DURABLE_TIMEOUT_S)
        now = clock()  # of younger answers, perhaps another process has some still to write
        young = [each.receipt for each in made if now - each.receipt.issued < request_timeout_s + _SETTLED_S]
        if ids := {id for receipt in young for id in receipt.target.completion_ids}:
            await _until(lambda: asyncio.to_thread(log.holds, ids), until)

    async def _receipt(body: FeedbackRequest, token: str | None, caller: Caller | None, until: float) -> Receipt:
        """What the feedback is about: the receipt sent, else what is known of the id named."""
        if token is not None:
            receipt = receipts.open(token)
            if caller is not None and not caller.may(receipt.project):
                text = "This receipt is of a project that is not the API key's: send a key of that project, or the receipt alone."
                raise Forbidden(text, param="receipt")
            return receipt
        if caller is None:
            raise Unauthenticated("Send the answer's 'receipt', or an API key and the answer's 'completion_id'.", param="receipt")
        return await _known(body, caller, until)

    async def _known(body: FeedbackRequest, caller: Caller, until: float) -> Receipt:
        param = "comparison_id" if body.comparison_id else "completion_id"
        if body.comparison_id is None and body.completion_id is None:
            wanted = "comparison_id" if kind_of(body) == "preference" else "completion_id"
            text = f"Say what this is about: send the answer's 'receipt', or its '{wanted}'."
            raise InvalidRequest(text, param=wanted, code="missing_required_parameter")
        receipt = await _until(lambda: index.find(body.comparison_id or body.completion_id or ""), until)
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


def _moment() -> float:
    """Until when a request, however many its judgements, waits for answers of other processes; by the loop's clock."""
    return asyncio.get_running_loop().time() + _ELSEWHERE_S


async def _until(look: Callable[[], Awaitable[T]], until: float) -> T:
    """What ``look`` finds, once that is anything, or at that time: another process writes answers down a little later."""
    while not (found := await look()) and asyncio.get_running_loop().time() < until:
        await asyncio.sleep(_POLL_S)
    return found


def _source(body: FeedbackRequest, caller: Caller | None) -> Source:
    if caller is not None and caller.role == "annotator":
        return "annotator"
    if body.source != "end_user" and caller is None:
        text = f"'source' {body.source!r} needs an API key: leave it out, or send 'Authorization: Bearer <API key>'."
        raise Forbidden(text, param="source")
    return body.source


def _feedback_id(request: Request, body: FeedbackRequest, project: str, rater: str, part: str) -> str:
    """A fresh id; with an ``Idempotency-Key`` always the same for one rater, so that a repeated request has one effect."""
    key = request.headers.get(IDEMPOTENCY_HEADER)
    if key is None and body.idempotency_key is None:
        return new_id("fb_")
    known = body.idempotency_key if key is None else key + part
    return "fb_" + hashlib.sha256(f"{project}\0{rater}\0{known}".encode()).hexdigest()[:32]


def _check_idempotency_key(request: Request) -> None:
    key = request.headers.get(IDEMPOTENCY_HEADER)
    if key is not None and not 1 <= len(key) <= _LONGEST_IDEMPOTENCY_KEY:
        text = f"The header Idempotency-Key must have 1 to {_LONGEST_IDEMPOTENCY_KEY} characters."
        raise InvalidRequest(text, param=IDEMPOTENCY_HEADER)


async def _durable(log: EventLog, event: Event) -> None:
    """Return once the event is on disk. Raises `LogError`, `LogUnavailable` also at the deadline."""
    written = log.submit(event)
    await _done([written])
    error = _failure(written)
    if error is not None:
        raise error


async def _done(futures: Sequence[Future[Position]]) -> None:
    """Return once all are done, or at the deadline: one wake-up for all, where `asyncio.gather` takes several for each."""
    loop, left, lock = asyncio.get_running_loop(), len(futures), threading.Lock()
    woken = loop.create_future()

    def note(_: Future[Position]) -> None:
        nonlocal left
        with lock:
            left -= 1
            last = left == 0
        if last:
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(lambda: woken.done() or woken.set_result(None))

    for future in futures:
        future.add_done_callback(note)
    if futures:
        with suppress(TimeoutError):
            await asyncio.wait_for(woken, DURABLE_TIMEOUT_S)


def _is_of(taken: _Made | Exception, owners: Collection[Owner]) -> bool:
    return isinstance(taken, _Made) and Owner(taken.receipt.project, taken.receipt.user) in owners


def _outcome(at: int, taken: _Made | Exception, written: Future[Position] | None) -> dict[str, Any]:
    """What became of one entry of a list; what is wrong with it concerns it alone."""
    error = taken if isinstance(taken, Exception) else written and _failure(written)
    if isinstance(taken, _Made) and error is None:
        return {"index": at, "status": 201} | _reply(taken)
    if not isinstance(error, ApiError | ReceiptError | LogError):
        raise error or TypeError(taken)
    told = as_api_error(error)
    return {"index": at, "status": told.status} | told.body


def _failure(future: Future[Position]) -> BaseException | None:
    if not future.done():
        return LogUnavailable(f"the log took longer than {DURABLE_TIMEOUT_S} s")
    return future.exception()


def _reply(made: _Made) -> dict[str, Any]:
    metrics.FEEDBACK.labels(made.kind, made.source).inc()
    reply = {"id": made.event.id, "object": "feedback", "created": int(made.event.time)}
    return reply | ({"condition": made.condition} if made.condition else {})
