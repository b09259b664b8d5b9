"""On a machine where Docker is installed, too: both work, and neither takes anything from the other."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support import images, processes
from support.dockerd import Dockerd
from support.engine import Engine
from support.needs import needs
from support.polling import eventually
from support.side_by_side import alone

# Forwarding, and the chains of iptables, are the whole host's.
pytestmark = [alone, needs("root", "dockerd", "docker_cli", "busybox", "overlayfs", "nft")]

_OUTSIDE = "203.0.113.1"
_INSIDE = "203.0.113.2"
# Not wget: with a timeout, that of Debian's static busybox crashes.
_FETCH = f"for i in 1 2 3 4 5; do printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 3 {_OUTSIDE} 8000 | grep outside && break; sleep 0.2; done"


@contextmanager
def outside_world() -> Iterator[None]:
    """A network namespace with a web server, reached over a link of the host: what lies behind this host's NAT."""
    with tempfile.TemporaryDirectory(prefix="teul-outside-") as directory:
        Path(directory, "index.html").write_text("outside")
        script = "ip link set lo up; until ip addr show eth0 up 2>/dev/null | grep -q inet; do sleep 0.05; done; "
        server = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", f"{script} exec busybox httpd -f -p 8000 -h {directory}"],
            start_new_session=True,
            stderr=subprocess.DEVNULL,
        )
        try:
            _connect(server.pid)
            yield
        finally:
            server.kill()
            server.wait()
            subprocess.run(["ip", "link", "delete", "teul-out"], check=False, capture_output=True)


def _connect(pid: int) -> None:
    """A veth from the host into the namespace of process `pid`, with an address at both ends and no route from there to anywhere."""
    own = processes.namespace_of(os.getpid(), "net")
    eventually(lambda: processes.namespace_of(pid, "net") not in {own, None}, "the server is in its own namespace")
    _run("ip", "link", "add", "teul-out", "type", "veth", "peer", "name", "eth0", "netns", str(pid))
    _run("ip", "addr", "add", f"{_INSIDE}/30", "dev", "teul-out")
    _run("ip", "link", "set", "teul-out", "up")
    _run("nsenter", "-t", str(pid), "-n", "ip", "addr", "add", f"{_OUTSIDE}/30", "dev", "eth0")
    _run("nsenter", "-t", str(pid), "-n", "ip", "link", "set", "eth0", "up")


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True)


def test_containers_reach_the_outside_through_nat(engine: Engine) -> None:
    """The server outside has no route back to the containers' subnet: only translated packets are answered."""
    with outside_world():
        assert engine.must("run", "--rm", "busybox", "sh", "-c", _FETCH) == "outside"
        assert engine.must("run", "--rm", "--network", "none", "busybox", "sh", "-c", f"{_FETCH} 2>/dev/null; echo no way") == "no way"


def test_both_engines_reach_the_outside(engine: Engine) -> None:
    """dockerd sets the FORWARD policy to DROP when it comes; Teul's containers still get out, and Docker's as well."""
    with Dockerd(shared_network=True) as dockerd, outside_world():
        dockerd.load(images.busybox().docker_archive())
        assert dockerd.must("run", "--rm", "busybox", "sh", "-c", _FETCH) == "outside"
        assert engine.must("run", "--rm", "busybox", "sh", "-c", _FETCH) == "outside"
        running = engine.must("run", "-d", "busybox", "sleep", "1000")
        assert dockerd.must("run", "--rm", "busybox", "sh", "-c", _FETCH) == "outside"
        engine.must("rm", "-f", running)


def test_engine_started_beside_docker_reaches_the_outside_and_leaves_docker_alone() -> None:
    """The other order; and Teul's end takes nothing of Docker's along."""
    with Dockerd(shared_network=True) as dockerd, outside_world():
        dockerd.load(images.busybox().docker_archive())
        with Engine() as engine:
            engine.load(images.busybox().docker_archive())
            assert engine.must("run", "--rm", "busybox", "sh", "-c", _FETCH) == "outside"
        assert dockerd.must("run", "--rm", "busybox", "sh", "-c", _FETCH) == "outside"
