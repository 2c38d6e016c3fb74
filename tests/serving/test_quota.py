"""What a key may use, on every storage: this process's memory, the workers' file, a real Redis."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from limits.aio.storage import MemoryStorage
from redis_server import RedisServer, start_redis

from ops import metrics
from ops.settings import Settings, SettingsError, load_settings
from serving.counters import SqliteCounters
from serving.errors import RateLimited
from serving.keys import Caller, KeyLimits
from serving.quota import Entry, Quota, open_quota

HERE = Path(__file__).parent


def holder(key_id: str = "key_1", **limits: int) -> Caller:
    return Caller(("default",), "app", key_id, limits=KeyLimits(**limits))


@pytest.fixture(scope="module")
def _redis(require: Callable[[str, str], None]) -> Iterator[RedisServer]:
    server = start_redis(require)
    yield server
    server.close()


@pytest.fixture
def redis(_redis: RedisServer) -> RedisServer:
    _redis.ask("FLUSHALL")
    return _redis


@pytest.fixture(params=["memory", "file", "redis"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    match request.param:
        case "memory":
            return load_settings(data_dir=tmp_path)
        case "file":
            return load_settings(data_dir=tmp_path, workers=2)
        case _:
            return load_settings(data_dir=tmp_path, limits={"redis_url": request.getfixturevalue("redis").url})


@pytest.fixture
async def quota(settings: Settings) -> AsyncIterator[Quota]:
    opened = open_quota(settings)
    yield opened
    await opened.close()


async def ask(quota: Quota, caller: Caller, times: int) -> tuple[list[Entry], list[RateLimited]]:
    """Ask so many times at once: those let in, and the refusals."""
    answers = await asyncio.gather(*(quota.enter(caller) for _ in range(times)), return_exceptions=True)
    assert all(isinstance(answer, Entry | RateLimited) for answer in answers), answers
    return [a for a in answers if isinstance(a, Entry)], [a for a in answers if isinstance(a, RateLimited)]


class Untouchable(MemoryStorage):
    async def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        raise AssertionError("nothing is to be counted")


async def test_a_key_without_limits_and_a_visitor_are_never_counted():
    quota = Quota(Untouchable(), 1)
    visitor = Caller(("default",), "visitor", visitor="v", limits=KeyLimits(requests_per_min=1))
    for caller in (Caller(("default",), "app", "key_1"), visitor):
        entry = await quota.enter(caller)
        assert entry is await quota.enter(caller)
        assert entry.headers == await quota.count(caller) == {}
        await entry.leave(100)


async def test_requests_beyond_a_minutes_are_refused_with_the_figure_and_when_to_come_back(quota: Quota):
    caller = holder(requests_per_min=3)
    entered, refused = await ask(quota, caller, 12)
    assert (len(entered), len(refused)) == (3, 9)
    assert sorted(entry.headers["x-ratelimit-remaining-requests"] for entry in entered) == ["0", "1", "2"]
    error = refused[0]
    assert (error.status, error.code) == (429, "rate_limit_exceeded")
    assert "requests a minute" in error.message
    assert "3 requests a minute" in error.message
    assert error.retry_after_s is not None
    assert 1 <= error.retry_after_s <= 60
    assert error.retry_after_s == int(error.retry_after_s)
    assert error.headers == {"x-ratelimit-limit-requests": "3", "x-ratelimit-remaining-requests": "0"}
    assert len((await ask(quota, holder("key_2", requests_per_min=3), 1))[0]) == 1, "each key has its own"


async def test_tokens_are_charged_at_the_end_and_then_are_used_up(quota: Quota):
    caller = holder(tokens_per_min=100)
    (first, second), _ = await ask(quota, caller, 2)
    assert first.headers == {"x-ratelimit-limit-tokens": "100", "x-ratelimit-remaining-tokens": "100"}
    for _ in range(2):
        await first.leave(60)
    (third,), _ = await ask(quota, caller, 1)
    assert third.headers["x-ratelimit-remaining-tokens"] == "40", "leaving twice charges once"
    await second.leave(39)
    assert len((await ask(quota, caller, 1))[0]) == 1
    await third.leave(1)
    _, (error,) = await ask(quota, caller, 1)
    assert "tokens a minute" in error.message
    assert "100 tokens a minute" in error.message
    assert 1 <= (error.retry_after_s or 0) <= 60


async def test_requests_at_once_are_let_in_up_to_the_figure_and_again_when_one_leaves(quota: Quota):
    caller = holder(concurrent=4, requests_per_min=1000)
    entered, refused = await ask(quota, caller, 16)
    assert (len(entered), len(refused)) == (4, 12)
    assert "requests at once" in refused[0].message
    assert refused[0].retry_after_s == 1
    assert "4 requests at once" in refused[0].message
    for _ in range(3):
        await entered[0].leave()
    entered_again, refused = await ask(quota, caller, 4)
    assert (len(entered_again), len(refused)) == (1, 3), "leaving thrice makes room once"
    assert entered_again[0].headers["x-ratelimit-remaining-requests"] == "995", "who was refused is not counted"


async def test_a_request_refused_for_its_number_does_not_keep_its_place(quota: Quota):
    caller = holder(concurrent=1, requests_per_min=1)
    (entry,), _ = await ask(quota, caller, 1)
    await entry.leave()
    for _ in range(2):
        _, (error,) = await ask(quota, caller, 1)
        assert "requests a minute" in error.message


async def test_other_requests_count_by_their_number_alone(quota: Quota):
    caller = holder(concurrent=1, requests_per_min=3, tokens_per_min=10)
    (entry,), _ = await ask(quota, caller, 1)
    await entry.leave(10)
    assert await quota.count(caller) == {"x-ratelimit-limit-requests": "3", "x-ratelimit-remaining-requests": "1"}
    assert await quota.count(caller)
    with pytest.raises(RateLimited):
        await quota.count(caller)


@pytest.mark.parametrize("where", ["file", "redis"])
@pytest.mark.parametrize("limit", ["requests_per_min", "concurrent"])
def test_processes_that_share_a_storage_let_in_exactly_as_many_as_the_key_may(
    where: str, limit: str, tmp_path: Path, request: pytest.FixtureRequest
):
    url = request.getfixturevalue("redis").url if where == "redis" else ""
    command = [sys.executable, str(HERE / "quota_process.py"), str(tmp_path), url, limit, "25", "50"]
    workers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        for worker in workers:
            tell(worker)
        assert sum(int(worker.stdout.readline()) for worker in workers if worker.stdout) == 25
    finally:
        for worker in workers:
            worker.communicate("\n", timeout=20)


def tell(worker: subprocess.Popen[str]) -> None:
    assert worker.stdin is not None
    worker.stdin.write("\n")
    worker.stdin.flush()


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


async def test_a_gateway_that_was_killed_gives_its_places_back_after_the_longest_request(tmp_path: Path):
    clock, file = Clock(), tmp_path / "limits.db"
    caller = holder(concurrent=2)
    killed = SqliteCounters(file, clock)
    assert len((await ask(Quota(killed, 150), caller, 3))[0]) == 2
    other = SqliteCounters(file, clock)
    quota = Quota(other, 150)
    clock.now += 149.9
    assert (await ask(quota, caller, 1))[0] == []
    clock.now += 0.2
    assert len((await ask(quota, caller, 3))[0]) == 2
    killed.close()
    other.close()


async def test_a_minute_of_the_file_ends_sixty_seconds_after_its_first_request(tmp_path: Path):
    clock = Clock()
    counters = SqliteCounters(tmp_path / "limits.db", clock)
    assert await counters.incr("k", 60, 5) == 5
    clock.now += 59.9
    assert (await counters.incr("k", 60), await counters.get("k")) == (6, 6)
    assert await counters.get_expiry("k") == 1_000_060.0
    clock.now += 0.1
    assert (await counters.get("k"), await counters.get_expiry("k")) == (0, clock.now)
    assert await counters.incr("k", 60) == 1
    counters.close()


async def test_a_redis_that_is_away_or_deaf_stops_no_request_and_is_counted_again_when_it_is_back(redis: RedisServer):
    quota = open_quota(load_settings(limits={"redis_url": redis.url}))
    caller = holder(requests_per_min=2, concurrent=1)
    before = failures()
    redis.signal(signal.SIGSTOP)
    started = time.monotonic()
    entered, refused = await ask(quota, caller, 20)
    assert (len(entered), refused) == (20, [])
    assert time.monotonic() - started < 4, "far less than the client's own patience"
    after = failures()
    assert after > before
    assert len((await ask(quota, caller, 20))[0]) == 20
    assert failures() - after <= 1, "of those that come later, one at most waits for what was away"
    redis.stop()
    for entry in entered:
        await entry.leave(5)
    redis.start()
    async with asyncio.timeout(10):
        while not (await quota.enter(caller)).headers:
            await asyncio.sleep(0.02)
    with pytest.raises(RateLimited):
        await quota.enter(caller)
    await quota.close()


def failures() -> float:
    return metrics.GATEWAY.get_sample_value("plaudit_quota_unavailable_total") or 0.0


class Slow(MemoryStorage):
    """A storage that answers when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.go_on = asyncio.Event(), asyncio.Event()

    async def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        count = await super().incr(key, expiry, amount)
        self.asked.set()
        await self.go_on.wait()
        return count

    async def clear(self, key: str) -> None:
        self.asked.set()
        await self.go_on.wait()
        await super().clear(key)


async def test_a_client_that_hangs_up_while_it_is_counted_keeps_no_place():
    storage = Slow()
    quota, caller = Quota(storage, 150), holder(concurrent=1)
    request = asyncio.create_task(quota.enter(caller))
    await storage.asked.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    storage.go_on.set()
    async with asyncio.timeout(5):
        while storage.storage:
            await asyncio.sleep(0)
    assert len((await ask(quota, caller, 1))[0]) == 1


async def test_a_request_that_is_cancelled_again_while_it_leaves_still_leaves():
    storage = Slow()
    storage.go_on.set()
    quota, caller = Quota(storage, 150), holder(concurrent=1, tokens_per_min=10)
    entry = await quota.enter(caller)
    storage.go_on.clear()
    storage.asked.clear()
    leaving = asyncio.create_task(entry.leave(10))
    await storage.asked.wait()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    storage.go_on.set()
    await quota.close()
    with pytest.raises(RateLimited) as refused:
        await quota.enter(caller)
    assert "tokens a minute" in refused.value.message, "the place is free and the tokens are charged"


def test_an_address_that_is_none_is_refused_by_name_and_its_password_is_not_told():
    with pytest.raises(SettingsError, match="PLAUDIT_LIMITS__REDIS_URL") as refused:
        open_quota(load_settings(limits={"redis_url": "http://:hunter2@host"}))
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("wrong", [{"requests_per_min": 0}, {"tokens_per_min": -1}, {"concurrent": 1001}])
def test_a_limit_that_lets_nobody_in_is_refused_by_name(wrong: dict[str, int]):
    (name,) = wrong
    with pytest.raises(ValueError, match=name):
        KeyLimits(**wrong)


async def test_the_places_of_a_worker_that_was_killed_are_free_at_once_and_its_counts_stay(tmp_path: Path):
    code = (
        "import asyncio, os, sys; from pathlib import Path; from serving.counters import SqliteCounters\n"
        "async def main():\n"
        "    counters = SqliteCounters(Path(sys.argv[1]))\n"
        "    await counters.incr('slot/key/0', 100); await counters.incr('requests/key', 100, 7); os._exit(0)\n"
        "asyncio.run(main())"
    )
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code, str(tmp_path / "limits.db")], check=True, timeout=60)
    counters = SqliteCounters(tmp_path / "limits.db")
    assert await counters.incr("slot/key/0", 100) == 1
    assert await counters.incr("slot/key/0", 100) == 2
    assert await counters.incr("requests/key", 100) == 8
    counters.close()
