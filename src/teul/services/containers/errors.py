"""Errors of containers in Docker's words; the CLI and docker-py look for some of these words."""

from __future__ import annotations

import errno

from teul.errors import Conflict, InvalidParameter, NotModified, Refusal, System, TeulError
from teul.runtime.engine.process import StartError

_NOT_FOUND = ("executable file not found", "no such file or directory")
_NOT_INVOCABLE = ("permission denied", "is a directory")
# What the kernel says to a value that is written into a file of a cgroup.
_REFUSED_VALUES = frozenset({errno.EINVAL, errno.ERANGE})
# The steps of a start that carry out what the request says word by word, and what the kernel says to a word that it does not take.
_ASKED_FOR = ("set sysctl ", "set the host name", "set the domain name", "set resource limits", "mount ")
_REFUSED_SETTINGS = _REFUSED_VALUES | {errno.ENOENT, errno.EPERM, errno.ENODEV, errno.ENAMETOOLONG}
_CREATE_PREFIX = (
    "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: "
    "unable to start container process: error during container init: "
)
_EXEC_PREFIX = "OCI runtime exec failed: exec failed: unable to start container process: "
_RUNTIME_REFUSAL = "RuntimeRefusal"  # another OCI runtime's own words
_RUNTIME_PREFIXES = {
    "create": "failed to create task for container: failed to create shim task: OCI runtime create failed: ",
    "start": "failed to start task for container: OCI runtime start failed: ",
    "exec": "OCI runtime exec failed: ",
}
EXIT_NOT_FOUND = 127
EXIT_NOT_INVOCABLE = 126
EXIT_UNKNOWN = 128


class NotRunning(Conflict):
    """The container must run for this."""

    def __init__(self, container_id: str) -> None:
        super().__init__(f"container {container_id} is not running")


class AlreadyStarted(NotModified):
    """A running container was to be started."""

    def __init__(self) -> None:
        super().__init__("Container is already started")


class AlreadyStopped(NotModified):
    """A container that does not run was to be stopped."""

    def __init__(self) -> None:
        super().__init__("Container is already stopped")


class SurvivesKill(System):
    """The container was killed and does not end; whoever wanted it says what for. docker: daemon/kill.go."""

    def __init__(self) -> None:
        super().__init__("tried to kill container, but did not receive an exit event")


class CannotInvoke(InvalidParameter):
    """The program of a container or exec cannot be run; clients turn the text into exit code 126 or 127."""


class RefusedLimit(InvalidParameter):
    """The kernel takes a limit that was asked for in no container, or not in one of this host. docker: an internal error."""


class StartFailure(System):
    """The container or exec could not be started, for another reason than that its program cannot be run."""


class RefusedStart(Refusal):
    """The container or exec could not be started with what was asked for: a user, a setting, a place that there is not."""


def translate_start_error(error: StartError, *, for_exec: bool = False) -> tuple[TeulError, int]:
    """Docker's error and the exit code that the container or exec gets. moby daemon/errors.go, setExitCodeFromError."""
    if error.kind == "UserError":
        return RefusedStart(error.message), EXIT_UNKNOWN if not for_exec else EXIT_NOT_INVOCABLE
    says_itself = error.kind in ("ProgramError", _RUNTIME_REFUSAL)
    prefix = _EXEC_PREFIX if for_exec else _CREATE_PREFIX
    if error.kind == _RUNTIME_REFUSAL:
        prefix = _RUNTIME_PREFIXES.get(error.step, prefix)
    detail = error.message if says_itself else f"{error.step}: {error.message}"
    text = f"{prefix}{detail}: unknown"
    if error.step == "make the cgroup" and error.errno in _REFUSED_VALUES:
        return RefusedLimit(text), EXIT_UNKNOWN
    lowered = detail.lower()
    if says_itself and any(words in lowered for words in _NOT_FOUND):
        return CannotInvoke(text), EXIT_NOT_FOUND
    if any(words in lowered for words in _NOT_INVOCABLE):
        return CannotInvoke(text), EXIT_NOT_INVOCABLE
    if "not a directory" in lowered:
        text += (
            ": Are you trying to mount a directory onto a file (or vice-versa)? "
            "Check if the specified host path exists and is the expected type"
        )
        return CannotInvoke(text), EXIT_NOT_FOUND
    if error.step.startswith(_ASKED_FOR) and error.errno in _REFUSED_SETTINGS:
        return RefusedStart(text), EXIT_UNKNOWN
    return StartFailure(text), EXIT_UNKNOWN
