"""What the settings want to be taken out of texts before they are kept."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from feedback.redact import Redact, redact
from ops.errors import SettingsError
from ops.settings import Settings


class Found(Protocol):
    """A piece of personal data in a text, as Presidio tells it."""

    start: int
    end: int
    entity_type: str


def redactor_of(settings: Settings, imported: Callable[[str], Any] = importlib.import_module) -> Redact | None:
    """None: texts are kept as they are. Raises `SettingsError` where Presidio is wanted and cannot be ``imported``."""
    if settings.redact == "off":
        return None
    if settings.redact == "patterns":
        return redact
    find = _presidio(imported)
    return lambda text: without(redact(text), find)


def without(text: str, find: Callable[[str], Iterable[Found]]) -> str:
    """The text with all that ``find`` finds replaced by its kind in brackets; of two that overlap, the one that starts first."""
    parts, place = [], 0
    for found in sorted(find(text), key=lambda found: (found.start, -found.end)):
        if found.start >= place:
            parts += [text[place : found.start], f"[{found.entity_type.lower()}]"]
        place = max(place, found.end)
    return "".join([*parts, text[place:]])


def _presidio(imported: Callable[[str], Any]) -> Callable[[str], Iterable[Found]]:
    """Its analyzer for English, with the model that its own defaults name; each text takes it some milliseconds."""
    try:
        analyzer = imported("presidio_analyzer").AnalyzerEngine()
    except (ImportError, OSError, SystemExit) as error:  # spaCy leaves like that when a model cannot be downloaded
        raise SettingsError(
            f"redact='presidio': Presidio cannot be loaded ({error}). Install 'plaudit[presidio]' and the language model, "
            "python -m spacy download en_core_web_lg, or set PLAUDIT_REDACT=patterns"
        ) from error
    return lambda text: analyzer.analyze(text=text, language="en")
