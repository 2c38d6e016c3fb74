"""One running Plaudit for all tests that can share it: real engine, gateway, trainer and controller."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
from stack import ENGINE_WAIT_S, VOTES, Stack

from ops.settings import load_settings
from ops.supervisor import Supervisor
from ops.up import running


@contextmanager
def running_stack(model_cache: Path, folder: Path) -> Iterator[Stack]:
    """Its trainer waits for VOTES votes; a challenger meets half of the users at once and is never decided upon.

    What is killed is started again. At its end no process of it may be left. The starter model must be in ``model_cache``.
    """
    port, admin_port, trainer_port, controller_port = _free_ports(4)
    settings = load_settings(
        data_dir=folder,
        model="starter",
        model_cache=model_cache,
        port=port,
        admin_port=admin_port,
        metrics_port_trainer=trainer_port,
        metrics_port_controller=controller_port,
        engine={"max_model_len": 512, "probe_timeout_s": 8, "probe_interval_s": 0.5},
        limits={"engine_wait_s": ENGINE_WAIT_S},
        train={
            "min_new_votes": VOTES,
            "min_effective_labels": 1,
            "poll_s": 0.2,
            "nice": 0,
            "ppo": {"steps": 5},
            "gates": {"prompts": 64},
        },
        rollout={
            "poll_s": 0.2,
            "steps": [{"state": "CANARY", "coverage": 1.0, "min_users": 1_000_000, "min_seconds": 1e6}],
        },
    )
    with running(settings, print) as supervisor:
        stack = Stack(settings, supervisor.pids)
        with _watched(supervisor):
            yield stack
        stack.close()
        family = [psutil.Process(pid) for pid in supervisor.pids().values()]
        family += [child for process in family for child in process.children(recursive=True)]
    assert len(family) > 4, "the engine was not running to the end"
    left = [process for process in psutil.wait_procs(family, timeout=1)[1] if process.status() != psutil.STATUS_ZOMBIE]
    assert not left, f"processes left behind: {left}"


@contextmanager
def _watched(supervisor: Supervisor) -> Iterator[None]:
    stop = threading.Event()
    watcher = threading.Thread(target=supervisor.watch, args=(stop,))
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()


def _free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
