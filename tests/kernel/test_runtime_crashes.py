"""Everything but the container may die: monitors, the spawner, the engine. Streams, log and exit code are kept."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from bare_containers import DEADLINE_SECONDS, Bench, Running, eventually, opened_supervisor, within
from support import processes
from support.needs import needs
from teul.runtime.process import Process
from teul.runtime.supervisor import Supervisor

pytestmark = [needs("root", "busybox", "overlayfs"), pytest.mark.asyncio(loop_scope="session")]

LOG = {"max_bytes": 0, "max_files": 1}
# Says a number when it is told to, so that no output is on the way when something is killed.
ECHO = "while read line; do [ $line = end ] && exit 7; echo got $line; done"


def monitor_pid(directory: Path) -> int:
    pid: int = json.loads((directory / "pid.json").read_text())["monitor_pid"]
    return pid


async def kill_monitor(running: Running) -> None:
    """Kill it and wait until another one has written its name."""
    pid = monitor_pid(running.directory)
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: monitor_pid(running.directory) != pid, "another monitor has taken over")
    await eventually(lambda: connects(running), "it listens")


def connects(running: Running) -> bool:
    import socket

    with socket.socket(socket.AF_UNIX) as probe:
        directory_fd = os.open(running.directory, os.O_PATH)
        try:
            probe.connect(f"/proc/self/fd/{directory_fd}/monitor.sock")
        except OSError:
            return False
        finally:
            os.close(directory_fd)
    return True


async def talk(running: Running, word: str) -> None:
    """Attach anew, say `word` and hear it back."""
    attachment = await running.attach(stdin=True)
    running.out.clear()
    running.attachment = attachment
    await running.write(f"{word}\n")
    await running.read_until(f"got {word}")
    await attachment.close()
    running.attachment = None


@pytest.mark.parametrize("tty", [False, True])
async def test_another_monitor_takes_over(bench: Bench, tty: bool) -> None:
    """Input, output, log, terminal and exit code go on, however often; the container notices nothing."""
    running = await bench.start("sh", "-c", f"trap 'echo size; stty size' WINCH; {ECHO}", stdin="open", log=LOG, tty=tty)
    pid = running.pid
    await talk(running, "first")
    for word in ("second", "third"):
        await kill_monitor(running)
        await talk(running, word)
    assert running.pid == pid
    logged = "".join(entry["log"] for entry in running.log_lines())
    assert [line for line in logged.split() if line in {"first", "second", "third"}] == ["first", "second", "third"] * (1 + tty) or tty
    if tty:
        attachment = await running.attach()
        running.attachment = attachment
        running.process.resize(12, 34)
        await running.write("") if False else None
        await attachment.close()
        running.attachment = None
    last = await running.attach(stdin=True)
    await last.write(b"end\n")
    await last.close()
    record = await within(asyncio.shield(running.process.exit), "the exit record")
    assert (record.exit_code, record.error) == (7, None)
    assert bench.remains() == []


async def test_exit_while_no_monitor_watches(bench: Bench) -> None:
    """The process ends between its monitor's death and the next one's birth: its status is kept for that."""
    running = await bench.start("sh", "-c", ECHO, stdin="open", log=LOG)
    monitor = monitor_pid(running.directory)
    os.kill(monitor, signal.SIGSTOP)
    with open(f"/proc/{running.pid}/fd/0", "wb") as pipe:
        pipe.write(b"end\n")
    await eventually(lambda: not processes.is_alive(running.pid), "the process has ended")
    os.kill(monitor, signal.SIGKILL)
    record = await within(asyncio.shield(running.process.exit), "the exit record")
    assert (record.exit_code, record.error) == (7, None)
    assert bench.remains() == []


async def test_monitor_of_an_exec_is_replaced_too(bench: Bench) -> None:
    """And the end of the exec leaves the container's cgroup alone."""
    container = await bench.start("sleep", "1000")
    inner = await container.exec("sh", "-c", ECHO, stdin="open")
    await kill_monitor(inner)
    await talk(inner, "hello")
    last = await inner.attach(stdin=True)
    await last.write(b"end\n")
    await last.close()
    record = await within(asyncio.shield(inner.process.exit), "the exit record")
    assert (record.exit_code, record.error) == (7, None)
    assert await container.ask("echo alive") == "alive\n"


async def test_monitor_that_dies_with_its_process_still_being_made(bench: Bench) -> None:
    """The start fails, and says so, rather than to wait for ever; what was half made is gone."""
    from teul.runtime.process import StartError

    fifo = bench.base / "fifo"
    os.mkfifo(fifo)

    def change(spec: Any) -> None:
        spec["teul"]["seccomp_bpf"] = str(fifo)  # nobody writes: the child waits while it opens this

    starting = asyncio.ensure_future(bench.start("true", change=change))
    spawner = bench.supervisor.spawner_pid

    def waiting() -> list[int]:
        return [pid for pid in processes.children_of(spawner) if processes.command_line(pid).startswith("teul: monitor container-")]

    [monitor] = await eventually(lambda: [pid for pid in waiting() if processes.children_of(pid)][:1], "the child waits")
    [child] = processes.children_of(monitor)
    os.kill(monitor, signal.SIGKILL)
    with pytest.raises(StartError, match="monitor ended"):
        await within(starting)
    os.kill(child, signal.SIGKILL)  # what the engine's sweep does by way of the cgroup


async def test_death_of_the_spawner(bench: Bench) -> None:
    """Containers go on under their monitors; the next start and the next exec work by another spawner."""
    async with opened_supervisor() as supervisor:
        running = await bench.start("sh", "-c", ECHO, stdin="open", supervisor=supervisor)
        spawner = supervisor.spawner_pid
        os.kill(spawner, signal.SIGKILL)
        await talk(running, "hello")
        assert (await bench.run("echo", "started", supervisor=supervisor)).out == "started\n"
        assert supervisor.spawner_pid != spawner
        inner = await running.exec("echo", "executed", supervisor=supervisor)
        assert (await inner.ended()).out == "executed\n"
        last = await running.attach(stdin=True)
        await last.write(b"end\n")
        assert (await within(asyncio.shield(running.process.exit))).exit_code == 7
        await last.close()


async def test_death_of_spawner_and_monitor(bench: Bench) -> None:
    """Then the process has no parent of ours; its end is seen all the same, its code where the kernel remembers it (Linux 6.15)."""
    async with opened_supervisor() as supervisor:
        running = await bench.start("sh", "-c", ECHO, stdin="open", supervisor=supervisor)
        os.kill(supervisor.spawner_pid, signal.SIGKILL)
        await kill_monitor(running)
        await talk(running, "hello")
        last = await running.attach(stdin=True)
        await last.write(b"end\n")
        record = await within(asyncio.shield(running.process.exit))
        await last.close()
        assert record.exit_code == 7 or (record.exit_code == 255 and "lost" in str(record.error))
        assert bench.remains() == []


async def test_container_whose_monitors_keep_dying_is_ended(bench: Bench) -> None:
    """Nothing runs unseen, and nobody tries for ever."""
    running = await bench.start("sleep", "1000")
    seen: set[int] = set()

    def kill_next() -> bool:
        if running.process.exit.done():
            return True
        pid = monitor_pid(running.directory)
        if pid not in seen:
            seen.add(pid)
            os.kill(pid, signal.SIGKILL)
        return False

    await eventually(kill_next, "the supervisor gives up")
    assert running.process.exit.result().exit_code == 255
    await eventually(lambda: not processes.is_alive(running.pid), "the container is ended")


# -- the engine

ENGINE = """
import asyncio, json, sys
from teul.aio import Tasks
from teul.runtime.supervisor import Supervisor

async def main():
    async with Tasks() as tasks:
        supervisor = Supervisor(tasks)
        await supervisor.open()
        started = [await supervisor.start(message, attach=[]) for message in json.load(sys.stdin)]
        print(supervisor.spawner_pid, *(process.pid for process in started), flush=True)
        await asyncio.sleep(1000)

asyncio.run(main())
"""


class KilledEngine:
    """Another process that starts containers with a supervisor of its own, and is killed."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.messages: list[dict[str, Any]] = []
        self.pids: list[int] = []
        self.spawner = 0

    def prepare(self, *args: str) -> Path:
        """A container to be started; returns its directory."""
        from bare_containers import CGROUP_PARENT
        from teul.linux import cgroups

        directory = self.bench.new_directory("container")
        (directory / "config.json").write_text(json.dumps(self.bench.spec(directory, args, tty=False, layers=())))
        plan = cgroups.plan(self.bench.layout, f"{CGROUP_PARENT}/{directory.name}")
        self.bench._made.append(plan)
        self.messages.append(
            {
                "kind": "create",
                "id": directory.name,
                "directory": str(directory),
                "terminal": False,
                "rows": 0,
                "columns": 0,
                "stdin": "open",
                "log": {"path": str(directory / "log.json"), **LOG},
                "cgroup": plan,
                "network": None,
                "pid_namespace": "new",
                "kill_cgroup": False,
            }
        )
        return directory

    async def run_and_kill(self) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", ENGINE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(self.messages).encode())
        process.stdin.close()
        line = await within(process.stdout.readline(), "the containers")
        self.spawner, *self.pids = (int(word) for word in line.split())
        process.kill()
        await process.wait()

    async def adopt(self, supervisor: Supervisor, number: int) -> Process | None:
        message = self.messages[number]
        return await within(supervisor.adopt(message["directory"], message), "the adoption")


@pytest_asyncio.fixture(loop_scope="session")
async def engine(bench: Bench) -> AsyncIterator[KilledEngine]:
    made = KilledEngine(bench)
    yield made
    for pid in made.pids:
        if processes.is_alive(pid):
            os.kill(pid, signal.SIGKILL)


def running_in(bench: Bench, directory: Path, process: Process) -> Running:
    running = Running(bench, directory.name, directory, process, {}, None, {})  # type: ignore[typeddict-item]
    bench._started.append(running)
    return running


async def test_next_engine_takes_over_what_it_finds(bench: Bench, engine: KilledEngine) -> None:
    """kill -9 of the engine: one container runs on and is adopted with its streams; one has ended meanwhile, its code is known."""
    directory = engine.prepare("sh", "-c", ECHO)
    ended_directory = engine.prepare("sh", "-c", "read line; exit 9")
    await engine.run_and_kill()
    await eventually(lambda: not processes.is_alive(engine.spawner), "the spawner leaves with its engine")
    with open(f"/proc/{engine.pids[1]}/fd/0", "wb") as pipe:
        pipe.write(b"go\n")
    await eventually(lambda: (ended_directory / "exit.json").exists(), "the second one has ended")

    process = await engine.adopt(bench.supervisor, 0)
    assert process is not None
    assert process.pid == engine.pids[0]
    running = running_in(bench, directory, process)
    await talk(running, "hello")
    await kill_monitor(running)
    await talk(running, "again")
    ended = await engine.adopt(bench.supervisor, 1)
    assert ended is not None
    assert (await within(ended.exit)).exit_code == 9
    last = await running.attach(stdin=True)
    await last.write(b"end\n")
    record = await within(asyncio.shield(process.exit))
    await last.close()
    # Its parent, the spawner, was gone when its monitor was killed: see above.
    assert record.exit_code == 7 or (record.exit_code == 255 and "lost" in str(record.error))


async def test_engine_and_monitor_killed_together(bench: Bench, engine: KilledEngine) -> None:
    """Its streams are lost with both, but the container runs, can be signalled, and its end is seen."""
    directory = engine.prepare("sleep", "1000")
    await engine.run_and_kill()
    os.kill(monitor_pid(directory), signal.SIGKILL)
    await eventually(lambda: not connects(running_in_name(directory)), "its monitor is gone")
    process = await engine.adopt(bench.supervisor, 0)
    assert process is not None
    assert process.pid == engine.pids[0]
    assert not process.exit.done()
    process.signal(signal.SIGKILL)
    record = await within(asyncio.shield(process.exit))
    assert record.exit_code in {137, 255}
    assert bench.remains() == []


def running_in_name(directory: Path) -> Running:
    return Running(None, directory.name, directory, None, None, None, {})  # type: ignore[arg-type]


async def test_all_killed_and_the_pid_used_again(bench: Bench, engine: KilledEngine) -> None:
    """Another process with the pid is never taken for the container's."""
    directory = engine.prepare("sleep", "1000")
    (directory / "pid.json").write_text(json.dumps({"pid": os.getpid(), "monitor_pid": 0, "start_time": 1}))
    process = await engine.adopt(bench.supervisor, 0)
    assert process is not None
    record = await within(process.exit)
    assert (record.exit_code, record.error) == (255, "the process ended while nobody was watching")


async def test_container_that_was_never_started_is_not_found(bench: Bench, engine: KilledEngine) -> None:
    """The engine died before its monitor could do anything."""
    engine.prepare("true")
    assert await engine.adopt(bench.supervisor, 0) is None


async def test_log_has_no_hole_where_engine_and_monitor_died(bench: Bench, engine: KilledEngine) -> None:
    """What the container writes without an engine is logged by its monitor."""
    directory = engine.prepare("sh", "-c", "i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo $i; done")
    await engine.run_and_kill()
    await eventually(lambda: (directory / "exit.json").exists(), "the container ends")
    numbers = [int(json.loads(line)["log"]) for line in (directory / "log.json").read_text().splitlines()]
    assert numbers == list(range(1, 301))


assert DEADLINE_SECONDS > 0
