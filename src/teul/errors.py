"""The kinds of error: what a caller can do about a failure, not where it came from.

Concrete errors subclass a kind and live next to the code that raises them. Each front end translates kinds to its own
codes in one table; a test walks all kinds and fails on any without a row. Message text is API: clients search it.
"""

from __future__ import annotations


class TeulError(Exception):
    """Base of every error that Teul raises on purpose.

    `message` is the text a client sees, worded as Docker words it. `hint` is the next thing to try; the `teul` command and the log show it;
    over the API it is a member of its own beside the message, which Docker's clients pass over.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InvalidParameter(TeulError):
    """The request is malformed or contradicts itself."""


class Unauthorized(TeulError):
    """The caller is not known."""


class Forbidden(TeulError):
    """Never allowed; trying again does not help."""


class NotFound(TeulError):
    """There is no such container, image, blob…"""


class NotModified(TeulError):
    """Already in the state that was asked for."""


class Conflict(TeulError):
    """The present state forbids it; the state can change."""


class NotImplementedHere(TeulError):
    """Known to the API, not supported by this engine."""


class Unavailable(TeulError):
    """Try again later."""


class Integrity(TeulError):
    """Stored or received bytes do not match their digest, size or format."""


class Cancelled(TeulError):
    """The caller went away."""


class Deadline(TeulError):
    """Time is up."""


class System(TeulError):
    """The kernel or the disk said no."""


class Refusal(System):
    """What was asked for cannot be had, and nothing is wrong with this engine. docker: told as a failure of the engine's all the same."""


class Remote(System):
    """Somebody else's failure, a registry's: nothing is wrong with this engine. docker: told as a failure of the engine's all the same."""
