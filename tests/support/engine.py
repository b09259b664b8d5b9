"""A private Teul engine under judgement: own root, own run root, own socket, run from this interpreter."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from support import processes
from support.docker_host import DockerHost, EngineFailed, Output
from support.loop_guard import BlockingError
from support.polling import eventually


class Engine(DockerHost):
    """`teul serve` as a child process. Containers outlive `kill9` and `stop`; `close` removes them first.

    Its event loop is guarded (support/loop_guard.py), and `close` raises `EngineFailed` when it was ever blocked. Measurements want an
    engine that is not. `hurried` are seconds for constants of its modules, where a test would only wait for what the engine's own take.
    """

    name = "engine"

    def __init__(
        self,
        *,
        idle_timeout_seconds: float | None = None,
        extra: tuple[str, ...] = (),
        guarded: bool = True,
        hurried: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        assert guarded or not hurried, "only the guarded engine can be hurried"
        self.root = self.base / "root"
        self.run_root = self.base / "run"
        self._idle_timeout_seconds = idle_timeout_seconds
        self._extra = extra
        self._program = [str(Path(__file__).with_name("guarded_engine.py"))] if guarded else ["-m", "teul"]
        self._program += [f"{name}={seconds:g}" for name, seconds in (hurried or {}).items()]

    def command(self) -> list[str]:
        return [sys.executable, *self._program, "serve", *self.options()]

    def options(self) -> list[str]:
        """Those of `teul serve`."""
        idle = [] if self._idle_timeout_seconds is None else ["--idle-timeout", f"{self._idle_timeout_seconds:g}"]
        places = ["--root", str(self.root), "--run-root", str(self.run_root), "-H", f"unix://{self.socket_path}"]
        return [*places, *idle, *self._extra]

    def change_options(self, *extra: str) -> None:
        """What the next start has for `extra`."""
        self._extra = extra

    def teul(self, *arguments: str, stdin: bytes = b"", timeout_seconds: float = 60.0) -> Output:
        """Teul's own command line, speaking to this engine."""
        return self.run([str(Path(sys.executable).with_name("teul")), *arguments], stdin=stdin, timeout_seconds=timeout_seconds)

    @property
    def keeper_pid(self) -> int:
        """By its title: the children of a killed keeper are the engine's, and older than the next keeper."""
        return eventually(lambda: next(iter(self._keepers()), 0), "there is a keeper")

    def has_keeper(self) -> bool:
        return bool(self._keepers())

    def _keepers(self) -> list[int]:
        return [pid for pid in processes.children_of(self.pid) if processes.command_line(pid).startswith("teul: keeper")]

    def parent_of_init(self, reference: str) -> int:
        """The parent of the container's first process, as the host sees it."""
        parent = processes.parent_of(self.init_pid(reference))
        assert parent not in {None, 1}, f"{reference} is not running, or has lost its parent"
        return int(parent or 0)

    def engine_processes(self) -> list[int]:
        """The engine and all keepers of its containers, without the containers' own processes."""
        with self.api() as api:
            running = [entry["Id"] for entry in api.expect(200, "GET", "/containers/json").json()]
            inits = [api.expect(200, "GET", f"/containers/{key}/json").json()["State"]["Pid"] for key in running]
        keepers = {processes.parent_of(pid) for pid in inits} - {None, 1}
        own = processes.namespace_of(self.pid, "pid")
        helpers = {pid for pid in processes.descendants_of(self.pid) if processes.namespace_of(pid, "pid") == own and pid not in inits}
        return sorted({self.pid, *helpers, *(pid for pid in keepers if pid is not None)})

    def judge(self) -> None:
        log = self.log_path.read_text(errors="replace") if self.log_path.exists() else ""
        if BlockingError.__name__ in log:
            raise EngineFailed(f"the engine's event loop was blocked:\n{log[log.index(BlockingError.__name__) :][:8000]}")

    def sweep(self) -> None:
        """Nothing may be left to sweep: processes that are left are ended, and reported as the engine's failure."""
        left = {pid: processes.command_line(pid) for pid in self.processes()}
        if left:
            processes.end(left)
            raise EngineFailed(f"the engine left processes behind: {left}\n{self.log_tail()}")
