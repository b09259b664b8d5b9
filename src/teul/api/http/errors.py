"""Errors to HTTP: the one place in this front end that knows status codes.

A handler raises a kind (teul.errors); the body is {"message": …} as Docker's clients expect, with a "hint" beside it where there is one.
A route whose documented code differs from its kind's raises `StatusError` itself, with the reason beside it. What nobody foresaw is
answered with a plain text and an id; the traceback goes to the log under that id.
Source: moby daemon/server/httpstatus/status.go.
"""

from __future__ import annotations

import errno
import logging
import uuid

import msgspec
from aiohttp import web

from teul import errors

log = logging.getLogger(__name__)

STATUS: dict[type[errors.TeulError], int] = {
    errors.InvalidParameter: 400,
    errors.Unauthorized: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.NotModified: 304,
    errors.Conflict: 409,
    errors.NotImplementedHere: 501,
    errors.Unavailable: 503,
    errors.Integrity: 500,
    errors.Cancelled: 500,
    errors.Deadline: 500,
    errors.System: 500,
    errors.Refusal: 500,
    errors.Remote: 500,
    # The base itself is raised by nobody; it stands here so that every kind has a row.
    errors.TeulError: 500,
}


_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class StatusError(Exception):
    """Answer with `status` where the route's documented code is not its kind's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def status_of(error: errors.TeulError) -> int:
    """The status code of `error`'s kind."""
    for kind in type(error).__mro__:
        if (status := STATUS.get(kind)) is not None:
            return status
    raise AssertionError("every TeulError has a row")


def message_response(status: int, message: str, hint: str | None = None) -> web.Response:
    """The error document that every Docker client reads. `hint` stands beside the message: Docker's clients do not look for it."""
    body = msgspec.json.encode({"message": message} | ({"hint": hint} if hint else {})) + b"\n"
    return web.Response(status=status, body=body, content_type="application/json")


def describe(error: Exception) -> tuple[int, str]:
    """Status and message of any exception that a handler let through; logs errors that nobody foresaw, and failures of the engine."""
    if isinstance(error, errors.TeulError):
        status = status_of(error)
        if isinstance(error, (errors.Refusal, errors.Remote, errors.Cancelled)):
            log.info("%s", error.message)
        elif status == 500:
            log.error("%s%s", error.message, f" ({error.hint})" if error.hint else "", exc_info=error.__cause__)
        return status, error.message
    if isinstance(error, StatusError):
        return error.status, error.message
    if isinstance(error, web.HTTPException):
        return error.status, error.text or error.reason
    if isinstance(error, OSError) and error.errno in _FULL:
        log.error("no room for what a client asked for", exc_info=error)
        # docker: as Go's os.PathError puts it.
        return 500, f"write {error.filename}: no space left on device" if error.filename else "no space left on device"
    identifier = uuid.uuid4().hex[:12]
    log.error("unexpected error %s", identifier, exc_info=error)
    return 500, f"internal error {identifier}: the engine's log has the details"


def hint_of(error: Exception) -> str | None:
    """The next thing to try, where whoever raised `error` knew one."""
    return error.hint if isinstance(error, errors.TeulError) else None


def error_response(error: Exception) -> web.Response:
    """What the client is told about `error`."""
    status, message = describe(error)
    if status == 304:
        return web.Response(status=304)
    return message_response(status, message, hint_of(error))
