"""The scenarios of ``plaudit chaos log``, by what they are done to. Each place is a process of its own; places run side by side."""

from __future__ import annotations

from typing import NamedTuple


class Place(NamedTuple):
    """``opened``: ``module:function`` that takes a fresh folder and a size; what it yields, the scenarios get one after another."""

    opened: str
    scenarios: dict[str, str]
    """``module:function`` by name; a function's docstring says what is done."""


PLACES = {
    "gateway": Place(
        "ops.chaos.gateway:opened",
        {
            "gateway killed": "ops.chaos.gateway_faults:killed",
            "same request at once": "ops.chaos.gateway_faults:same_request_at_once",
            "disk full": "ops.chaos.gateway_faults:disk_full",
            "killed on a full disk": "ops.chaos.gateway_faults:killed_on_a_full_disk",
            "log locked": "ops.chaos.gateway_faults:log_locked",
            "bad network to the gateway": "ops.chaos.gateway_faults:bad_network",
        },
    ),
}

NAMES = [name for place in PLACES.values() for name in place.scenarios]
