"""The scenarios of ``plaudit chaos log``, by what they are done to: each place is a process, beside the others."""

from __future__ import annotations

from typing import NamedTuple


class Place(NamedTuple):
    opened: str
    """``module:function`` that takes a fresh folder and a size; what it yields is given to one scenario after another."""
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
    "mock brokers": Place(
        "ops.chaos.kafka:mock",
        {
            "forwarder killed": "ops.chaos.broker_faults:forwarder_killed",
            "brokers down": "ops.chaos.broker_faults:brokers_down",
            "brokers hung": "ops.chaos.broker_faults:brokers_hung",
            "brokers' errors": "ops.chaos.broker_faults:broker_errors",
            "leaders moved": "ops.chaos.broker_faults:leaders_moved",
        },
    ),
    "mock brokers, readers": Place(
        "ops.chaos.kafka:mock",
        {
            "readers come and go": "ops.chaos.takeover_faults:readers_come_and_go",
            "zombies fenced": "ops.chaos.takeover_faults:zombies_fenced",
        },
    ),
    "disk": Place(
        "ops.chaos.disk:opened",
        {
            "every step to the disk": "ops.chaos.disk:every_step",
            "clock an hour wrong": "ops.chaos.clock:hour_wrong",
        },
    ),
    "real broker": Place(
        "ops.chaos.kafka:real",
        {
            "broker killed": "ops.chaos.broker_faults:broker_killed",
            "bad network to Kafka": "ops.chaos.broker_faults:bad_network",
        },
    ),
}

NAMES = [name for place in PLACES.values() for name in place.scenarios]
