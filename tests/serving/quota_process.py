"""A worker of its own for test_quota: asks to be let in so many times at once, tells how often it was, and ends when told."""

from __future__ import annotations

import asyncio
import sys

from ops.settings import load_settings
from serving.errors import RateLimited
from serving.keys import Caller, KeyLimits
from serving.quota import Quota, open_quota


async def main(data_dir: str, redis_url: str, limit: str, figure: int, asked: int) -> None:
    quota = open_quota(load_settings(data_dir=data_dir, workers=2, limits={"redis_url": redis_url or None}))
    caller = Caller(("default",), "app", "key_1", limits=KeyLimits(**{limit: figure}))
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    print(sum(await asyncio.gather(*(let_in(quota, caller) for _ in range(asked)))), flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await quota.close()


async def let_in(quota: Quota, caller: Caller) -> bool:
    try:
        entry = await quota.enter(caller)
    except RateLimited:
        return False
    return bool(entry.headers) or caller.limits.concurrent is not None


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4], *map(int, sys.argv[4:6])))
