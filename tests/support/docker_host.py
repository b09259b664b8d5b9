"""What both engines have in common for their judges: a socket, a docker CLI that talks to it, an HTTP client, and a life."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from support import processes
from support.terminal import Terminal
from support.unix_http import Client


@dataclass(frozen=True, slots=True)
class Output:
    """What a command left behind. Text with undecodable bytes replaced."""

    exit_code: int
    stdout: str
    stderr: str


class EngineFailed(AssertionError):
    """The engine under judgement did not start or ended by itself; the message ends with its log."""


class DockerHost:
    """An engine with a private directory, run as a child process. `start` and `stop` may be called again and again.

    Subclasses say how the process is started and what must be swept when it is gone.
    """

    name = "engine"

    def __init__(self) -> None:
        # Short, since the path of a unix socket may have 107 bytes at most.
        self.base = Path(tempfile.mkdtemp(prefix=f"teul-{self.name}-", dir="/tmp"))
        self.socket_path = self.base / "docker.sock"
        self.log_path = self.base / "log"
        self._process: subprocess.Popen[bytes] | None = None
        (self.base / "cli").mkdir()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # --- the process -------------------------------------------------------------------------------------------------

    def command(self) -> list[str]:
        raise NotImplementedError

    def judge(self) -> None:
        """Raise `EngineFailed` if the engine did wrong without its clients' noticing. Called once, after it has ended."""

    def sweep(self) -> None:
        """Remove what the engine leaves on the host by nature. Called once, after it has ended."""

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    def start(self, *, timeout_seconds: float = 30.0) -> None:
        """Start the engine and wait until it answers."""
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment(), start_new_session=True
            )
        deadline = time.monotonic() + timeout_seconds
        while not self.answers():
            if self._process.poll() is not None:
                raise EngineFailed(f"{self.name} ended with {self._process.returncode}:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise EngineFailed(f"{self.name} does not answer after {timeout_seconds:g} s:\n{self.log_tail()}")
            time.sleep(0.02)

    def answers(self) -> bool:
        try:
            with self.api(version="", timeout_seconds=5.0) as api:
                return api.request("GET", "/_ping").status == 200
        except (OSError, EOFError):
            return False

    def stop(self, *, timeout_seconds: float = 20.0) -> int | None:
        """End the engine as an operator would; with violence when it does not obey. Returns its exit code."""
        process, self._process = self._process, None
        if process is None:
            return None
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise EngineFailed(f"{self.name} ignores SIGTERM for {timeout_seconds:g} s:\n{self.log_tail()}") from None

    def kill9(self) -> None:
        """The engine vanishes in the middle of whatever it does."""
        process, self._process = self._process, None
        assert process is not None, "not started"
        process.kill()
        process.wait()

    def close(self) -> None:
        """Remove all containers, stop, sweep, remove the directory. What is then left of it is the engine's fault."""
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, self.base, ignore_errors=True)
            stack.callback(self.judge)
            stack.callback(self.sweep)
            stack.callback(self.stop)
            if self._process is not None and self._process.poll() is None:
                stack.callback(self.remove_containers)

    def log_tail(self) -> str:
        return self.log_path.read_text(errors="replace")[-4000:] if self.log_path.exists() else "(no log)"

    # --- its clients -------------------------------------------------------------------------------------------------

    def environment(self) -> dict[str, str]:
        """A bare environment in which docker's and Teul's CLIs talk to this engine and read no one's configuration."""
        url = f"unix://{self.socket_path}"
        return {
            "PATH": os.environ.get("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            "HOME": str(self.base / "cli"),
            "DOCKER_CONFIG": str(self.base / "cli"),
            "DOCKER_CLI_HINTS": "false",
            "DOCKER_HOST": url,
            "TEUL_HOST": url,
            "HTTPS_PROXY": "http://127.0.0.1:9",  # nobody: no test asks a registry that is not on loopback
            "LANG": "C.UTF-8",
            "TERM": "xterm",
            "TZ": "UTC",
        }

    def api(self, *, version: str = "v1.41", timeout_seconds: float = 60.0) -> Client:
        return Client(str(self.socket_path), version=version, timeout_seconds=timeout_seconds)

    def docker(self, *arguments: str, stdin: bytes = b"", timeout_seconds: float = 60.0) -> Output:
        """Run the docker CLI with `stdin` as a pipe that ends; never raises for its exit code."""
        return self.run(["docker", *arguments], stdin=stdin, timeout_seconds=timeout_seconds)

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_seconds: float = 60.0) -> Output:
        done = subprocess.run(argv, input=stdin, capture_output=True, env=self.environment(), timeout=timeout_seconds, check=False)
        return Output(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    def must(self, *arguments: str, **options: Any) -> str:
        """Run the docker CLI, demand success, return its stdout without the last newline."""
        output = self.docker(*arguments, **options)
        assert output.exit_code == 0, f"docker {' '.join(arguments)}: exit {output.exit_code}: {output.stderr}\n{self.log_tail()}"
        return output.stdout.removesuffix("\n")

    def begin(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start the docker CLI in the background with pipes; the caller owns it (use it with `with`)."""
        pipe = subprocess.PIPE
        return subprocess.Popen(["docker", *arguments], stdin=pipe, stdout=pipe, stderr=pipe, env=self.environment())

    def terminal(self, *arguments: str, **options: Any) -> Terminal:
        return Terminal(["docker", *arguments], environment=self.environment(), **options)

    def load(self, archive: bytes) -> str:
        return self.must("load", stdin=archive)

    def inspect(self, reference: str) -> Any:
        return json.loads(self.must("inspect", reference))[0]

    def init_pid(self, reference: str) -> int:
        return int(self.inspect(reference)["State"]["Pid"])

    def remove_containers(self) -> None:
        with self.api() as api:
            for container in api.expect(200, "GET", "/containers/json?all=1").json():
                api.request("DELETE", f"/containers/{container['Id']}?force=1&v=1")

    def processes(self) -> list[int]:
        """The engine and everything it started that knows its directory; used to find what survives it."""
        return processes.belonging_to(str(self.base))
