"""The rows of networks: making them, starting on them, and what passes through them (iperf3, and a byte that goes to and fro)."""

from __future__ import annotations

import json
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.contender import Contender
from bench.install import ensure_installed
from bench.row import Row, timed

CONTAINERS = 50
PUBLISHED = 200
SECONDS = 3
TURNS = 2000
IMAGE = "bench/iperf3:1"
NETWORK = "bench"


class UserNetwork(Row):
    name = f"a network of one's own and {CONTAINERS} containers on it"
    budget = 0.15
    rounds = 3
    quick_rounds = 1

    def measure(self, contender: Contender) -> float:
        number = CONTAINERS // (10 if self.options.quick else 1)

        def make() -> None:
            make_network(contender)
            for _ in range(number):
                contender.start(contender.create("sleep", "100000", network=NETWORK))

        try:
            return timed(make)
        finally:
            contender.clean()  # the network goes, too


class StartBesidePorts(Row):
    name = f"start of a container with a published port where {PUBLISHED} are published, against where none is"
    budget = 1.2
    unit = "ratio"
    absolute = True
    rounds = 3
    quick_rounds = 1

    def measure(self, contender: Contender) -> float:
        alone = self._start_seconds(contender)
        number = PUBLISHED // (10 if self.options.quick else 1)
        publisher = contender.create("sleep", "100000", **bound({f"{1000 + each}/tcp": 20000 + each for each in range(number)}))
        contender.start(publisher)
        beside = self._start_seconds(contender)
        contender.remove(publisher)  # its ports are wanted by the next contender
        return beside / alone

    def _start_seconds(self, contender: Contender) -> float:
        seconds = []
        for _ in range(5 if self.options.quick else 15):
            container = contender.create("sleep", "100000", **bound({"80/tcp": 19999}))
            seconds.append(timed(lambda container=container: contender.start(container)))  # type: ignore[misc]
            contender.remove(container)
        return statistics.median(seconds)


class Flow(Row):
    """Seconds that a gigabyte takes."""

    rounds = 3
    quick_rounds = 1
    warm_up = False

    def prepare(self, contender: Contender) -> None:
        load_iperf3(contender, self.options.directory)
        make_network(contender)
        server = contender.create("-s", **self.settings(contender))
        contender.start(server)
        self.made[contender.name] = server

    def settings(self, contender: Contender) -> dict[str, Any]:
        return {"Image": IMAGE, **published("5201/tcp", contender)}

    def measure(self, contender: Contender) -> float:
        raise NotImplementedError

    def address(self, contender: Contender) -> str:
        document = contender.call(200, "GET", f"/containers/{self.made[contender.name]}/json").json()
        return str(document["NetworkSettings"]["Networks"][NETWORK]["IPAddress"])

    def seconds(self) -> int:
        return 1 if self.options.quick else SECONDS


class FlowBetweenContainers(Flow):
    name = "a gigabyte from container to container"

    def settings(self, contender: Contender) -> dict[str, Any]:  # noqa: ARG002 - nothing of the host's is taken
        return {"Image": IMAGE, "HostConfig": {"NetworkMode": NETWORK}}

    def measure(self, contender: Contender) -> float:
        command = ("-J", "-t", str(self.seconds()), "-c", self.address(contender))
        client = contender.create(*command, Image=IMAGE, HostConfig={"NetworkMode": NETWORK})
        contender.start(client)
        contender.wait(client)
        answer = contender.host.must("logs", client)
        contender.remove(client)
        return seconds_per_gigabyte(answer)


class FlowToPort(Flow):
    name = "a gigabyte from the host to a published port on 127.0.0.1"
    target = "127.0.0.1"

    def measure(self, contender: Contender) -> float:
        target, port = self.target or own_address(), host_port("5201/tcp", contender)
        command = ["iperf3", "-J", "-t", str(self.seconds()), "-c", target, "-p", str(port)]
        deadline = time.monotonic() + 10
        while (done := subprocess.run(command, check=False, capture_output=True, text=True)).returncode and time.monotonic() < deadline:
            time.sleep(0.1)  # it does not listen yet
        return seconds_per_gigabyte(done.stdout)


class FlowToPortByAddress(FlowToPort):
    name = "a gigabyte from the host to a published port on its address"
    target = ""


class Turns(Row):
    """A byte goes to a published port and comes back, again and again."""

    name = f"{TURNS} round trips from the host to a published port on 127.0.0.1"
    target = "127.0.0.1"
    rounds = 5
    quick_rounds = 1

    def prepare(self, contender: Contender) -> None:
        make_network(contender)
        contender.start(contender.create("nc", "-ll", "-p", "7", "-e", "cat", **published("7/tcp", contender)))

    def measure(self, contender: Contender) -> float:
        with connect(self.target or own_address(), host_port("7/tcp", contender)) as connection:

            def turn() -> None:
                for _ in range(TURNS):
                    connection.sendall(b"x")
                    if not connection.recv(1):
                        raise RuntimeError("the connection was closed")

            return timed(turn)


class TurnsByAddress(Turns):
    name = f"{TURNS} round trips from the host to a published port on its address"
    target = ""


def host_port(port: str, contender: Contender) -> int:
    """The contenders are there at the same time, so each has ports of its own."""
    return (15000 if contender.name == "dockerd" else 25000) + int(port.partition("/")[0]) % 1000


def published(port: str, contender: Contender) -> dict[str, Any]:
    """What publishes `port` on the rows' network."""
    return bound({port: host_port(port, contender)}, network=NETWORK)


def bound(ports: dict[str, int], *, network: str = "default") -> dict[str, Any]:
    """The part of a create request that publishes these ports. dockerd 20.10 publishes only what is exposed, too."""
    bindings = {port: [{"HostPort": str(number)}] for port, number in ports.items()}
    return {"ExposedPorts": {port: {} for port in ports}, "HostConfig": {"NetworkMode": network, "PortBindings": bindings}}


def make_network(contender: Contender) -> None:
    """Make the rows' network, unless it is there."""
    response = contender.api.request("GET", f"/networks/{NETWORK}")
    if response.status == 404:
        contender.call(201, "POST", "/networks/create", {"Name": NETWORK})


def load_iperf3(contender: Contender, directory: Path) -> None:
    """Have the contender's engine have the image of iperf3, made out of the host's."""
    ensure_installed("iperf3", "iperf3")
    archive = directory / "iperf3.tar"
    if not archive.exists():
        command = [sys.executable, "-m", "teul", "image", "pack", "--entrypoint", '["iperf3"]', "-t", IMAGE, "-o", str(archive), "iperf3"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    contender.upload("/images/load?quiet=1", str(archive))


def seconds_per_gigabyte(answer: str) -> float:
    """Of a report of iperf3's."""
    report = json.loads(answer)
    if "sum_received" not in report["end"]:
        raise RuntimeError(f"iperf3: {report.get('error', answer)}")
    return 8e9 / float(report["end"]["sum_received"]["bits_per_second"])


def own_address() -> str:
    """An address of the host's that is not loopback: that of the way out, or of any link."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # nothing is sent
        return str(probe.getsockname()[0])


def connect(host: str, port: int) -> socket.socket:
    """A connection, as soon as somebody listens."""
    deadline = time.monotonic() + 10
    while True:
        try:
            connection = socket.create_connection((host, port), timeout=10)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection


ROWS: tuple[type[Row], ...] = (
    UserNetwork,
    StartBesidePorts,
    FlowBetweenContainers,
    FlowToPort,
    FlowToPortByAddress,
    Turns,
    TurnsByAddress,
)
