"""What clients are told of starts that failed."""

from __future__ import annotations

import errno

import pytest

from teul.errors import InvalidParameter, Refusal, System
from teul.runtime.engine.process import StartError
from teul.runtime.messages import Failure
from teul.services.containers.errors import EXIT_UNKNOWN, RefusedLimit, translate_start_error


@pytest.mark.parametrize(
    ("step", "number", "kind"),
    [
        ("make the cgroup", errno.EINVAL, InvalidParameter),
        ("make the cgroup", errno.ERANGE, InvalidParameter),
        ("make the cgroup", errno.ENOSPC, System),
        ("join the cgroup", errno.EINVAL, System),
    ],
)
def test_a_limit_that_the_kernel_refuses_is_the_callers_fault(step: str, number: int, kind: type[Exception]) -> None:
    failure, exit_code = translate_start_error(StartError({"step": step, "errno": number, "message": "write `7`", "kind": "OSError"}))
    assert isinstance(failure, kind)
    assert isinstance(failure, RefusedLimit) is (kind is InvalidParameter)
    assert failure.message.endswith(f"error during container init: {step}: write `7`: unknown")
    assert exit_code == EXIT_UNKNOWN


@pytest.mark.parametrize(
    ("step", "number", "kind", "refused"),
    [
        ("set sysctl net.foo", errno.ENOENT, "OSError", True),
        ("set the host name", errno.EINVAL, "OSError", True),
        ("mount /x", errno.EINVAL, "OSError", True),
        ("anything", 0, "UserError", True),
        ("mount /x", errno.ENOMEM, "OSError", False),
        ("join the cgroup", errno.EINVAL, "OSError", False),
    ],
)
def test_what_was_asked_for_wrongly_is_no_failure_of_the_engine(step: str, number: int, kind: str, refused: bool) -> None:
    """To clients it is all the same; the log has no trace of it."""
    failure, exit_code = translate_start_error(StartError({"step": step, "errno": number, "message": "m", "kind": kind}))
    assert isinstance(failure, System)
    assert isinstance(failure, Refusal) is refused
    assert exit_code == EXIT_UNKNOWN


@pytest.mark.parametrize(
    ("step", "message", "text", "code"),
    [
        (
            "create",
            'runc create failed: exec: "x": executable file not found in $PATH',
            (
                "failed to create task for container: failed to create shim task: OCI runtime create failed: "
                'runc create failed: exec: "x": executable file not found in $PATH: unknown'
            ),
            127,
        ),
        ("start", "no", "failed to start task for container: OCI runtime start failed: no: unknown", 128),
        ("exec", "open executable: Permission denied", "OCI runtime exec failed: open executable: Permission denied: unknown", 126),
    ],
)
def test_what_another_runtime_says_is_passed_on(step: str, message: str, text: str, code: int) -> None:
    report: Failure = {"step": step, "errno": None, "message": message, "kind": "RuntimeRefusal"}
    failure, exit_code = translate_start_error(StartError(report), for_exec=step == "exec")
    assert (failure.message, exit_code) == (text, code)
