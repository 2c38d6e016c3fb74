"""The keeper of vLLM (`plaudit engine`): starts it, asks it for a token now and then, restarts it when dead or deaf.

    STARTING ──first token──▶ READY ──exit, or no token in time──▶ stop the group, wait a little ──▶ STARTING
        └──exit, or no token by start_timeout_s──▶ the same, waiting longer each time (at most a minute)

``/health`` is not asked: it may say 200 over a dead engine. Who asks for completions sees the restarts for himself
(`serving.replica`); this process serves nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
from collections.abc import Awaitable
from pathlib import Path

import structlog

from feedback.events import BASE
from ops.logs import configure_logs
from ops.models import prepared
from ops.settings import EngineSettings, Settings
from serving.engine import Engine, VllmEngine
from serving.engine_command import EngineCommand, engine_command, installed_device, usable_cpus
from serving.process_group import ProcessGroup, end_leftover

_STARTING_PROBE_S = 0.5
_DEAF_AFTER = 2
"""Probes in a row: on a machine short of CPUs a busy engine may miss one, and to start another takes it minutes."""
_LONGEST_PAUSE_S = 60.0
_LOG_BYTES = 16 * 1024 * 1024
_LOG_TAIL_BYTES = 2000

log = structlog.get_logger()


def run(settings: Settings) -> None:
    """Keep vLLM up until SIGTERM or SIGINT, or until our parent dies. Raises `ModelNotPrepared`, `EngineNotInstalled`."""
    configure_logs("engine")
    model = Path(prepared(settings).path)
    command = engine_command(
        settings.engine,
        model=model,
        socket=settings.engine_socket,
        device=installed_device(),
        environ=os.environ,
        cpus=usable_cpus(),
    )
    settings.run_dir.mkdir(parents=True, exist_ok=True)
    asyncio.run(_until_told(Keeper(command, settings.engine, settings.engine_socket, settings.run_dir)))


async def _until_told(keeper: Keeper) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    orphaned = asyncio.create_task(_set_when_orphaned(stop))
    try:
        await keeper.keep(stop)
    finally:
        orphaned.cancel()


async def _set_when_orphaned(stop: asyncio.Event) -> None:
    parent = os.getppid()
    while os.getppid() == parent:
        await asyncio.sleep(1)
    stop.set()


class Keeper:
    """Runs one engine at a time: ``run_dir/engine.pid`` has its process group, ``run_dir/engine.log`` its output."""

    def __init__(
        self, command: EngineCommand, settings: EngineSettings, socket: Path, run_dir: Path, engine: Engine | None = None
    ) -> None:
        self._command = command
        self._settings = settings
        self._socket = socket
        self._pid_file = run_dir / "engine.pid"
        self._output = run_dir / "engine.log"
        self._engine = engine or VllmEngine(f"unix:{socket}", request_timeout_s=settings.probe_timeout_s)
        self.starts = 0

    async def keep(self, stop: asyncio.Event) -> None:
        """Until ``stop`` is set; then nothing of the engine is left within five seconds."""
        failures = 0
        try:
            while not stop.is_set():
                # vLLM leaves sockets and files in the folder for temporary ones: it gets one of its own.
                with tempfile.TemporaryDirectory(prefix="plaudit-", ignore_cleanup_errors=True) as scratch:
                    was_ready, reason = await self._run(scratch, stop)
                if reason is None:
                    break
                failures = 0 if was_ready else failures + 1
                pause = pause_s(failures)
                log.error("engine_restarts", reason=reason, ready=was_ready, pause_s=pause, output=_tail(self._output))
                await _first(asyncio.sleep(pause), stop.wait())
        finally:
            self._socket.unlink(missing_ok=True)
            await self._engine.close()

    async def _run(self, scratch: str, stop: asyncio.Event) -> tuple[bool, str | None]:
        """One engine from its start to its end; what `_watch` says of it."""
        group = await self._start(scratch)
        try:
            return await self._watch(group, stop)
        finally:
            await group.stop()
            self._pid_file.unlink(missing_ok=True)

    async def _start(self, scratch: str) -> ProcessGroup:
        with contextlib.suppress(OSError, ValueError):
            if end_leftover(int(self._pid_file.read_text()), mark=str(self._socket)):
                log.warning("engine_leftover_killed")
        self._socket.parent.mkdir(parents=True, exist_ok=True)
        self._socket.unlink(missing_ok=True)
        if self._output.exists() and self._output.stat().st_size > _LOG_BYTES:
            self._output.replace(self._output.with_suffix(".log.1"))
        environment = {**self._command.environment, "TMPDIR": scratch, "VLLM_RPC_BASE_PATH": scratch}
        group = await ProcessGroup.start(self._command.argv, environment, self._output)
        self._pid_file.write_text(f"{group.id}\n")
        self.starts += 1
        log.info("engine_starting", group=group.id, output=str(self._output))
        return group

    async def _watch(self, group: ProcessGroup, stop: asyncio.Event) -> tuple[bool, str | None]:
        """(whether it was ever ready, why it must be restarted); the reason is None when told to stop."""
        died = asyncio.ensure_future(group.wait())
        told = asyncio.ensure_future(stop.wait())
        probing = asyncio.ensure_future(self._probe_until_deaf())
        try:
            await asyncio.wait({died, told, probing}, return_when=asyncio.FIRST_COMPLETED)
            ready = self._ready
            if told.done():
                return ready, None
            return ready, f"vLLM exited with status {died.result()}" if died.done() else probing.result()
        finally:
            for task in (died, told, probing):
                task.cancel()
            await asyncio.gather(died, told, probing, return_exceptions=True)

    _ready = False

    async def _probe_until_deaf(self) -> str:
        loop = asyncio.get_running_loop()
        started = loop.time()
        self._ready = False
        while not await self._engine.answers(BASE, self._settings.probe_timeout_s):
            if loop.time() - started > self._settings.start_timeout_s:
                return f"no token within start_timeout_s={self._settings.start_timeout_s:g} s of its start"
            await asyncio.sleep(_STARTING_PROBE_S)
        self._ready = True
        log.info("engine_ready", seconds=round(loop.time() - started, 1))
        missed = 0
        while missed < _DEAF_AFTER:
            await asyncio.sleep(self._settings.probe_interval_s)
            missed = 0 if await self._engine.answers(BASE, self._settings.probe_timeout_s) else missed + 1
        return f"deaf: {_DEAF_AFTER} times no token within probe_timeout_s={self._settings.probe_timeout_s:g} s"


def pause_s(failures: int) -> float:
    """Seconds before the next start, after so many starts in a row that never answered."""
    return min(_LONGEST_PAUSE_S, 2.0 ** (failures - 1)) if failures else 0.0


async def _first(*waiting: Awaitable[object]) -> None:
    """Wait for the first of several; cancel the others."""
    tasks = [asyncio.ensure_future(each) for each in waiting]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _tail(path: Path) -> str:
    """The last lines of vLLM's output: what a restart's reason usually stands in."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _LOG_TAIL_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
