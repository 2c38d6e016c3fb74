"""Which code made something: versions, and a hash of our own code, which a version number alone does not tell."""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path

_PACKAGES = ("torch", "transformers", "peft")
_CODE = ("feedback", "ops", "serving", "trainer")


@cache
def code_sha256() -> str:
    """SHA-256 over the paths and bytes of our packages' modules."""
    digest = hashlib.sha256()
    above = Path(__file__).parent.parent
    for path in sorted(path for package in _CODE for path in (above / package).rglob("*.py")):
        digest.update(f"{path.relative_to(above).as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def software() -> dict[str, str]:
    """What a trainer runs on."""
    versions = {name: version(name) for name in _PACKAGES}
    return {"plaudit": version("plaudit"), "code_sha256": code_sha256(), "python": platform.python_version(), **versions}
