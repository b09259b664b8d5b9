"""An engine that things happen to, and small containers for it to lose."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from support import arming, failing_engine, images, processes
from support.docker_host import EngineFailed
from support.engine import Engine
from support.polling import eventually
from support.unix_http import Response
from teul.linux.netlink.socket import Netlink
from teul.network.bridge import group_of, list_ports, remove_bridges
from teul.network.names import HostNames, names_for_root
from teul.network.wire import MADE_KINDS

_CGROUPS = Path("/sys/fs/cgroup")

IMAGE = "faults:1"
# Says that it is there, waits to be told something, says what, and ends with 7.
_SCRIPT = 'mkfifo /tmp/line; echo ready; read -r word </tmp/line; echo "told $word"; exit 7'
EXIT_CODE = 7


def small_image(*names: str, extra: Sequence[bytes] = ()) -> images.Image:
    """A shell and little else, and one more layer for each of `extra`."""
    applets = ("sh", "mkfifo", "echo", "sleep", "cat")
    base = [*(images.directory(name) for name in ("bin", "dev", "etc", "proc", "sys")), images.directory("tmp", 0o1777)]
    base += [images.file("bin/busybox", images.BUSYBOX.read_bytes(), 0o755)]
    base += [images.Entry(f"bin/{name}", kind=tarfile.LNKTYPE, target="bin/busybox", mode=0o755) for name in applets]
    layers = [images.pack(base), *(images.pack([images.file("extra", text)]) for text in extra)]
    return images.Image(names, tuple(layers), {"Cmd": ["sh", "-c", _SCRIPT], "Env": [images.PATH]})


class Victim(Engine):
    """`teul serve` with failpoints. After a `strike` that killed it, another one has its root."""

    name = "faults"

    def __init__(self, *, hurried: Mapping[str, float] | None = None) -> None:
        super().__init__(hurried=hurried)
        self.is_hopeless = False  # this test is known to fail: no need to wait for what will not come
        self.is_damaged = False  # a test failed: what is left of this engine is said already
        self._armed = self.base / "armed"
        self._armed.mkdir()

    def command(self) -> list[str]:
        return [sys.executable, "-m", failing_engine.__name__, str(self._armed), *self.options()]

    def environment(self) -> dict[str, str]:
        return super().environment() | {"PYTHONPATH": str(failing_engine.TESTS)}

    @property
    def names(self) -> HostNames:
        return names_for_root(os.path.realpath(self.root))

    # --- making things go wrong

    def arm(self, point: str, way: str, *, occurrence: int = 1) -> None:
        arming.arm(str(self._armed), point, way, occurrence=occurrence)

    def is_armed(self, point: str) -> bool:
        return arming.is_armed(str(self._armed), point)

    def disarm(self) -> None:
        for path in self._armed.iterdir():
            path.unlink()

    def await_strike(self, point: str, way: str) -> None:
        """Return when what was armed has happened; an engine that was killed has a successor then."""
        eventually(lambda: not self.is_armed(point), f"{point} is reached")
        if way == "kill" and not point.startswith("keeper."):
            self._bury()
            self.start()

    def start_and_die(self) -> None:
        """Start an engine that is killed before it answers, or soon after, and then one that is not."""
        with contextlib.suppress(EngineFailed):
            self.start()
        self._bury()
        self.start()

    def _bury(self) -> None:
        process, self._process = self._process, None
        assert process is not None, "not started"
        process.wait(10)

    def strike(
        self, point: str, way: str, method: str, path: str, body: Any = None, *, occurrence: int = 1, version: str = "v1.41"
    ) -> Response | None:
        """Send a request during which `way` happens at `point`; returns the answer, or None if there was none."""
        self.arm(point, way, occurrence=occurrence)
        response = self.ask(method, path, body, version=version)
        self.await_strike(point, way)
        return response

    # --- asking

    def ask(self, method: str, path: str, body: Any = None, *, version: str = "v1.41") -> Response | None:
        """The answer, or None from an engine that closes the connection without one."""
        try:
            with self.api(version=version, timeout_seconds=20.0) as api:
                return api.request(method, path, body)
        except (ConnectionError, EOFError):
            return None

    def want(self, status: int, method: str, path: str, body: Any = None) -> Response:
        with self.api(timeout_seconds=20.0) as api:
            return api.expect(status, method, path, body)

    def create(self, name: str, **settings: Any) -> str:
        return str(self.want(201, "POST", f"/containers/create?name={name}", {"Image": IMAGE, **settings}).json()["Id"])

    def find(self, name: str) -> Any:
        """What inspection says of a container, None if there is none of that name."""
        response = self.ask("GET", f"/containers/{name}/json")
        assert response is not None, "the engine does not answer"
        assert response.status in {200, 404}, response.message
        return response.json() if response.status == 200 else None

    def run(self, name: str, **settings: Any) -> str:  # type: ignore[override]
        container = self.create(name, **settings)
        self.want(204, "POST", f"/containers/{container}/start")
        return container

    def tell(self, container: str, word: str = "go") -> None:
        """Have the container's program end."""
        fifo = f"/proc/{self.find(container)['State']['Pid']}/root/tmp/line"

        def try_to_write() -> bool:
            try:
                fd = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
            except OSError:
                return False  # not made yet, or nobody reads it yet
            os.write(fd, f"{word}\n".encode())
            os.close(fd)
            return True

        eventually(try_to_write, f"{container} listens")

    def knows_network(self, name: str) -> bool:
        return any(item["Name"] == name for item in self.want(200, "GET", "/networks").json())

    def status(self, container: str) -> str:
        found = self.find(container)
        return "gone" if found is None else str(found["State"]["Status"])

    def log(self, container: str) -> str:
        """What it wrote, without the stream's frames."""
        return self.want(200, "GET", f"/containers/{container}/logs?stdout=1").body.decode(errors="replace")

    def load(self, archive: bytes) -> str:
        response = self.want(200, "POST", "/images/load?quiet=1", archive)
        assert b'"error"' not in response.body, response.body
        return response.body.decode()

    # --- the host

    def cgroups(self) -> dict[str, list[Path]]:
        """The containers' cgroups, by the container's id."""
        parent = f"teul-{self.names.table.removeprefix('teul_')}"
        found: dict[str, list[Path]] = {}
        for directory in [*_CGROUPS.glob(f"*/{parent}/*/"), *_CGROUPS.glob(f"{parent}/*/")]:
            found.setdefault(directory.name, []).append(directory)
        return found

    def bridges(self) -> set[str]:
        """The bridges that are the engine's."""
        group = group_of(self.names.table)
        with Netlink() as host:
            return {link.name for link in host.list_links() if link.kind == "bridge" and link.group == group}

    def parents(self) -> set[str]:
        """The links that the engine has made for networks without a bridge."""
        group = group_of(self.names.table)
        with Netlink() as host:
            return {link.name for link in host.list_links() if link.kind in MADE_KINDS and link.group == group}

    def links(self) -> list[str]:
        """What hangs on the bridges."""
        return list_ports(sorted(self.bridges()))

    def has_network(self) -> bool:
        """Whether there is a bridge or a table of rules."""
        rules = subprocess.run(["nft", "list", "tables"], check=True, capture_output=True, text=True).stdout
        return bool(self.bridges()) or self.names.table in rules.split()

    def close(self) -> None:
        """Also of an engine that was left in a bad way, which its test has said."""
        self.disarm()
        with contextlib.ExitStack() as stack:
            stack.callback(super().close)
            if self._process is not None and self._process.poll() is not None:
                self._process = None
                self.start()

    def sweep(self) -> None:
        if self.is_damaged:
            self._take_away()
        super().sweep()

    def _take_away(self) -> None:
        """What a fault has left of containers and networks."""
        for directories in self.cgroups().values():
            for directory in directories:
                for file, word in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
                    if (directory / file).exists():
                        (directory / file).write_text(word)
                with contextlib.suppress(FileNotFoundError):  # gone meanwhile
                    processes.end(int(line) for line in (directory / "cgroup.procs").read_text().split() if int(line))
                eventually(lambda directory=directory: _try_rmdir(directory), f"{directory} is empty")  # type: ignore[misc]
                _try_rmdir(directory.parent)
        if self.bridges():
            # The containers that held addresses are gone with the root; the engine had to assume that they run.
            remove_bridges(group_of(self.names.table))
            subprocess.run(["nft", "delete", "table", "inet", self.names.table], check=False, capture_output=True)


def _try_rmdir(directory: Path) -> bool:
    try:
        directory.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def cases(points: dict[str, str], faults: dict[str, str] | None = None) -> pytest.MarkDecorator:
    """Parametrize `point`, `way` and `occurrence`: of each point the ways, as "kill cancel", "full@2" being at the second occurrence.

    `faults`: the cases that are known to fail, as "point=way", and what happens.
    """
    faults = dict(faults or {})
    parameters = []
    for point, ways in points.items():
        for word in ways.split():
            way, _, occurrence = word.partition("@")
            reason = faults.pop(f"{point}={word}", None)
            marks = [pytest.mark.xfail(strict=True, raises=AssertionError, reason=reason)] if reason else []
            parameters.append(pytest.param(point, way, int(occurrence or 1), id=f"{point}={word}", marks=marks))
    assert not faults, f"faults of no case: {faults}"
    return pytest.mark.parametrize(("point", "way", "occurrence"), parameters)
