"""Clients at work for a long time, while the engine's processes are killed one after the other.

What a client was told stays true: a container that was made is there until it is removed, and gone from then on; a run whose end was
seen has its exit code and its output; a container that runs goes on, with its pid, whoever dies. A request may fail only if one of the
engine's processes was dead while it was under way. In the end nothing is left of all that.

It takes half a minute; TEUL_ENDURANCE_SECONDS makes it longer. From ten minutes on, the kills are further apart.
"""

from __future__ import annotations

import os
import random
import secrets
import signal
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support import images, processes
from support.engine import Engine
from support.images import file, pack
from support.needs import needs
from support.polling import eventually
from support.unix_http import Client, Response, demultiplex
from teul.daemon.config import parse_arguments

pytestmark = [needs("root", "docker_cli", "busybox", "overlayfs")]

SECONDS = float(os.environ.get("TEUL_ENDURANCE_SECONDS", "20"))
INTERVAL_SECONDS = 20.0 if SECONDS >= 600 else 3.0
CLIENTS = 3
SURVIVORS = 3
_TICKER = "i=0; while :; do i=$((i+1)); echo tick $i; sleep 0.05; done"
# How long before a death is known, and after it is mended, a request may still owe its failure to it.
_BEFORE_SECONDS, _AFTER_SECONDS = 0.5, 2.0


@dataclass(slots=True)
class Death:
    """A kill, and when what was killed was at work again."""

    victim: str
    at: float
    mended_at: float = float("inf")


class Trouble:
    """Kills the engine's processes, and knows which request that excuses."""

    def __init__(self, engine: Engine) -> None:
        self.deaths: list[Death] = []
        self._engine = engine
        self._kinds: dict[str, Callable[[], bool]] = {
            "engine": self._engine_dies,
            "keeper": self._keeper_dies,
            "starter": lambda: self._dies_at_work("starter", self._starters),
            "worker": lambda: self._dies_at_work("worker", self._workers),
        }

    def run(self, until: float) -> None:
        order: list[str] = []
        while time.monotonic() + INTERVAL_SECONDS < until:
            time.sleep(INTERVAL_SECONDS)
            order = order or random.sample([*self._kinds], len(self._kinds))
            self._kinds[order.pop()]()

    def excuses(self, since: float) -> bool:
        """Whether something of the engine's was dead between `since` and now."""
        return any(death.at - _BEFORE_SECONDS <= time.monotonic() and since <= death.mended_at + _AFTER_SECONDS for death in self.deaths)

    def _engine_dies(self) -> bool:
        death = self._record("engine")
        self._engine.kill9()
        self._engine.start()
        death.mended_at = time.monotonic()
        return True

    def _keeper_dies(self) -> bool:
        keeper = self._engine.keeper_pid
        death = self._record("keeper")
        processes.end([keeper])
        eventually(self._engine.has_keeper, "there is a keeper again, since the clients need one")
        death.mended_at = time.monotonic()
        return True

    def _dies_at_work(self, kind: str, find: Callable[[], list[int]]) -> bool:
        """Kill one of the processes that come and go, as soon as one is seen."""
        until = time.monotonic() + 5
        while time.monotonic() < until:
            for pid in find():
                death = Death(kind, time.monotonic())
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
                death.mended_at = time.monotonic()
                self.deaths.append(death)
                return True
        return False

    def _record(self, victim: str) -> Death:
        death = Death(victim, time.monotonic())
        self.deaths.append(death)
        return death

    def _starters(self) -> list[int]:
        return [pid for pid in processes.children_of(self._engine.keeper_pid) if processes.command_line(pid).startswith("teul: starter")]

    def _workers(self) -> list[int]:
        # A worker goes by the interpreter's name; of a killed keeper the engine has the containers' processes for children.
        return [pid for pid in processes.children_of(self._engine.pid) if "teul.workers" in processes.command_line(pid)]


class Refused(Exception):
    """A request had another answer than it must have."""


class Endurance:
    """What all clients share: the engine's socket, its troubles, and what has gone wrong."""

    def __init__(self, engine: Engine, trouble: Trouble, survivors: list[str]) -> None:
        self.socket_path = str(engine.socket_path)
        self.trouble = trouble
        self.survivors = survivors
        self.offences: list[str] = []
        self.done: Counter[str] = Counter()

    def offend(self, text: str) -> None:
        self.offences.append(
            f"{text} (deaths: {[(death.victim, round(death.at, 2), round(death.mended_at, 2)) for death in self.trouble.deaths[-3:]]})"
        )


class EnduringClient:
    """One client. It meddles with its own containers only, so it knows what each answer must be."""

    def __init__(self, endurance: Endurance) -> None:
        self._shared = endurance
        self._kept: dict[str, int] = {}  # exit codes of containers that have ended, by name
        self._tasks = [self._run, self._run, self._run, self._keep, self._look_after, self._exec, self._copy, self._load]

    def run(self, until: float) -> None:
        while time.monotonic() < until and not self._shared.offences:
            task = random.choice(self._tasks)
            since = time.monotonic()
            try:
                task()
                self._shared.done[task.__name__.strip("_")] += 1
            except (Refused, OSError, EOFError, ValueError) as error:
                if not self._shared.trouble.excuses(since):
                    self._shared.offend(f"{task.__name__}: {error!r} at {time.monotonic():.2f}, begun at {since:.2f}")
                self._shared.done["failed"] += 1
        for name in list(self._kept):
            self._remove(name)

    def _ask(self, statuses: set[int], method: str, path: str, body: Any = None, **options: str) -> Response:
        # A connection for each request: a client that sends one anew by itself would not know how often it was carried out.
        with Client(self._shared.socket_path, timeout_seconds=60) as api:
            response = api.request(method, path, body, **options)
        if response.status not in statuses:
            raise Refused(f"{method} {path}: {response.status} {response.message}")
        return response

    def _make(self, script: str, *, auto_remove: bool = False) -> str:
        name = f"enduring-{secrets.token_hex(6)}"
        host = {"AutoRemove": auto_remove, "NetworkMode": random.choice(["none", "bridge"])}
        try:
            self._ask(
                {201}, "POST", f"/containers/create?name={name}", {"Image": "busybox", "Cmd": ["sh", "-c", script], "HostConfig": host}
            )
        except BaseException:
            self._remove(name)
            raise
        return name

    def _run(self) -> None:
        """From create to removal, with the exit code and the output between."""
        code = random.randint(0, 99)
        name = self._make(f"echo said by $HOSTNAME; sleep {random.choice(['0', '0.05', '0.3'])}; exit {code}")
        try:
            self._ask({204}, "POST", f"/containers/{name}/start")
            self._see_end(name, code)
        finally:
            self._remove(name)

    def _keep(self) -> None:
        """A container that ends and stays."""
        code = random.randint(0, 99)
        name = self._make(f"echo said by $HOSTNAME; exit {code}")
        try:
            self._ask({204}, "POST", f"/containers/{name}/start")
            self._see_end(name, code)
        except BaseException:
            self._remove(name)
            raise
        self._kept[name] = code
        while len(self._kept) > 6:
            self._remove(next(iter(self._kept)))

    def _look_after(self) -> None:
        """What was kept is there as it was."""
        for name, code in self._kept.items():
            self._see_end(name, code)

    def _see_end(self, name: str, code: int) -> None:
        seen = self._ask({200}, "POST", f"/containers/{name}/wait").json()["StatusCode"]
        state = self._ask({200}, "GET", f"/containers/{name}/json").json()
        output, _errors = demultiplex(self._ask({200}, "GET", f"/containers/{name}/logs?stdout=1").body)
        said = f"said by {state['Config']['Hostname']}\n".encode()
        if (seen, state["State"]["ExitCode"], output) != (code, code, said):
            raise Refused(f"{name} should have ended with {code}: {seen}, {state['State']}, {output!r}")

    def _exec(self) -> None:
        name = random.choice(self._shared.survivors)
        word = secrets.token_hex(4)
        made = self._ask(
            {201}, "POST", f"/containers/{name}/exec", {"Cmd": ["sh", "-c", f"echo {word}; exit 7"], "AttachStdout": True}
        ).json()["Id"]
        output, _errors = demultiplex(self._ask({200, 101}, "POST", f"/exec/{made}/start", {"Detach": False}).body)
        code = self._ask({200}, "GET", f"/exec/{made}/json").json()["ExitCode"]
        if (output, code) != (f"{word}\n".encode(), 7):
            raise Refused(f"exec in {name}: {output!r}, {code}")

    def _copy(self) -> None:
        name = random.choice(self._shared.survivors)
        path = f"copied-{secrets.token_hex(4)}"
        self._ask({200}, "PUT", f"/containers/{name}/archive?path=/tmp", pack([file(path, path)]), content_type="application/x-tar")
        self._ask({200}, "GET", f"/containers/{name}/archive?path=/tmp/{path}")

    def _load(self) -> None:
        """An image of its own comes, is there, and goes."""
        tag = f"enduring:{secrets.token_hex(6)}"
        archive = images.Image(names=(tag,), layers=(pack([file(f"f{number}", tag) for number in range(50)]),), config={}).docker_archive()
        try:
            response = self._ask({200}, "POST", "/images/load", archive, content_type="application/x-tar")
            if b"errorDetail" in response.body:
                raise Refused(f"load: {response.body!r}")
            self._ask({200}, "GET", f"/images/{tag}/json")
        finally:
            self._insist("DELETE", f"/images/{tag}", {200, 404})

    def _remove(self, name: str) -> None:
        self._insist("DELETE", f"/containers/{name}?force=1", {204, 404})
        self._kept.pop(name, None)
        while True:
            since = time.monotonic()
            try:
                self._ask({404}, "GET", f"/containers/{name}/json")
                return
            except (Refused, OSError, EOFError) as error:
                if not self._shared.trouble.excuses(since):
                    self._shared.offend(f"{name} was removed and is there: {error!r}")
                    return

    def _insist(self, method: str, path: str, statuses: set[int]) -> None:
        """Ask until it is done: in trouble as often as it takes."""
        while True:
            since = time.monotonic()
            try:
                self._ask(statuses, method, path)
                return
            except (Refused, OSError, EOFError) as error:
                if not self._shared.trouble.excuses(since):
                    self._shared.offend(f"{method} {path}: {error!r}")
                    return
            time.sleep(0.05)


def test_nothing_is_lost_however_often_something_dies(fresh_engine: Engine) -> None:
    engine = fresh_engine
    survivors = [engine.must("run", "-d", "busybox", "sh", "-c", _TICKER) for _ in range(SURVIVORS)]
    pids = {name: engine.init_pid(name) for name in survivors}
    trouble = Trouble(engine)
    endurance = Endurance(engine, trouble, survivors)
    until = time.monotonic() + SECONDS
    with ThreadPoolExecutor(CLIENTS + 1) as threads:
        killer = threads.submit(trouble.run, until)
        for client in [threads.submit(EnduringClient(endurance).run, until) for _ in range(CLIENTS)]:
            client.result()
        assert endurance.offences == [], f"{endurance.offences[:5]}\n{engine.log_tail()}"
        killer.result()
    deaths = Counter(death.victim for death in trouble.deaths)
    print(f"\ndeaths: {dict(deaths)}\ndone: {dict(endurance.done)}")
    assert all(deaths[kind] for kind in ("engine", "keeper", "starter")), deaths
    for name, pid in pids.items():
        assert engine.init_pid(name) == pid
        assert processes.is_alive(pid), f"{name} died"
        ticks = [int(line.split()[1]) for line in engine.must("logs", name).splitlines()]
        # What a keeper had read, and had not written yet when it was killed, is gone: a line or two.
        assert ticks == sorted(set(ticks)), f"the log of {name} has something twice"
        holes = [(before, after) for before, after in zip([0, *ticks], ticks, strict=False) if after != before + 1]
        print(f"holes: {holes}")
        assert ticks[-1] - len(ticks) <= 2 * deaths["keeper"], f"the log of {name} has holes: {holes}"
    _nothing_is_left(engine)


def _nothing_is_left(engine: Engine) -> None:
    engine.remove_containers()
    assert engine.must("ps", "-aq") == ""
    # An engine that is killed between the loss of a name and that of the image leaves the image without a name, as dockerd does.
    engine.must("image", "prune", "-f")
    assert sorted(engine.must("images", "--format", "{{.Repository}}").split()) == ["busybox", "judge/layers"]
    eventually(lambda: list((engine.run_root / "containers").iterdir()) == [], "no bundle is left")
    eventually(lambda: [*(engine.root / "containers").iterdir(), *(engine.root / "tmp").iterdir()] == [], "no files are left")
    key = parse_arguments(["--root", str(engine.root), "-H", f"unix://{engine.socket_path}"], {}).root_key
    eventually(lambda: [*Path("/sys/fs/cgroup").glob(f"*/teul-{key}/*/cgroup.procs")] == [], "no cgroup is left")
    held = _descriptors(engine)
    engine.stop()
    engine.start()
    assert held <= _descriptors(engine) + 2, f"the engine holds descriptors of what is gone: {held}"


def _descriptors(engine: Engine) -> int:
    """How many the engine has when it has nothing to do."""
    engine.must("ps", "-aq")
    count = len(os.listdir(f"/proc/{engine.pid}/fd"))
    while (again := len(os.listdir(f"/proc/{engine.pid}/fd"))) < count:
        count = again
    return count
