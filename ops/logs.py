"""One JSON object a line on standard error, in every process. Never a user's id, prompt or answer in it."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from typing import TextIO, cast

import structlog


def configure_logs(process: str) -> None:
    """Send structlog's events of this process to standard error, each with time, level and process."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(name)s: %(message)s")
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # an outage is told once, by the forwarder's metrics
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.WriteLoggerFactory(file=cast(TextIO, Errors())),
    )
    structlog.contextvars.bind_contextvars(process=process)


class Errors:
    """Standard error for lines that may be lost: where it is a file on a full disk, who tells of something goes on with it."""

    def write(self, text: str) -> None:
        with suppress(OSError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            sys.stderr.flush()
