"""Why a command ends early, and with which exit code."""

from __future__ import annotations


class CliError(Exception):
    """Print `message` to stderr (nothing when it is empty) and exit with `status`."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


class UsageError(CliError):
    """The command line itself is wrong. The dispatcher adds the command's usage."""

    def __init__(self, message: str) -> None:
        super().__init__(message, 125)
