"""What can go wrong between a client and an engine."""

from __future__ import annotations


class ClientError(Exception):
    """Base of the errors of this package."""


class ApiError(ClientError):
    """The engine answered with an error. `message` is its text, `status` the HTTP status that tells its kind,
    `hint` the next thing to try (of Teul's engines only)."""

    def __init__(self, status: int, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.hint = hint

    @property
    def is_not_found(self) -> bool:
        return self.status == 404


class OutputFailed(ClientError):
    """What a command had to say could not be written: `/dev/full`, a full disk. docker: Go's text of it."""

    def __init__(self, fd: int, error: OSError) -> None:
        super().__init__()
        name = {0: "/dev/stdin", 1: "/dev/stdout", 2: "/dev/stderr"}.get(fd, f"descriptor {fd}")
        self.reason = (error.strerror or str(error)).lower()
        self.message = f"write {name}: {self.reason}"

    def __str__(self) -> str:
        return self.message


class ConnectionFailed(ClientError):
    """No engine could be reached, or the connection to it broke.

    `refused` is true when nobody listens at the address (as opposed to a listener that may not be reached, or that went away): the
    case in which an engine may be started. `hint` is the next thing to try.
    """

    def __init__(self, message: str, *, refused: bool = False, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.refused = refused
        self.hint = hint
