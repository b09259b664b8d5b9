"""The engine on demand: a command that finds nobody at the socket of Teul's own engine starts an engine.

Many commands may do so at the same time. Each starts a process; the process that gets the root's lock becomes the engine, the others leave
with exit code 0, and all commands go on trying to connect. So the only thing to agree on is the socket.
"""

from __future__ import annotations

import os
import sys
from time import monotonic, sleep

from teul.cli.endpoint import default_run_root
from teul.client.connection import connection_failed, open_socket
from teul.client.errors import ConnectionFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from teul.cli.endpoint import Endpoint
    from teul.client.address import Address
    from teul.client.connection import Socket

IDLE_SECONDS = 300
START_SECONDS = 30
# A process that left with 0 has lost the race for the lock. If no engine answers for so long afterwards, the winner is gone as well.
RESTART_SECONDS = 1.0
# systemd.exec(5): where a service's programs are looked for.
_SERVICE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PROXIES = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"})
_LOG_NAME = "engine.log"
_LOG_LIMIT_BYTES = 1 << 20
_TAIL_BYTES = 4096
_TAIL_LINES = 12


def opener(endpoint: Endpoint, environment: Mapping[str, str]) -> Callable[[], Socket]:
    """A function that connects to the endpoint, starting the engine if need be, and raises `ConnectionFailed`."""

    def connect() -> Socket:
        try:
            return open_socket(endpoint.address, endpoint.tls)
        except OSError as error:
            failure = connection_failed(endpoint.address, error)
            if endpoint.startable and failure.refused:
                return start_engine(endpoint, environment)
            if endpoint.second is not None and os.path.exists(endpoint.second.path):
                return _connect_second(endpoint.second)
            from teul.cli.reach import advise

            failure.hint = advise(endpoint, refused=failure.refused, user_id=os.geteuid())
            raise failure from error

    return connect


def _connect_second(address: Address) -> Socket:
    try:
        return open_socket(address)
    except OSError as error:
        raise connection_failed(address, error) from error


def start_engine(endpoint: Endpoint, environment: Mapping[str, str]) -> Socket:
    """Start an engine and connect to it, or to an engine that another command has just started. Raises `ConnectionFailed`."""
    run_root = endpoint.run_root or default_run_root(environment, os.geteuid())
    deadline = monotonic() + START_SECONDS
    process = _Process(endpoint, run_root, environment)
    pause_seconds = 0.002
    while True:
        try:
            return open_socket(endpoint.address)
        except OSError as error:
            failure = connection_failed(endpoint.address, error)
            if not failure.refused:
                raise failure from error
        if process.ended_seconds() > RESTART_SECONDS:
            process = _Process(endpoint, run_root, environment)
        if monotonic() > deadline:
            raise ConnectionFailed(f"The engine did not answer at {endpoint.address} within {START_SECONDS} seconds.{process.log_tail()}")
        sleep(pause_seconds)
        pause_seconds = min(pause_seconds * 1.2, 0.02)


class _Process:
    """One attempt to start an engine: a detached `teul serve` whose complaints go to a log file in the run root."""

    def __init__(self, endpoint: Endpoint, run_root: str, environment: Mapping[str, str]) -> None:
        self._log_path = os.path.join(run_root, _LOG_NAME)
        self._ended_at: float | None = None
        try:
            log_fd = _open_log(run_root, self._log_path)
        except OSError as error:
            raise ConnectionFailed(
                f"Cannot connect to the engine at {endpoint.address}, and cannot start it: {error.strerror}: {error.filename}"
            ) from error
        try:
            if os.fstat(log_fd).st_size > _LOG_LIMIT_BYTES:
                os.ftruncate(log_fd, 0)
            self._log_start = os.fstat(log_fd).st_size
            self._pid = _spawn(serve_arguments(endpoint), engine_environment(environment), log_fd)
        finally:
            os.close(log_fd)

    def ended_seconds(self) -> float:
        """How long ago the process left; 0 while it runs. Raises `ConnectionFailed` when it failed."""
        if self._ended_at is None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if not pid:
                return 0.0
            self._ended_at = monotonic()
            if status:
                code = os.waitstatus_to_exitcode(status)
                how = f"exit code {code}" if code >= 0 else f"signal {-code}"
                raise ConnectionFailed(f"The engine could not be started ({how}).{self.log_tail()}")
        return monotonic() - self._ended_at

    def log_tail(self) -> str:
        """What the process complained about, as further lines of a message."""
        with open(self._log_path, "rb") as file:
            file.seek(max(self._log_start, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").strip().splitlines()
        text = "\n".join(lines[-_TAIL_LINES:])
        return f" Its log, {self._log_path}, ends with:\n{text}" if text else f" Its log is {self._log_path}."


def serve_arguments(endpoint: Endpoint) -> list[str]:
    """The command line of an engine for `endpoint`."""
    # security: -P keeps the caller's working directory out of the import path, or `teul ps` as root in somebody's
    # directory would run what lies there.
    arguments = [sys.executable, "-P", "-m", "teul", "serve", "--on-demand", "--idle-timeout", str(IDLE_SECONDS)]
    if endpoint.root:
        arguments += ["--root", os.path.abspath(endpoint.root)]
    if endpoint.run_root:
        arguments += ["--run-root", os.path.abspath(endpoint.run_root)]
    return arguments


def engine_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What an engine gets to see of a command's environment: where programs and Teul itself are found, the proxies to the outside, and
    Teul's own settings.

    All else (tokens, locales, a home) belongs to a session that the engine outlives. Paths are made absolute, as the engine leaves the
    working directory.
    """
    kept = {name: value for name, value in environment.items() if name.startswith("TEUL_") or name.upper() in _PROXIES}
    for name in ("TEUL_ROOT", "TEUL_RUN_ROOT", "PYTHONHOME"):
        if environment.get(name):
            kept[name] = os.path.abspath(environment[name])
    if environment.get("PYTHONPATH"):
        kept["PYTHONPATH"] = os.pathsep.join(os.path.abspath(path) for path in environment["PYTHONPATH"].split(os.pathsep))
    # security: what is relative in PATH, "." among it, would be looked for wherever the engine happens to stand.
    absolute = [path for path in environment.get("PATH", "").split(os.pathsep) if os.path.isabs(path)]
    kept["PATH"] = os.pathsep.join(absolute) or _SERVICE_PATH
    return kept


def _open_log(run_root: str, path: str) -> int:
    """A descriptor to append to the log, in directories that are made as the engine would make them, whatever the caller's umask."""
    umask = os.umask(0o022)
    try:
        os.makedirs(run_root, mode=0o755, exist_ok=True)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    finally:
        os.umask(umask)


def _spawn(arguments: list[str], environment: Mapping[str, str], log_fd: int) -> int:
    """Start a process in a session of its own, so that it outlives the terminal, with no signal ignored or blocked.

    `subprocess` is not worth its import here. What else the process has of its caller, it gives up itself (daemon/detachment.py).
    """
    from _signal import SIGKILL, SIGSTOP, valid_signals  # type: ignore[import-not-found]  # see client/signals.py

    return os.posix_spawn(
        arguments[0],
        arguments,
        environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_DUP2, log_fd, 2),
        ],
        setsid=True,
        setsigmask=(),
        setsigdef=valid_signals() - {SIGKILL, SIGSTOP},
    )
