"""What a gateway goes through while people give feedback."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sqlite3
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

from ops.chaos.crowd import Answered, Connection, Crowd, Reply
from ops.chaos.gateway import Gateway
from ops.chaos.ledger import Ledger
from ops.chaos.proxy import Mode, Proxy
from ops.chaos.scenario import Outcome, Size, pause, wait_until

_CLIENTS = 8


def killed(gateway: Gateway, size: Size) -> Outcome:
    """SIGKILL in the middle of requests, again and again."""
    kills, events = (100, 100_000) if size == "full" else (2, 2_000)
    dice, recovery = random.Random(1), 0.0
    with Crowd(gateway, "killed", clients=_CLIENTS, each=events // _CLIENTS) as crowd:
        for kill in range(kills):
            crowd.wait_for(round((kill + dice.random()) * events / (kills + 1)), 120)
            gateway.kill()
            gateway.start()
            recovery = max(recovery, crowd.wait_for_another(60))
        crowd.finish(600)
    return _outcome(gateway, crowd, kills, recovery)


def same_request_at_once(gateway: Gateway, size: Size) -> Outcome:
    """The same request ten times at the same moment: all are told the same id; another body under the key is a conflict."""
    rounds, copies = (200 if size == "full" else 20), 10
    ledger, problems = Ledger(), []
    connections = [Connection(gateway.port, gateway.key, 15.0) for _ in range(copies)]
    about = connections[0].chat("same")
    gateway.wait_captured({about.completion_id})
    for number in range(rounds):
        replies = _at_once(connections, about, number)
        if [reply.status for reply in replies] != [201] * copies or len({reply.body["id"] for reply in replies}) != 1:
            problems.append(f"request {number} was answered {Counter(reply.status for reply in replies)}")
        ledger.note(about.completion_id, number)
    other = connections[0].post(
        "/v1/feedback",
        {"type": "rating", "value": 1, "client_sequence": rounds, "receipt": about.receipt},
        **{"idempotency-key": f"{about.completion_id}-0"},
    )
    if other.status != 409:
        problems.append(f"another body under a used key was answered {other.status}, not 409")
    for connection in connections:
        connection.close()
    with gateway.log() as log:
        return Outcome(rounds, *ledger.check_log(log), problems=(*problems, *ledger.standing(log)))


def disk_full(gateway: Gateway, size: Size) -> Outcome:
    """Every write to any file fails in the running gateway, then none: 503 with retry-after, chat goes on, ``/readyz`` warns,
    and it recovers.
    """
    times, lasts_s = (10, 3.0) if size == "full" else (2, 1.0)
    recovery, problems = 0.0, []
    worker = gateway.worker
    with Crowd(gateway, "full", clients=_CLIENTS, each=1_000_000) as crowd:
        for time in range(times):
            crowd.wait_for_another()
            with _no_room(gateway):
                crowd.wait_refused()
                taken = crowd.acknowledged
                answered = _chat_goes_on(gateway, f"full-{time}")
                wait_until(lambda: _warned(gateway) == ["the log could not be written"], "/readyz warns of the full disk", 10)
                pause(lasts_s)
                if crowd.acknowledged > taken + _CLIENTS:  # an answer that was on its way may still come
                    problems.append(f"{crowd.acknowledged - taken} were acknowledged on a full disk")
            recovery = max(recovery, crowd.wait_for_another())
            gateway.wait_captured({answered})
            wait_until(lambda: _warned(gateway) == [], "/readyz has no warning any more", 10)
    if gateway.worker != worker:
        problems.append("the gateway was started again: it did not recover by itself")
    return _outcome(gateway, crowd, times, recovery, *problems)


def killed_on_a_full_disk(gateway: Gateway, size: Size) -> Outcome:
    """Its only worker dies while no byte can be written: the parent lives on, and starts another once there is room."""
    recovery = 0.0
    with Crowd(gateway, "dying", clients=_CLIENTS, each=1_000_000) as crowd:
        crowd.wait_for_another()
        worker = gateway.worker
        with _no_room(gateway):
            os.kill(worker, signal.SIGKILL)
            pause(5.0 if size == "full" else 1.0)
        recovery = crowd.wait_for_another()
    problems = [] if gateway.is_running else ["the gateway's parent ended"]
    return _outcome(gateway, crowd, 1, recovery, *problems)


def log_locked(gateway: Gateway, size: Size) -> Outcome:
    """Another process holds the log's write lock, longer than the gateway waits for it: 503, and nothing is lost."""
    times, recovery = (5 if size == "full" else 1), 0.0
    with Crowd(gateway, "locked", clients=_CLIENTS, each=1_000_000) as crowd:
        for time in range(times):
            crowd.wait_for_another()
            with closing(sqlite3.connect(gateway.settings.log_path, timeout=10, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                answered = _chat_goes_on(gateway, f"locked-{time}")
                crowd.wait_refused()
                other.execute("ROLLBACK")
            recovery = max(recovery, crowd.wait_for_another())
            gateway.wait_captured({answered})
    return _outcome(gateway, crowd, times, recovery)


def bad_network(gateway: Gateway, size: Size) -> Outcome:
    """Between clients and gateway: connections reset, connections on which nothing comes any more, answers 500 ms late."""
    times, lasts_s = (10, 3.0) if size == "full" else (1, 1.0)
    recovery = 0.0
    faults: tuple[Mode, ...] = ("reset", "mute", "slow")
    with (
        Proxy(gateway.port) as proxy,
        Crowd(gateway, "network", clients=_CLIENTS, each=1_000_000, port=proxy.port, timeout_s=1.5) as crowd,
    ):
        for _ in range(times):
            for fault in faults:
                crowd.wait_for_another()
                proxy.mode = fault
                pause(lasts_s)
                proxy.mode = "pass"
                recovery = max(recovery, crowd.wait_for_another())
    note = f"attempts without an answer: {sum(crowd.failures.values())}"
    return _outcome(gateway, crowd, times * len(faults), recovery, note=note)


def _outcome(gateway: Gateway, crowd: Crowd, faults: int, recovery_s: float, *problems: str, note: str = "") -> Outcome:
    """After the crowd has gone: what is in the log."""
    with gateway.log() as log:
        problems = (*problems, *crowd.problems, *crowd.ledger.standing(log))
        return Outcome(faults, *crowd.ledger.check_log(log), recovery_s=recovery_s, problems=problems, note=note)


def _at_once(connections: list[Connection], about: Answered, number: int) -> list[Reply]:
    replies: list[Reply] = []
    barrier = threading.Barrier(len(connections))

    def send(connection: Connection) -> None:
        barrier.wait()
        replies.append(connection.rate(about, number))

    threads = [threading.Thread(target=send, args=(connection,)) for connection in connections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return replies


@contextmanager
def _no_room(gateway: Gateway) -> Iterator[None]:
    """No byte more goes into any file of its processes: each write is an error (EFBIG), as each is on a failing disk.

    Others' limits may be changed without privileges as long as they are of the same user (prlimit(2)).
    """
    before = resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE)
    _limit(gateway, (0, before[1]))
    try:
        yield
    finally:
        _limit(gateway, before)


def _limit(gateway: Gateway, limits: tuple[int, int]) -> None:
    """The parent's first: workers that it starts from now on have it by birth."""
    for pid in gateway.processes():
        with suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)


def _warned(gateway: Gateway) -> list[str]:
    """What a ready gateway warns of, without the details."""
    with urllib.request.urlopen(f"{gateway.url}/readyz", timeout=10) as reply:
        return [str(warning).partition(":")[0] for warning in json.loads(reply.read()).get("warnings", [])]


def _chat_goes_on(gateway: Gateway, user: str) -> str:
    """The answer's completion id."""
    connection = Connection(gateway.port, gateway.key, 3.0)
    try:
        return connection.chat(user).completion_id
    finally:
        connection.close()
