"""Browser sessions of the chat page: a sealed token in a cookie, which lets its holder chat as one visitor."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable

from cryptography.fernet import Fernet, InvalidToken

from feedback.ids import new_id
from serving.keys import Caller

_LONGEST = 1024


class Sessions:
    """``key`` has 32 bytes; ``project`` is the one the page is of; a session lasts ``seconds``."""

    def __init__(self, key: bytes, project: str, seconds: int = 30 * 86_400, clock: Callable[[], float] = time.time) -> None:
        self.seconds = seconds
        self._fernet = Fernet(base64.urlsafe_b64encode(key))
        self._project = project
        self._clock = clock

    def issue(self) -> str:
        """A new visitor's token."""
        text = f"{self._project}\n{new_id('visitor_')}"
        return self._fernet.encrypt_at_time(text.encode(), int(self._clock())).decode()

    def check(self, token: str) -> Caller | None:
        """The visitor of a token; None when it is not ours, altered, too old, or of another project."""
        if not token or len(token) > _LONGEST:
            return None
        try:
            text = self._fernet.decrypt_at_time(token, self.seconds, int(self._clock())).decode()
        except (InvalidToken, ValueError):
            return None
        project, _, visitor = text.partition("\n")
        return Caller(projects=(project,), role="visitor", visitor=visitor) if project == self._project else None

    def known(self, token: str) -> bool:
        return self.check(token) is not None
