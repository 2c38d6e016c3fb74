"""Clients of the gateway that give feedback one after another, and each again under its idempotency key until it is taken."""

from __future__ import annotations

import http.client
import json
import threading
from collections import Counter
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from ops.chaos.gateway import Gateway
from ops.chaos.ledger import Ledger
from ops.chaos.scenario import wait_until

_RETRY_S = 0.05
_TAKEN, _BUSY = 201, 503


@dataclass(frozen=True)
class Answered:
    """A gateway's answer to a chat: what feedback is about."""

    completion_id: str
    receipt: str


@dataclass(frozen=True)
class Reply:
    status: int
    retry_after: str | None
    body: dict[str, Any]


class Connection:
    """One keep-alive connection, opened anew after any failure. Without a whole reply: OSError or HTTPException."""

    def __init__(self, port: int, key: str, timeout_s: float) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
        self._key = key

    def post(self, path: str, body: dict[str, Any], **headers: str) -> Reply:
        sent = {"authorization": f"Bearer {self._key}", "content-type": "application/json"} | headers
        try:
            self._http.request("POST", path, json.dumps(body), sent)
            response = self._http.getresponse()
            return Reply(response.status, response.headers["retry-after"], json.loads(response.read()))
        except (OSError, http.client.HTTPException, ValueError):
            self._http.close()
            raise

    def chat(self, user: str) -> Answered:
        """Asks until it is answered: half a minute."""
        body = {"model": "default", "user": user, "messages": [{"role": "user", "content": f"I am {user}"}]}
        replies: list[Reply] = []

        def asked() -> bool:
            try:
                replies.append(self.post("/v1/chat/completions", body))
            except (OSError, http.client.HTTPException):
                return False
            return replies[-1].status == 200

        wait_until(asked, "a chat is answered", 30)
        told = replies[-1].body["plaudit"]
        return Answered(told["completion_id"], told["receipt"])

    def rate(self, about: Answered, number: int) -> Reply:
        """The feedback of this number about an answer, under the idempotency key that goes with it."""
        body = {"type": "rating", "value": 1 if number % 2 else -1, "client_sequence": number, "receipt": about.receipt}
        return self.post("/v1/feedback", body, **{"idempotency-key": f"{about.completion_id}-{number}"})

    def close(self) -> None:
        self._http.close()


class Crowd:
    """So many clients at once, each about an answer of its own; in a ``with`` block they send."""

    def __init__(
        self, gateway: Gateway, name: str, *, clients: int, each: int, port: int | None = None, timeout_s: float = 15.0
    ) -> None:
        """``each``: feedback of one client. ``port``: of a proxy in front of the gateway. Chats at once, through the gateway."""
        self.ledger = Ledger()
        self.failures: Counter[str] = Counter()
        """Attempts without a 201, by status or by kind of error."""
        self.unwanted: Counter[str] = Counter()
        """Of these, what the API does not promise: any status but 503, and a 503 that does not say when to come again."""
        self._each = each
        self._done = threading.Event()
        asking = Connection(gateway.port, gateway.key, 15.0)
        answers = [asking.chat(f"{name}-{client}") for client in range(clients)]
        asking.close()
        gateway.wait_captured({answer.completion_id for answer in answers})
        self._threads = [
            threading.Thread(target=self._send, args=(Connection(port or gateway.port, gateway.key, timeout_s), answer))
            for answer in answers
        ]

    def __enter__(self) -> Crowd:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    @property
    def acknowledged(self) -> int:
        return self.ledger.total

    @property
    def at_work(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def wait_for(self, acknowledged: int, seconds: float = 60.0) -> float:
        """Until so many are acknowledged, or all there will be; how long it took."""
        return wait_until(lambda: self.acknowledged >= acknowledged or not self.at_work, f"{acknowledged} acknowledged", seconds)

    def wait_for_another(self, seconds: float = 60.0) -> float:
        """Until one more is acknowledged; how long it took."""
        return self.wait_for(self.acknowledged + 1, seconds)

    def wait_refused(self) -> None:
        """Until somebody is told 503 from now on."""
        before = self.failures[str(_BUSY)]
        wait_until(lambda: self.failures[str(_BUSY)] > before, "feedback is refused with 503", 15)

    def finish(self, seconds: float) -> None:
        """Until all of them have sent all."""
        wait_until(lambda: not self.at_work, "all feedback is acknowledged", seconds)

    @property
    def problems(self) -> tuple[str, ...]:
        return tuple(f"{count} x {what}" for what, count in sorted(self.unwanted.items()))

    def _send(self, connection: Connection, about: Answered) -> None:
        for number in range(self._each):
            while not self._try(connection, about, number):
                if self._done.wait(_RETRY_S):
                    break
            if self._done.is_set():
                break
        connection.close()

    def _try(self, connection: Connection, about: Answered, number: int) -> bool:
        try:
            reply = connection.rate(about, number)
        except (OSError, http.client.HTTPException) as error:
            self.failures[type(error).__name__] += 1
            return False
        if reply.status == _TAKEN:
            self.ledger.note(about.completion_id, number)
            return True
        self.failures[str(reply.status)] += 1
        if reply.status != _BUSY or reply.retry_after is None:
            self.unwanted[
                f"status {reply.status} without retry-after" if reply.status == _BUSY else f"status {reply.status}"
            ] += 1
        return False
