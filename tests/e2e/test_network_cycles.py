"""A network and its containers made, connected, killed and removed again and again: afterwards the host is as it was before.

Four times; TEUL_CYCLES asks for more.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from support import images, processes
from support.engine import Engine
from support.needs import needs
from support.polling import eventually
from teul.network.names import names_for_root

pytestmark = needs("root", "docker_cli", "busybox", "overlayfs", "nft")

CYCLES = int(os.environ.get("TEUL_CYCLES", "4"))


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine() as running:
        running.load(images.busybox().docker_archive())
        yield running


class Cycle:
    """One network's life, and its containers', with a violent death at one of its steps."""

    def __init__(self, engine: Engine, number: int) -> None:
        self._engine = engine
        self._network = f"net{number}"
        self._names = [f"first{number}", f"second{number}"]

    def steps(self) -> list[Callable[[], object]]:
        must, (first, second) = self._engine.must, self._names
        options = ("--ipv6", "--subnet", "fd00:178::/64", "--subnet", "10.178.0.0/24")
        ports = ("-p", "80", "-p", "127.0.0.1::81/udp")
        return [
            partial(must, "network", "create", *options, self._network),
            partial(
                must, "run", "-d", "--name", first, "--network", self._network, "--network-alias", "a", *ports, "busybox", "sleep", "1000"
            ),
            partial(must, "run", "-d", "--name", second, "busybox", "sleep", "1000"),
            partial(must, "network", "connect", "--alias", "b", self._network, second),
            # While another agent is being started nobody answers.
            partial(eventually, lambda: self._engine.docker("exec", first, "nslookup", "b").exit_code == 0, "names are answered"),
            partial(must, "restart", "-t", "0", first),
            partial(must, "network", "disconnect", self._network, second),
        ]

    def undo(self) -> None:
        self._engine.must("rm", "-f", *self._names)
        self._engine.must("network", "rm", self._network)


def _kill_engine(engine: Engine) -> None:
    engine.kill9()
    engine.start()


def _kill_keeper(engine: Engine) -> None:
    processes.end([engine.keeper_pid])


def _kill_agent(engine: Engine) -> None:
    agents = [pid for pid in processes.all_pids() if processes.command_line(pid) == "teul: network agent"]
    processes.end([pid for pid in agents if os.readlink(f"/proc/{pid}/fd/2") == str(engine.log_path)])


def _kill_containers(engine: Engine) -> None:
    running = engine.must("ps", "-q").split()
    for pid in [engine.init_pid(each) for each in running]:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.alone
def test_nothing_is_left_of_networks_that_come_and_go(engine: Engine) -> None:
    chance = random.Random(16)
    deaths = (_kill_engine, _kill_keeper, _kill_agent, _kill_containers)
    _run(Cycle(engine, 0), engine, _kill_engine, 2)  # what an engine makes once and keeps is there from now on
    before, before_descriptors = _traces(engine), len(os.listdir(f"/proc/{engine.pid}/fd"))
    for number in range(1, CYCLES + 1):
        cycle = Cycle(engine, number)
        _run(cycle, engine, deaths[number % len(deaths)], chance.randrange(1, len(cycle.steps())))
    descriptors = len(os.listdir(f"/proc/{engine.pid}/fd"))
    assert _settled(engine, before) == before
    assert descriptors <= before_descriptors + 3, "the engine holds descriptors of what is gone"


def _run(cycle: Cycle, engine: Engine, death: Callable[[Engine], None], at: int) -> None:
    for place, step in enumerate(cycle.steps()):
        if place == at:
            death(engine)
            if death is _kill_containers:
                break  # what is asked of containers that have ended is refused
        step()
    cycle.undo()


def _settled(engine: Engine, wanted: dict[str, object]) -> dict[str, object]:
    """What is there in the end: what has been removed may take a moment to be gone."""
    deadline = time.monotonic() + 10
    while (found := _traces(engine)) != wanted and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def _traces(engine: Engine) -> dict[str, object]:
    """What of the engine's is on the host, and in its records."""
    table = _lines("nft", "list", "table", "inet", names_for_root(os.path.realpath(engine.root)).table)
    links = {line.split(":")[1].strip() for line in _lines("ip", "-o", "link")}
    return {
        "networks": sorted(engine.must("network", "ls", "--format", "{{.Name}}").split()),
        "table": table,
        "links": links,
        "routes": sorted(line.replace("linkdown", "").strip() for line in _lines("ip", "route") + _lines("ip", "-6", "route")),
        "files": sorted(name for _, directories, files in os.walk(engine.run_root) for name in [*directories, *files]),
    }


def _lines(*command: str) -> list[str]:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
