"""A real Chromium on a real gateway (uvicorn, loopback); only the model is scripted.

A page fails its test when it ever asks another origin for something, breaks its content security policy, or throws.
"""

from __future__ import annotations

import shutil
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, sync_playwright
from scripted_engine import ScriptedEngine

from feedback.events import FeedbackRetracted, FeedbackSet
from feedback.log import EventLog
from feedback.sqlite_log import SqliteLog
from ops.settings import load_settings
from serving.app import create_app

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
EXECUTABLES = ("/usr/bin/chromium", "chromium", "chromium-browser", "google-chrome")


@dataclass(frozen=True)
class Gateway:
    url: str
    engine: ScriptedEngine
    log: EventLog

    @property
    def feedback(self) -> list[FeedbackSet | FeedbackRetracted]:
        """What the log holds by now, oldest first."""
        partitions = range(self.log.partitions("feedback"))
        events = [record.event for p in partitions for record in self.log.read("feedback", p, 0)]
        return [event.data for event in sorted(events, key=lambda event: event.time)]

    @property
    def votes(self) -> list[Any]:
        """The same as values: 1, -1, a, b, tie, both_bad, or "retracted"."""
        return [fact.judgement.value if isinstance(fact, FeedbackSet) else "retracted" for fact in self.feedback]


@pytest.fixture(scope="module")
def browser(require: Callable[[str, str], None]) -> Iterator[Browser]:
    """One a file: while Playwright's synchronous API is open, no test elsewhere can run an event loop."""
    executable = next((found for name in EXECUTABLES if (found := shutil.which(name))), None)
    if executable is None:
        require("browser", "there is no Chromium on this machine (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, headless=True, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def gateway(tmp_path) -> Iterator[Gateway]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        settings = load_settings(data_dir=tmp_path, port=port, limits={"engine_wait_s": 0.5})
        gateway = Gateway(f"http://127.0.0.1:{port}", ScriptedEngine(), SqliteLog(settings.log_path))
        app = create_app(settings, engines=[gateway.engine], log=gateway.log)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            wait_until_ready(f"{gateway.url}/readyz")
            yield gateway
        finally:
            server.should_exit = True
            thread.join(timeout=20)
            gateway.log.close()
    assert not thread.is_alive(), "the gateway did not stop"


def wait_until_ready(url: str) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except urllib.error.HTTPError:
            assert time.monotonic() < deadline, "the gateway is not ready"
            time.sleep(0.02)


def watch(page: Page, origin: str) -> list[str]:
    """Everything that no page may do, as it happens."""
    offences: list[str] = []

    def on_console(message: Any) -> None:
        # Chromium reports every refused request as an error of its own; the page shows those to the person instead.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            offences.append(f"console: {message.text}")

    def on_request(request: Any) -> None:
        if not request.url.startswith(f"{origin}/"):
            offences.append(f"request to {request.url}")

    page.on("console", on_console)
    page.on("request", on_request)
    page.on("pageerror", lambda error: offences.append(f"exception: {error}"))
    return offences


@pytest.fixture
def page(browser: Browser, gateway: Gateway, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The chat page, open and ready; a test may parametrise it with options of the browser's context."""
    context = browser.new_context(**getattr(request, "param", {}))
    page = context.new_page()
    page.set_default_timeout(10_000)
    offences = watch(page, gateway.url)
    page.goto(gateway.url)
    page.get_by_text("Next: one answer.").wait_for()
    yield page
    context.close()
    assert offences == []
