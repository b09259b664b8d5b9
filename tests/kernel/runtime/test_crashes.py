"""Everything but the container may die: monitors, the keeper, the engine. Streams, log and exit code are kept."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from kernel.runtime.bare_containers import CGROUP_PARENT, Bench, Running, Spec, eventually, opened_supervisor, within
from support import processes
from support.needs import needs
from teul.linux import cgroups
from teul.runtime.engine.process import Process, StartError
from teul.runtime.engine.supervisor import Supervisor
from teul.runtime.messages import Launch

pytestmark = [needs("root", "busybox", "overlayfs"), pytest.mark.asyncio(loop_scope="session")]

LOG = {"max_bytes": 0, "max_files": 1}
# Says a number when it is told to, so that no output is on the way when something is killed.
ECHO = "while :; do read line || { sleep 0.05; continue; }; [ $line = end ] && exit 7; echo got $line; done"


def keeper_pid(directory: Path) -> int:
    pid: int = json.loads((directory / "pid.json").read_text())["keeper_pid"]
    return pid


async def kill_keeper(running: Running) -> None:
    """Kill what watches over it and wait until another one listens in its place."""
    pid = keeper_pid(running.directory)
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: keeper_pid(running.directory) != pid, "another keeper has taken over")
    await eventually(lambda: listens(running.directory), "it listens")


def listens(directory: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        directory_fd = os.open(directory, os.O_PATH)
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


async def say_end(running: Running) -> None:
    """Tell ECHO to leave."""
    attachment = await running.attach(stdin=True)
    await attachment.write(b"end\n")
    await attachment.close()


@pytest.mark.parametrize("tty", [False, True])
async def test_another_keeper_takes_over(bench: Bench, tty: bool) -> None:
    """Input, output, log, terminal and exit code go on, however often; the container notices nothing."""
    running = await bench.start("sh", "-c", f"trap 'echo size; stty size' WINCH; {ECHO}", stdin="open", log=LOG, tty=tty, attach=False)
    pid = running.pid
    await talk(running, "first")
    for word in ("second", "third"):
        await kill_keeper(running)
        await talk(running, word)
    assert running.pid == pid
    if tty:
        running.attachment = await running.attach()
        running.process.resize(12, 34)
        await running.read_until("12 34")
        await running.attachment.close()
        running.attachment = None
    else:
        assert [entry["log"] for entry in running.log_lines()] == ["got first\n", "got second\n", "got third\n"]
    await say_end(running)
    record = await within(asyncio.shield(running.process.exit), "the exit record")
    assert (record.exit_code, record.error) == (7, None)
    assert bench.remains() == []


async def test_exit_while_no_keeper_watches(bench: Bench) -> None:
    """The process ends between its keeper's death and the next one's birth: its status is kept for that."""
    running = await bench.start("sh", "-c", ECHO, stdin="open", log=LOG, attach=False)
    keeper = keeper_pid(running.directory)
    os.kill(keeper, signal.SIGSTOP)
    with open(f"/proc/{running.pid}/fd/0", "wb") as pipe:
        pipe.write(b"end\n")
    await eventually(lambda: not processes.is_alive(running.pid), "the process has ended")
    os.kill(keeper, signal.SIGKILL)
    record = await within(asyncio.shield(running.process.exit), "the exit record")
    assert (record.exit_code, record.error) == (7, None)
    assert bench.remains() == []


async def test_streams_of_an_exec_are_taken_over_too(bench: Bench) -> None:
    """And the end of the exec leaves the container's cgroup alone."""
    container = await bench.start("sleep", "1000")
    inner = await container.exec("sh", "-c", ECHO, stdin="open", attach=False)
    await kill_keeper(inner)
    await talk(inner, "hello")
    await say_end(inner)
    record = await within(asyncio.shield(inner.process.exit), "the exit record")
    assert (record.exit_code, record.error) == (7, None)
    assert await container.ask("echo alive") == "alive\n"


async def start_that_waits(bench: Bench, *args: str) -> tuple[asyncio.Future[Running], int, int]:
    """A start in progress, the pid of its starter, and that of the child. The child goes on when a filter is written to `fifo`."""
    fifo = bench.base / "fifo"
    os.mkfifo(fifo)

    def change(spec: Spec) -> None:
        spec["teul"]["seccomp_bpf"] = str(fifo)  # nobody writes: the child waits while it opens this

    def children(title: str) -> list[int]:
        pids = processes.children_of(bench.supervisor.keeper_pid)
        return [pid for pid in pids if processes.command_line(pid).startswith(title)]

    await eventually(lambda: not children("teul: starter"), "those of earlier starts have left")
    starting = asyncio.ensure_future(bench.start(*(args or ("true",)), change=change))
    # A child has its starter's title for a moment.
    [starter] = await eventually(lambda: found if len(found := children("teul: starter container-")) == 1 else [], "the starter works")
    [child] = await eventually(lambda: children("teul-init"), "the child waits")
    return starting, starter, child


@pytest.mark.parametrize("victim", ["starter", "keeper"])
async def test_death_while_a_process_is_being_made(bench: Bench, victim: str) -> None:
    """The start fails, and says so, rather than to wait for ever; what was half made is gone; the next start works."""
    starting, starter, child = await start_that_waits(bench)
    os.kill(starter if victim == "starter" else bench.supervisor.keeper_pid, signal.SIGKILL)
    with pytest.raises(StartError, match=f"{victim} ended"):
        await within(starting)
    await eventually(lambda: not processes.is_alive(child), "the child is ended")
    await eventually(lambda: not processes.is_alive(starter), "the starter is ended")
    await eventually(lambda: bench.remains() == [], "its cgroup is removed")
    assert (await bench.run("echo", "next")).out == "next\n"


async def test_a_starter_that_is_killed_before_it_told_anything_leaves_nothing(bench: Bench) -> None:
    """It may have made the cgroup, and a child in it, whose pid nobody knows but the kernel."""
    await bench.run("true")  # the next starter is forked after this one

    def standby() -> list[int]:
        pids = processes.children_of(bench.supervisor.keeper_pid)
        return [pid for pid in pids if processes.command_line(pid).startswith("teul: standby")]

    [starter] = await eventually(standby, "one stands by")
    os.kill(starter, signal.SIGSTOP)
    made = len(bench._made)
    starting = asyncio.ensure_future(bench.start("true"))
    await eventually(lambda: len(bench._made) > made, "the start is on its way")
    plan = bench._made[-1]
    cgroups.create(plan)
    child = subprocess.Popen(["sleep", "1000"], preexec_fn=lambda: cgroups.join(plan))  # noqa: PLW1509 - this process has no other thread
    try:
        socket_file = bench.base / os.path.basename(plan["path"]) / "monitor.sock"
        await eventually(socket_file.exists, "the starter has its order")
        os.kill(starter, signal.SIGKILL)
        with pytest.raises(StartError, match="starter ended"):
            await within(starting)
        assert [directory for directory in plan["directories"] if os.path.exists(directory)] == []
        assert child.wait(10) == -signal.SIGKILL
    finally:
        child.kill()
        child.wait()
    assert (await bench.run("echo", "next")).out == "next\n"


async def test_a_keeper_killed_between_making_a_process_and_saying_so(bench: Bench) -> None:
    """The starter has left, so nobody undoes the start but the engine: a start that failed leaves no program that runs."""
    starting, starter, child = await start_that_waits(bench, "sleep", "1000")
    keeper = bench.supervisor.keeper_pid
    os.kill(keeper, signal.SIGSTOP)
    (bench.base / "fifo").write_bytes(bytes.fromhex("060000000000ff7f"))  # one instruction: everything is allowed
    await eventually(lambda: not processes.is_alive(starter), "the starter has left")
    assert processes.command_line(child).startswith("sleep"), "the program has begun"
    os.kill(keeper, signal.SIGKILL)
    with pytest.raises(StartError, match="keeper ended"):
        await within(starting)
    await eventually(lambda: bench.remains() == [], "nothing of it is left")
    assert (await bench.run("echo", "next")).out == "next\n"


async def test_trouble_of_one_start_is_not_the_others(bench: Bench) -> None:
    """While a start hangs, streams flow and other starts are made."""
    running = await bench.start("sh", "-c", ECHO, stdin="open", log=LOG, attach=False)
    starting, starter, _child = await start_that_waits(bench)
    await talk(running, "hello")
    assert (await bench.run("echo", "meanwhile")).out == "meanwhile\n"
    os.kill(starter, signal.SIGKILL)
    with pytest.raises(StartError, match="starter ended"):
        await within(starting)
    await say_end(running)
    assert (await within(asyncio.shield(running.process.exit))).exit_code == 7


async def test_death_of_the_keeper(bench: Bench) -> None:
    """All containers go on under another one, which the next start and the next exec find; nothing is left as a zombie."""
    async with opened_supervisor() as supervisor:
        running = [await bench.start("sh", "-c", ECHO, stdin="open", attach=False, supervisor=supervisor) for _ in range(3)]
        keeper = supervisor.keeper_pid
        os.kill(keeper, signal.SIGKILL)
        await eventually(lambda: not processes.is_alive(keeper), "the keeper is dead")
        await eventually(lambda: all(keeper_pid(each.directory) != keeper for each in running), "another one has taken over")
        await eventually(lambda: all(listens(each.directory) for each in running), "it listens")
        for each in running:
            await talk(each, "hello")
        assert (await bench.run("echo", "started", supervisor=supervisor)).out == "started\n"
        assert supervisor.keeper_pid != keeper
        inner = await running[0].exec("echo", "executed", supervisor=supervisor)
        assert (await inner.ended()).out == "executed\n"
        for each in running:
            await say_end(each)
            assert (await within(asyncio.shield(each.process.exit))).exit_code == 7
        pids = [each.pid for each in running]
        await eventually(lambda: not [pid for pid in pids if Path(f"/proc/{pid}").exists()], "no zombie stays")
        assert bench.remains() == []


async def test_container_ends_though_the_keeper_died_with_an_exec_half_made(bench: Bench) -> None:
    """A zombie in its pid namespace that nobody reaps would keep the container's first process from ending."""
    async with opened_supervisor() as supervisor:
        running = await bench.start("sleep", "1000", attach=False, supervisor=supervisor)
        fifo = bench.base / "fifo"
        os.mkfifo(fifo)
        starting = asyncio.ensure_future(running.exec("true", teul={"seccomp_bpf": str(fifo)}, supervisor=supervisor))
        keeper = supervisor.keeper_pid
        waiting = await eventually(
            lambda: any(processes.command_line(pid) == "teul-init" for pid in processes.children_of(keeper)), "the exec's child waits"
        )
        assert waiting
        os.kill(keeper, signal.SIGKILL)
        with pytest.raises(StartError):
            await within(starting)
        running.process.signal(signal.SIGKILL)
        assert (await within(asyncio.shield(running.process.exit))).exit_code == 137
        await eventually(lambda: not Path(f"/proc/{running.pid}").exists(), "no zombie stays")
        assert bench.remains() == []


async def test_container_whose_keepers_keep_dying_is_ended(bench: Bench) -> None:
    """Nothing runs unseen, and nobody tries for ever."""
    running = await bench.start("sleep", "1000", attach=False)
    seen: set[int] = set()

    def kill_next() -> bool:
        if running.process.exit.done():
            return True
        pid = keeper_pid(running.directory)
        if pid not in seen:
            seen.add(pid)
            os.kill(pid, signal.SIGKILL)
        return False

    await eventually(kill_next, "the supervisor gives up")
    assert running.process.exit.result().exit_code == 255
    await eventually(lambda: not processes.is_alive(running.pid), "the container is ended")


# -- the engine

ENGINE = """
import asyncio, json, os, sys
from teul.aio import Tasks
from teul.runtime.messages import Launch
from teul.runtime.engine.supervisor import Supervisor

async def main():
    async with Tasks() as tasks:
        supervisor = Supervisor(tasks)
        await supervisor.open()
        started = [await supervisor.start(message, attach=[]) for message in json.load(sys.stdin)]
        with open(sys.argv[1] + ".new", "w") as file:
            print(supervisor.keeper_pid, *(process.pid for process in started), file=file)
        os.rename(sys.argv[1] + ".new", sys.argv[1])
        await asyncio.sleep(1000)

asyncio.run(main())
"""


class KilledEngine:
    """Another process that starts containers with a supervisor of its own, and is killed."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.messages: list[Launch] = []
        self.pids: list[int] = []
        self.keeper = 0

    def prepare(self, *args: str) -> Path:
        """A container to be started; returns its directory."""
        directory = self.bench.new_directory("container")
        (directory / "config.json").write_text(json.dumps(self.bench.spec(directory, args, tty=False, layers=())))
        plan = cgroups.plan(self.bench.layout, f"{CGROUP_PARENT}/{directory.name}")
        self.bench._made.append(plan)
        self.messages.append(
            {
                "kind": "create",
                "id": directory.name,
                "keyring": f"teul-test-{directory.name}",
                "directory": str(directory),
                "terminal": False,
                "rows": 0,
                "columns": 0,
                "stdin": "open",
                "log": {"path": str(directory / "log.json"), "max_bytes": 0, "max_files": 1, "attrs": ""},
                "cgroup": plan,
                "spill_directory": str(directory),
                "networks": [],
                "new_pids": True,
                "joins": [],
                "mounts": 0,
                "kill_cgroup": False,
            }
        )
        return directory

    async def run_and_kill(self) -> None:
        answer = self.bench.base / "started"
        with subprocess.Popen([sys.executable, "-c", ENGINE, str(answer)], stdin=subprocess.PIPE, start_new_session=True) as process:
            assert process.stdin is not None
            process.stdin.write(json.dumps(self.messages).encode())
            process.stdin.close()
            await eventually(answer.exists, "the containers are started")
            self.keeper, *self.pids = (int(word) for word in answer.read_text().split())
            process.kill()

    async def adopt(self, supervisor: Supervisor, number: int) -> Process | None:
        message = self.messages[number]
        return await within(supervisor.adopt(message), "the adoption")


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
    assert processes.is_alive(engine.keeper)
    with open(f"/proc/{engine.pids[1]}/fd/0", "wb") as pipe:
        pipe.write(b"go\n")
    await eventually((ended_directory / "exit.json").exists, "the second one has ended")

    process = await engine.adopt(bench.supervisor, 0)
    assert process is not None
    assert process.pid == engine.pids[0]
    running = running_in(bench, directory, process)
    await talk(running, "hello")
    ended = await engine.adopt(bench.supervisor, 1)
    assert ended is not None
    assert (await within(ended.exit)).exit_code == 9
    await kill_keeper(running)
    await talk(running, "again")
    await say_end(running)
    record = await within(asyncio.shield(process.exit))
    # It was the child of no engine that lives: where the kernel does not remember (before Linux 6.15), its code is lost.
    assert record.exit_code == 7 or (record.exit_code == 255 and "lost" in str(record.error))


async def test_keeper_without_an_engine_leaves_with_its_last_container(bench: Bench, engine: KilledEngine) -> None:
    """It is there for what it watches over, and for nothing else."""
    directory = engine.prepare("sh", "-c", "read line; exit 9")
    await engine.run_and_kill()
    assert processes.is_alive(engine.keeper)
    with open(f"/proc/{engine.pids[0]}/fd/0", "wb") as pipe:
        pipe.write(b"go\n")
    await eventually(lambda: not processes.is_alive(engine.keeper), "the keeper leaves")
    assert json.loads((directory / "exit.json").read_text())["exit_code"] == 9


async def test_engine_and_keeper_killed_together(bench: Bench, engine: KilledEngine) -> None:
    """Its streams are lost with both, but the container runs, can be signalled, and its end is seen."""
    directory = engine.prepare("sleep", "1000")
    await engine.run_and_kill()
    os.kill(keeper_pid(directory), signal.SIGKILL)
    await eventually(lambda: not listens(directory), "its keeper is gone")
    process = await engine.adopt(bench.supervisor, 0)
    assert process is not None
    assert process.pid == engine.pids[0]
    assert not process.exit.done()
    process.signal(signal.SIGKILL)
    record = await within(asyncio.shield(process.exit))
    assert record.exit_code in {137, 255}
    assert bench.remains() == []


async def test_all_killed_and_the_pid_used_again(bench: Bench, engine: KilledEngine) -> None:
    """Another process with the pid is never taken for the container's."""
    directory = engine.prepare("sleep", "1000")
    (directory / "pid.json").write_text(json.dumps({"pid": os.getpid(), "keeper_pid": 0, "start_time": 1}))
    process = await engine.adopt(bench.supervisor, 0)
    assert process is not None
    record = await within(process.exit)
    assert (record.exit_code, record.error) == (255, "the process ended while nobody was watching")


async def test_container_that_was_never_started_is_not_found(bench: Bench, engine: KilledEngine) -> None:
    """The engine died before anything was done."""
    engine.prepare("true")
    assert await engine.adopt(bench.supervisor, 0) is None


async def test_log_has_no_hole_without_an_engine(bench: Bench, engine: KilledEngine) -> None:
    """What the container writes without an engine is logged."""
    directory = engine.prepare("sh", "-c", "i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo $i; done")
    await engine.run_and_kill()
    await eventually((directory / "exit.json").exists, "the container ends")
    numbers = [int(json.loads(line)["log"]) for line in (directory / "log.json").read_text().splitlines()]
    assert numbers == list(range(1, 301))
