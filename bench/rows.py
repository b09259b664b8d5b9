"""The rows of small containers: what is measured, how often, and how much of dockerd's figure Teul may need.

A row's `prepare` and `clean` are not measured. `measure` returns seconds (or bytes) of one round.
"""

from __future__ import annotations

import threading
import time

from bench import archives
from bench.contender import Contender
from bench.row import Row, timed
from support import processes
from support.unix_http import demultiplex

LOG_BYTES = 20_000_000
COMMITTED_BYTES = 100_000_000
LISTED = 200


class Api(Row):
    name = "API create+start+wait+remove, bridge network"
    budget = 0.10
    network = "default"

    def measure(self, contender: Contender) -> float:
        return timed(lambda: contender.run("true", network=self.network))


class ApiNoNetwork(Api):
    name = "the same, network none"
    network = "none"


class Exec(Row):
    name = "exec true"
    budget = 0.25
    rounds = 25

    def prepare(self, contender: Contender) -> None:
        container = contender.create("sleep", "100000")
        contender.start(container)
        self.made[contender.name] = container

    def measure(self, contender: Contender) -> float:
        return timed(lambda: self._exec(contender, self.made[contender.name]))

    def _exec(self, contender: Contender, container: str) -> None:
        body = {"AttachStdout": True, "AttachStderr": True, "Cmd": ["true"]}
        key = contender.call(201, "POST", f"/containers/{container}/exec", body).json()["Id"]
        with contender.connect() as connection:
            stream = connection.hijack("POST", f"/exec/{key}/start", {"Detach": False, "Tty": False})
            while stream.recv(65536):
                continue
            stream.close()
        code = contender.call(200, "GET", f"/exec/{key}/json").json()["ExitCode"]
        if code != 0:
            raise RuntimeError(f"{contender.name}: exec true ended with {code}")


class DockerRun(Row):
    name = "docker run --rm (docker CLI in both)"
    budget = 0.20

    def measure(self, contender: Contender) -> float:
        return timed(lambda: contender.host.must("run", "--rm", "busybox", "true"))


class Crowd(Row):
    name = "40 runs by 8 clients"
    budget = 0.10
    rounds = 5
    quick_rounds = 1

    def measure(self, contender: Contender) -> float:
        failures: list[BaseException] = []

        def client() -> None:
            with contender.connect() as connection:
                try:
                    for _ in range(5):
                        contender.run("true", client=connection)
                except BaseException as error:  # noqa: BLE001 - carried to the main thread, where it ends the row
                    failures.append(error)

        def crowd() -> None:
            threads = [threading.Thread(target=client) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        seconds = timed(crowd)
        if failures:
            raise failures[0]
        return seconds


class OwnCli(Row):
    name = "teul run --rm against docker run --rm (whole process)"
    budget = 0.35

    def measure(self, contender: Contender) -> float:
        def run() -> None:
            output = contender.own_cli("run", "--rm", "busybox", "true")
            if output.exit_code:
                raise RuntimeError(f"{contender.name}: exit {output.exit_code}: {output.stderr}")

        return timed(run)


class Commit(Row):
    name = "commit 100 MB"
    budget = 0.40
    rounds = 3
    quick_rounds = 1

    def prepare(self, contender: Contender) -> None:
        size = COMMITTED_BYTES // (10 if self.options.quick else 1)
        container = contender.create("sh", "-c", f"head -c {size} /dev/urandom > /data")
        contender.start(container)
        contender.wait(container)
        self.made[contender.name] = container

    def measure(self, contender: Contender) -> float:
        path = f"/commit?container={self.made[contender.name]}&repo=bench/committed&tag=1"
        seconds = timed(lambda: contender.call(201, "POST", path, {}))
        contender.remove_image("bench/committed:1")
        return seconds


class Build(Row):
    name = "build of 10 RUN steps, no cache"
    budget = 0.15
    rounds = 3
    quick_rounds = 1

    def measure(self, contender: Contender) -> float:
        path = self.options.directory / "context.tar"
        path.write_bytes(archives.build_context())
        seconds = timed(lambda: contender.upload("/build?nocache=1&rm=1&forcerm=1&t=bench/built:1", str(path)))
        contender.remove_image("bench/built:1")
        return seconds


class Memory(Row):
    name = "memory of the engine's processes per running container"
    budget = 0.25
    rounds = quick_rounds = 1
    unit = "bytes"

    def prepare(self, contender: Contender) -> None:
        for _ in range(self.options.containers):
            contender.start(contender.create("sleep", "100000"))

    def measure(self, contender: Contender) -> float:
        """Proportional set size, so that pages shared by forks count once."""
        total = sum(processes.proportional_set_bytes(pid) for pid in contender.engine_processes())
        return total / self.options.containers


class List(Row):
    name = f"list {LISTED} containers"
    budget = 0.50
    rounds = 25

    def prepare(self, contender: Contender) -> None:
        for number in range(LISTED):
            contender.create("true", Labels={"number": str(number)})

    def measure(self, contender: Contender) -> float:
        listed: list[int] = []
        seconds = timed(lambda: listed.append(contender.call(200, "GET", "/containers/json?all=1").body.count(b'"Labels"')))
        if listed != [LISTED]:
            raise RuntimeError(f"{contender.name} lists {listed} containers")
        return seconds


class Logs(Row):
    name = "write + read 20 MB of logs"
    budget = 0.50
    rounds = 3
    quick_rounds = 1

    def measure(self, contender: Contender) -> float:
        # PID 1 is `head`'s pipeline: it ends by itself when the last byte is written.
        container = contender.create("sh", "-c", f"yes {'x' * 99} | head -c {LOG_BYTES}")

        def write_and_read() -> bytes:
            contender.start(container)
            contender.wait(container)
            return contender.call(200, "GET", f"/containers/{container}/logs?stdout=1&stderr=1").body

        started = time.perf_counter()
        body = write_and_read()
        seconds = time.perf_counter() - started
        if len(demultiplex(body)[0]) != LOG_BYTES:
            raise RuntimeError(f"{contender.name} returns {len(demultiplex(body)[0])} of {LOG_BYTES} bytes of logs")
        contender.remove(container)
        return seconds


class Others(Api):
    """Compared with itself: the same with no other containers. The figure is the ratio, so the budget is not of dockerd's."""

    name = "start with N other containers against none"
    budget = 1.3
    rounds = 11
    unit = "ratio"
    absolute = True

    def prepare(self, contender: Contender) -> None:
        contender.run("true")
        alone = sorted(timed(lambda: contender.run("true")) for _ in range(self.rounds))[self.rounds // 2]
        for _ in range(self.options.others):
            contender.create("true")
        self.made[contender.name] = alone

    def measure(self, contender: Contender) -> float:
        return super().measure(contender) / float(self.made[contender.name])


ROWS: tuple[type[Row], ...] = (
    Api,
    ApiNoNetwork,
    Exec,
    DockerRun,
    Crowd,
    OwnCli,
    Commit,
    Build,
    Memory,
    List,
    Logs,
    Others,
)
