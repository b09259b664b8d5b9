"""How a job ends: which exception is which kind of failure, and with what text."""

from __future__ import annotations

import errno
import re

import pytest

from teul.linux.users import UserError
from teul.wire.tar import TarError, Truncated
from teul.workers import layers as engine_layers
from teul.workers import rootfs as engine_rootfs
from teul.workers.program import layers, rootfs
from teul.workers.program.entries import Refused
from teul.workers.program.report import Rule, failure
from teul.workers.program.resolve import PathError
from teul.workers.program.streams import LimitExceeded, StreamError
from teul.workers.program.view import ContainerGone

NO_MEMORY = "the archive needs more memory than a worker may have"


def os_error(number: int, text: str) -> OSError:
    return OSError(number, text)


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (LimitExceeded("too much"), "limit", "too much"),
        (MemoryError(), "limit", NO_MEMORY),
        (TarError("no archive"), "invalid", "no archive"),
        (Truncated(), "invalid", "unexpected EOF"),
        (StreamError("no gzip"), "invalid", "no gzip"),
        (Refused("evil"), "invalid", "evil"),
        (os_error(errno.ENOTDIR, "f/below: Not a directory"), "invalid", "f/below: not a directory"),
        (os_error(errno.ENOSPC, "f: No space left on device"), "system", "f: no space left on device"),
    ],
)
def test_what_is_wrong_with_a_layer_is_its_senders_fault(error: Exception, kind: str, text: str) -> None:
    assert failure(error, layers._RULES) == {"error": text, "kind": kind}


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (ContainerGone(), "gone", "the container has ended"),
        (rootfs._NotThere("/x"), "not-found", "/x"),
        (rootfs._Invalid("extraction point is not a directory"), "invalid", "extraction point is not a directory"),
        (UserError("no such user"), "invalid", "no such user"),
        (MemoryError(), "system", NO_MEMORY),
        (TarError("no archive"), "invalid", "no archive"),
        (LimitExceeded("too much"), "invalid", "too much"),
        (Refused("evil"), "invalid", "evil"),
        (os_error(errno.ENOTDIR, "f: not a directory"), "system", "f: not a directory"),
        (PathError("lstat", "/f/x", os_error(errno.ENOTDIR, "")), "system", "lstat /f/x: not a directory"),
    ],
)
def test_what_is_wrong_with_an_archive_for_a_container_is_its_senders_fault(error: Exception, kind: str, text: str) -> None:
    """Not so what is wrong with the machine. docker: it answers with status 500 in either case."""
    assert failure(error, rootfs._RULES) == {"error": text, "kind": kind}


@pytest.mark.parametrize("rules", [layers._RULES, rootfs._RULES])
def test_what_no_rule_knows_is_a_bug_with_its_traceback(rules: tuple[Rule, ...]) -> None:
    empty: dict[str, str] = {}
    try:
        empty["job"]
    except KeyError as error:
        found = failure(error, rules)
    assert found["kind"] == "bug"
    assert found["error"].startswith("Traceback (most recent call last):\n")
    assert found["error"].endswith("KeyError: 'job'\n")
    assert re.search(r'File ".*test_report\.py", line \d+, in test_what_no_rule_knows', found["error"])


def test_a_bugs_traceback_begins_with_what_was_before() -> None:
    try:
        try:
            raise KeyError("first")
        except KeyError as first:
            raise LookupError("second") from first
    except LookupError as error:
        text = failure(error, ())["error"]
    assert text.count("Traceback (most recent call last):\n") == 2
    assert text.index("KeyError: 'first'\n") < text.index("LookupError: second\n")


def test_the_first_rule_that_fits_decides() -> None:
    rules = (Rule("limit", OSError, errnos=frozenset({errno.EDQUOT})), Rule("system", OSError), Rule("gone", OSError, ValueError))
    assert failure(os_error(errno.EDQUOT, "quota"), rules)["kind"] == "limit"
    assert failure(os_error(errno.EIO, "disk"), rules)["kind"] == "system"
    assert failure(ValueError("value"), rules)["kind"] == "gone"


def test_every_kind_of_failure_is_an_error_to_the_engine() -> None:
    """Else a refused archive would be told as a bug in the engine."""
    assert {rule.kind for rule in layers._RULES} == set(engine_layers._PROGRAM.errors)
    assert {rule.kind for rule in rootfs._RULES} == set(engine_rootfs._PROGRAM.errors)
