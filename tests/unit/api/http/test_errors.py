"""Kinds of errors and their status codes."""

from __future__ import annotations

import errno
import logging

import pytest

from teul import errors
from teul.api.http.errors import STATUS, StatusError, describe, error_response


def subclasses(kind: type[errors.TeulError]) -> list[type[errors.TeulError]]:
    return [kind, *(found for child in kind.__subclasses__() for found in subclasses(child))]


def test_every_kind_has_a_row() -> None:
    kinds = [kind for kind in subclasses(errors.TeulError) if kind.__module__ == errors.__name__]
    assert len(kinds) > 10
    assert {kind.__name__ for kind in kinds} == {kind.__name__ for kind in STATUS}


def test_a_concrete_error_has_its_kinds_code() -> None:
    class Gone(errors.NotFound):
        pass

    assert describe(Gone("No such thing: x")) == (404, "No such thing: x")


def test_a_route_may_have_a_code_of_its_own() -> None:
    assert describe(StatusError(418, "short and stout")) == (418, "short and stout")


def test_not_modified_has_no_body() -> None:
    response = error_response(errors.NotModified("already running"))
    assert response.status == 304
    assert not response.body


def test_a_hint_stands_beside_the_message() -> None:
    assert error_response(errors.Conflict("taken", hint="use another")).body == b'{"message":"taken","hint":"use another"}\n'
    assert error_response(errors.Conflict("taken")).body == b'{"message":"taken"}\n'


def test_our_own_failures_are_logged_with_their_hint_and_others_are_not(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        describe(errors.NotFound("nothing"))
        describe(errors.Unavailable("later"))
        describe(errors.Cancelled("the client went away"))
        assert not caplog.records
        describe(errors.System("disk says no", hint="make room"))
    assert "disk says no (make room)" in caplog.text


def test_a_full_disk_is_said_to_be_full(caplog: pytest.LogCaptureFixture) -> None:
    """Wherever the engine meets it."""
    with caplog.at_level(logging.ERROR):
        assert describe(OSError(errno.ENOSPC, "No space left on device", "/x/y")) == (500, "write /x/y: no space left on device")
        assert describe(OSError(errno.EDQUOT, "Disk quota exceeded")) == (500, "no space left on device")
    assert len(caplog.records) == 2
