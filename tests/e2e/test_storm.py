"""Dozens of short-lived containers, and clients that do everything to them at the moment they start and end.

Each container has a file with its own name. Each answer is checked against what may be answered: never a failure of the engine, and never
another container's file. In the end nothing is left.

It takes a quarter of a minute; TEUL_STORM_SECONDS makes it longer, and then the counts of all answers (shown with -s) are worth a look.
"""

from __future__ import annotations

import io
import os
import random
import secrets
import shutil
import signal
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from support import processes
from support.engine import Engine
from support.images import file, pack
from support.needs import needs
from support.polling import eventually
from support.unix_http import Client, Response

pytestmark = [needs("root", "docker_cli", "busybox", "overlayfs")]

SECONDS = float(os.environ.get("TEUL_STORM_SECONDS", "8"))
CLIENTS = 4
_POOL = 12
_OWN = "own-name"

# What may be answered. 404: it has been removed; 409: it does not run, runs already, is being removed, or cannot end while paused; 304: it is so already.
ALLOWED = {
    "create": {201},
    "start": {204, 304, 404, 409},
    "stop": {204, 304, 404},
    "restart": {204, 404, 409},
    "kill": {204, 404, 409},
    "pause": {204, 404, 409},
    "unpause": {204, 404, 409},
    "remove": {204, 404, 409},
    "wait": {200, 404},
    "attach": {101, 200, 404, 409},
    "exec create": {201, 404, 409},
    "exec start": {101, 200, 404, 409},
    "copy from": {200, 404, 409},
    "stat": {200, 404, 409},
    "copy to": {200, 404, 409},
    "export": {200, 404, 409},
    "changes": {200, 404},
    "top": {200, 404, 409},
    "stats": {200, 404},
    "logs": {200, 404},
    "inspect": {200, 404},
}


class Storm:
    """The containers of all clients, and what the clients were answered."""

    def __init__(self, socket_path: str) -> None:
        self.socket_path = socket_path
        self.answers: Counter[tuple[str, int]] = Counter()
        self.offences: list[str] = []
        self._names: list[str] = []
        self._lock = threading.Lock()

    def note(self, verb: str, response: Response) -> None:
        with self._lock:
            self.answers[verb, response.status] += 1
            if response.status not in ALLOWED[verb]:
                self.offences.append(f"{verb}: {response.status} {response.message}")

    def offend(self, text: str) -> None:
        with self._lock:
            self.offences.append(text)

    def add(self, name: str) -> None:
        with self._lock:
            self._names.append(name)
            del self._names[:-_POOL]

    def any(self) -> str:
        with self._lock:
            return random.choice(self._names)


class StormClient:
    """One client: makes containers, and meddles with everybody's."""

    def __init__(self, storm: Storm) -> None:
        self._storm = storm
        self._api = Client(storm.socket_path, timeout_seconds=60)
        self._verbs: list[Callable[[str], None]] = [
            *(self._simple(verb) for verb in ("start", "stop", "restart", "kill", "pause", "unpause")),
            *(self._looking(verb, path) for verb, path in _LOOKS.items()),
            self._remove,
            self._wait,
            self._attach,
            *([self._exec] * 3),
            *([self._copy_from] * 4),
            self._stat,
            self._copy_to,
            self._export,
        ]

    def run(self, until: float) -> None:
        with self._api:
            while time.monotonic() < until and not self._storm.offences:
                self._begin()
                for _ in range(random.randint(3, 8)):
                    random.choice(self._verbs)(self._storm.any())

    def _ask(self, verb: str, method: str, path: str, body: object = None, *, api: Client | None = None, **options: str) -> Response:
        response = (api or self._api).request(method, path, body, **options)
        self._storm.note(verb, response)
        return response

    def _begin(self) -> None:
        name = f"storm-{secrets.token_hex(6)}"
        policy = random.choice(["", "", "always", "on-failure"])
        host = {
            "AutoRemove": not policy and random.random() < 0.5,
            "RestartPolicy": {"Name": policy, "MaximumRetryCount": 2 if policy == "on-failure" else 0},
            "NetworkMode": random.choice(["none", "bridge"]),
        }
        script = f"sleep {random.choice(['0', '0.02', '0.1', '0.3'])}; exit {random.choice([0, 1])}"
        probe = {"Test": ["CMD", "true"], "Interval": 20_000_000} if random.random() < 0.3 else None
        self._ask(
            "create",
            "POST",
            f"/containers/create?name={name}",
            {"Image": "busybox", "Cmd": ["sh", "-c", script], "HostConfig": host, "Healthcheck": probe, "StopSignal": "SIGKILL"},
        )
        # Before it is known to the others, so that whoever copies finds it.
        self._copy_to(name)
        self._storm.add(name)
        self._ask("start", "POST", f"/containers/{name}/start")

    def _simple(self, verb: str) -> Callable[[str], None]:
        query = "?t=0" if verb in ("stop", "restart") else ""
        return lambda name: self._discard(self._ask(verb, "POST", f"/containers/{name}/{verb}{query}"))

    def _looking(self, verb: str, path: str) -> Callable[[str], None]:
        return lambda name: self._discard(self._ask(verb, "GET", path.format(name=name)))

    def _discard(self, response: Response) -> None:
        """The status has been looked at."""

    def _remove(self, name: str) -> None:
        self._ask("remove", "DELETE", f"/containers/{name}?force=1")

    def _wait(self, name: str) -> None:
        self._for_a_while("wait", f"/containers/{name}/wait")  # one that is paused does not end

    def _attach(self, name: str) -> None:
        # To what does not run one may attach all the same, and waits for the next start.
        self._for_a_while("attach", f"/containers/{name}/attach?stream=1&stdout=1&stderr=1")

    def _for_a_while(self, verb: str, path: str) -> None:
        """Ask for what may take for ever, and leave after a moment."""
        with Client(self._storm.socket_path, timeout_seconds=0.5) as api:
            try:
                self._ask(verb, "POST", path, api=api)
            except TimeoutError:
                return

    def _exec(self, name: str) -> None:
        wanted = {"Cmd": ["cat", f"/{_OWN}"], "AttachStdout": True}
        made = self._ask("exec create", "POST", f"/containers/{name}/exec", wanted)
        if made.status != 201:
            return
        with Client(self._storm.socket_path, timeout_seconds=10) as api:
            try:
                answer = self._ask("exec start", "POST", f"/exec/{made.json()['Id']}/start", {"Detach": False}, api=api)
            except TimeoutError:
                # Begun before a pause, it is one of the processes that stand still until somebody unpauses the container.
                state = self._ask("inspect", "GET", f"/containers/{name}/json").json()
                if not state.get("State", {}).get("Paused"):
                    self._storm.offend(f"an exec in {name} does not answer: {state}")
                return
        # docker: the stream has been opened by the time the container turns out to have ended, and has the error in it.
        said = answer.body[8:].decode() if answer.status in (101, 200) else ""
        if said and said != name and not said.endswith(("is not running\r\n", "is paused, unpause the container before exec\r\n")):
            self._storm.offend(f"an exec in {name} answered {said!r}")

    def _copy_from(self, name: str) -> None:
        self._check(name, self._ask("copy from", "GET", f"/containers/{name}/archive?path=/{_OWN}"))

    def _export(self, name: str) -> None:
        self._check(name, self._ask("export", "GET", f"/containers/{name}/export"))

    def _check(self, name: str, answer: Response) -> None:
        if answer.status != 200:
            return
        with tarfile.open(fileobj=io.BytesIO(answer.body)) as archive:
            member = archive.extractfile(_OWN)
            content = member.read().decode() if member is not None else ""
        if content != name:
            self._storm.offend(f"the file of {name} was answered with {content!r}")

    def _stat(self, name: str) -> None:
        self._ask("stat", "HEAD", f"/containers/{name}/archive?path=/{_OWN}")

    def _copy_to(self, name: str) -> None:
        self._ask("copy to", "PUT", f"/containers/{name}/archive?path=/", pack([file(_OWN, name)]), content_type="application/x-tar")


_LOOKS = {
    "changes": "/containers/{name}/changes",
    "top": "/containers/{name}/top",
    "stats": "/containers/{name}/stats?stream=0&one-shot=1",
    "logs": "/containers/{name}/logs?stdout=1",
    "inspect": "/containers/{name}/json",
}


def test_whatever_is_done_to_containers_that_start_and_end(fresh_engine: Engine) -> None:
    storm = Storm(str(fresh_engine.socket_path))
    until = time.monotonic() + SECONDS
    with ThreadPoolExecutor(CLIENTS) as threads:
        for done in [threads.submit(StormClient(storm).run, until) for _ in range(CLIENTS)]:
            done.result()
    counts = "\n".join(f"{verb:12} {status} {count:6}" for (verb, status), count in sorted(storm.answers.items()))
    print(f"\n{counts}")
    log = fresh_engine.log_path.read_text(errors="replace")
    assert storm.offences == [], f"{storm.offences[:5]}\n{fresh_engine.log_tail()}"
    assert "Traceback" not in log, log[log.index("Traceback") - 500 :][:4000]
    with fresh_engine.api() as api:
        for entry in api.expect(200, "GET", "/containers/json?all=1").json():
            assert api.request("DELETE", f"/containers/{entry['Id']}?force=1").status in (204, 404, 409)
        eventually(lambda: api.expect(200, "GET", "/containers/json?all=1").json() == [], "all containers are gone")
    eventually(lambda: list((fresh_engine.run_root / "containers").iterdir()) == [], "no bundle is left")
    eventually(lambda: list((fresh_engine.root / "containers").iterdir()) == [], "no files are left")
    eventually(lambda: [*Path("/sys/fs/cgroup").glob(f"*/teul-{_key(fresh_engine)}/*/cgroup.procs")] == [], "no cgroup is left")


def test_first_starts_at_the_same_time_all_succeed(fresh_engine: Engine) -> None:
    """Each of them finds no compiled filter yet, and makes it."""
    names = [f"first-{number}" for number in range(10)]
    with fresh_engine.api() as api:
        for name in names:
            api.expect(201, "POST", f"/containers/create?name={name}", {"Image": "busybox", "Cmd": ["sleep", "1000"]})

    def start(name: str) -> int:
        with fresh_engine.api() as api:
            return api.request("POST", f"/containers/{name}/start").status

    with ThreadPoolExecutor(len(names)) as threads:
        assert list(threads.map(start, names)) == [204] * len(names)


def test_after_a_reboot_all_containers_that_want_to_be_up_are_up(fresh_engine: Engine) -> None:
    """As a reboot leaves them: no process, an empty run root, another boot id. All of them start at once."""
    engine = fresh_engine
    containers = [engine.must("run", "-d", "--restart", "always", "busybox", "sleep", "1000") for _ in range(6)]
    pids = [engine.init_pid(container) for container in containers]
    engine.kill9()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not any(processes.is_alive(pid) for pid in pids), "the containers are dead")
    eventually(lambda: [*Path("/sys/fs/cgroup").glob(f"*/teul-{_key(engine)}/*/cgroup.procs")] == [], "their keeper is done")
    shutil.rmtree(engine.run_root)
    (engine.root / "boot-id").write_text("another boot")
    engine.start()
    eventually(lambda: len(engine.must("ps", "-q").split()) == len(containers), "all of them are up")
    assert "could not be restarted" not in engine.log_tail()


def _key(engine: Engine) -> str:
    from teul.daemon.config import EngineConfig, parse_arguments

    config: EngineConfig = parse_arguments(["--root", str(engine.root), "-H", f"unix://{engine.socket_path}"], {})
    return config.root_key
