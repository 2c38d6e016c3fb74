"""What a user can mend: one line on standard error, exit status 2, no traceback."""

from __future__ import annotations


class UserError(Exception):
    """The message says what was wrong and what to do."""


class SettingsError(UserError, ValueError):
    """A setting is wrong; the message names the field, the value and the fix."""


class CommandError(UserError):
    """A command cannot do what was asked; the message says why and what to do."""
