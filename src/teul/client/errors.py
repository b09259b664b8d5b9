"""What can go wrong between a client and an engine."""

from __future__ import annotations


class ClientError(Exception):
    """Base of the errors of this package."""


class ApiError(ClientError):
    """The engine answered with an error. `message` is its text, `status` the HTTP status that tells its kind."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message

    @property
    def is_not_found(self) -> bool:
        return self.status == 404


class ConnectionFailed(ClientError):
    """No engine could be reached, or the connection to it broke.

    `refused` is true when nobody listens at the address (as opposed to a listener that may not be reached, or that went away): the
    case in which an engine may be started.
    """

    def __init__(self, message: str, *, refused: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.refused = refused
