"""A container's life: its namespaces, what ends it, what its exit code says, and that nothing of it is left."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from kernel.runtime.bare_containers import NAMESPACE_FILES, Bench, Change, Spec, eventually, mount
from support import processes
from support.needs import needs

pytestmark = [needs("root", "busybox", "overlayfs"), pytest.mark.asyncio(loop_scope="session")]


def without(*kinds: str) -> Change:
    """A change that leaves namespaces of the host in place of new ones."""

    def change(spec: Spec) -> None:
        spec["linux"]["namespaces"] = [entry for entry in spec["linux"]["namespaces"] if entry["type"] not in kinds]

    return change


@pytest.mark.parametrize("code", [0, 1, 125, 255])
async def test_exit_code_is_the_programs(bench: Bench, code: int) -> None:
    """Whatever the number, it is not changed on the way, and the record of it is on disk."""
    running = await bench.start("sh", "-c", f"exit {code}")
    ended = await running.ended()
    assert (ended.code, ended.record.signal, ended.record.error, ended.record.oom_killed) == (code, None, None, False)
    on_disk = json.loads((running.directory / "exit.json").read_text())
    assert (on_disk["exit_code"], on_disk["finished_at_ns"]) == (code, ended.record.finished_at_ns)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGUSR1])
async def test_death_by_signal_is_128_and_the_signal(bench: Bench, number: signal.Signals) -> None:
    """In the host's pid namespace, for in one of its own a first process is spared what it does not handle."""
    running = await bench.start("sleep", "1000", change=without("pid"))
    running.process.signal(number)
    ended = await running.ended()
    assert (ended.code, ended.record.signal) == (128 + number, number)


async def test_first_process_in_its_own_pid_namespace_dies_by_sigkill(bench: Bench) -> None:
    """And of nothing else that it does not handle (pid_namespaces(7))."""
    running = await bench.start("sh", "-c", "trap 'echo heard' USR1; echo ready; while :; do sleep 0.05; done")
    await running.read_until("ready")
    running.process.signal(signal.SIGTERM)
    running.process.signal(signal.SIGUSR1)
    await running.read_until("heard")
    assert (await running.kill()).code == 137


async def test_signal_to_an_ended_process_hits_nobody(bench: Bench) -> None:
    """The pid may be somebody else's by then."""
    running = await bench.start("true")
    await running.ended()
    running.process.signal(signal.SIGKILL)
    assert running.process.pidfd == -1


async def test_everything_in_the_pid_namespace_dies_with_its_first_process(bench: Bench) -> None:
    """Children in the background, in sessions of their own, holding the output: none outlives PID 1."""
    running = await bench.start("sh", "-c", "setsid sleep 1000 & sleep 1000 & echo ready; read line; exit 3", stdin="open")
    await running.read_until("ready")
    namespace = running.namespace("pid")
    assert len(in_pid_namespace(namespace)) == 3
    await running.write("go\n")
    assert (await running.ended()).code == 3
    await eventually(lambda: not in_pid_namespace(namespace), "all processes are gone")


def in_pid_namespace(namespace: str) -> list[int]:
    return [pid for pid in processes.all_pids() if processes.is_alive(pid) and processes.namespace_of(pid, "pid") == namespace]


async def test_with_the_hosts_pids_what_is_left_in_the_cgroup_is_killed(bench: Bench) -> None:
    """There the kernel does not do it, so the monitor does (`kill_cgroup`)."""
    running = await bench.start("sh", "-c", "setsid sleep 1000 & echo $!; exit 0", change=without("pid"))
    ended = await running.ended()
    assert ended.code == 0
    await eventually(lambda: not processes.is_alive(int(ended.out)), "the process in the background is gone")
    assert bench.remains() == []


async def test_every_namespace_is_new(bench: Bench) -> None:
    """As the spec lists them; the user namespace is the host's."""
    running = await bench.start("sleep", "1000")
    for kind, file in NAMESPACE_FILES.items():
        assert running.namespace(file) != os.readlink(f"/proc/self/ns/{file}"), kind
    assert running.namespace("user") == os.readlink("/proc/self/ns/user")
    assert await running.ask("echo $$ $(cat /proc/1/comm)") != ""
    assert (await running.ask("hostname; cat /proc/1/comm")).split() == ["bare", "sleep"]


@pytest.mark.parametrize("kind", ["pid", "uts", "ipc", "network", "cgroup"])
async def test_a_namespace_that_is_not_listed_is_the_hosts(bench: Bench, kind: str) -> None:
    """OCI runtime-spec config-linux.md: what is not listed is inherited."""

    def change(spec: Spec) -> None:
        without(kind)(spec)
        spec["hostname"] = "bare" if kind != "uts" else "never-set"  # the host's name is not ours to set

    running = await bench.start("sleep", "1000", change=change)
    for each, file in NAMESPACE_FILES.items():
        assert (running.namespace(file) == os.readlink(f"/proc/self/ns/{file}")) == (each == kind), each
    assert os.uname().nodename != "never-set"


async def test_namespaces_of_another_container_are_joined(bench: Bench) -> None:
    """`container:` modes: pid and network by the donor's pidfd, the others by path."""
    donor = await bench.start("sleep", "1000")
    joined = ("pid", "uts", "ipc", "network")

    def change(spec: Spec) -> None:
        for entry in spec["linux"]["namespaces"]:
            if entry["type"] in joined:
                entry["path"] = f"/proc/{donor.pid}/ns/{NAMESPACE_FILES[entry['type']]}"

    joining: dict[str, Any] = {
        "change": change,
        "message": {"joins": ["pid", "network"]},
        "donors": [donor.process.pidfd, donor.process.pidfd],
    }
    guest = await bench.start("sleep", "1000", **joining)
    for kind, file in NAMESPACE_FILES.items():
        assert (guest.namespace(file) == donor.namespace(file)) == (kind in joined), kind
    assert guest.status()["NSpid"].split()[-1] != "1"
    # Its own end leaves the donor alone; the donor's end takes it along, for the pid namespace ends.
    other = await bench.start("true", **joining)
    assert (await other.ended()).code == 0
    seen = await bench.start("sh", "-c", "ls -d /proc/[0-9]*", **joining)
    assert f"/proc/{guest.status()['NSpid'].split()[-1]}\n" in (await seen.ended()).out, "it sees its neighbours in its own /proc"
    await donor.kill()
    assert (await guest.ended()).code == 137


async def test_host_and_domain_names_are_set(bench: Bench) -> None:
    assert (
        await bench.ask("hostname; cat /proc/sys/kernel/domainname", change=lambda spec: spec.update(domainname="here")) == "bare\nhere\n"
    )


async def test_loopback_is_up_in_a_new_network_namespace(bench: Bench) -> None:
    """Also without a link: programs talk to themselves."""
    assert "inet 127.0.0.1/8" in await bench.ask("ip addr show lo")


async def test_nothing_of_a_container_is_on_the_host_while_it_runs_or_after(bench: Bench) -> None:
    """No mount ever shows in the host's mountinfo; after the end there is no cgroup and no process."""
    running = await bench.start("sleep", "1000")
    assert str(bench.base) not in Path("/proc/self/mountinfo").read_text()
    assert str(bench.base) not in Path(f"/proc/{bench.supervisor.keeper_pid}/mountinfo").read_text()
    assert list((running.directory / "rootfs").iterdir()) == []
    assert all(os.path.isdir(directory) for directory in running.plan["directories"])
    await running.kill()
    assert bench.remains() == []


async def test_containers_start_side_by_side(bench: Bench) -> None:
    """Requests that come while no monitor stands by are forked at once; each gets its own streams and code."""
    ended = await asyncio.gather(*(bench.script(f"echo {number}; exit {number}") for number in range(12)))
    assert [(int(each.out), each.code) for each in ended] == [(number, number) for number in range(12)]


def with_init(spec: Spec) -> None:
    spec["teul"]["init"] = True


async def test_init_is_pid_1_and_the_program_its_child(bench: Bench) -> None:
    """It passes the exit code on, and shows nothing of the host in its name."""
    running = await bench.start("sh", "-c", "cat /proc/1/comm; echo $$; exit 9", change=with_init)
    ended = await running.ended()
    assert (ended.out.split(), ended.code) == (["teul-init", "2"], 9)


async def test_init_forwards_signals(bench: Bench) -> None:
    """Those that a first process would be spared, too."""
    running = await bench.start("sh", "-c", "trap 'echo hup' HUP; echo ready; while :; do sleep 0.05; done", change=with_init)
    await running.read_until("ready")
    running.process.signal(signal.SIGHUP)
    await running.read_until("hup")
    running.process.signal(signal.SIGTERM)
    ended = await running.ended()
    assert ended.code == 128 + signal.SIGTERM


async def test_init_stays_when_its_child_may_not_be_signalled(bench: Bench) -> None:
    """A program that changed its user cannot be signalled by an init of another one; that is no reason to take the container down."""

    def change(spec: Spec) -> None:
        with_init(spec)
        for names in spec["process"]["capabilities"].values():
            names[:] = ["CAP_SETUID", "CAP_SETGID"]

    running = await bench.start("su", "judge", "-c", "echo ready; read line; id -u", change=change, stdin="open")
    await running.read_until("ready")
    running.process.signal(signal.SIGUSR1)
    await running.write("go\n")
    ended = await running.ended()
    assert (ended.out, ended.code) == ("ready\n1234\n", 0)


async def test_init_reaps_orphans(bench: Bench) -> None:
    """Processes whose parent is gone do not stay as zombies."""
    running = await bench.start("sleep", "1000", change=with_init)
    await running.ask("(sleep 0.02 & sleep 0.02 & true) & wait")

    def members() -> set[str]:
        return {processes.command_line(pid) or "zombie" for pid in processes.all_pids() if processes.namespace_of(pid, "pid") == namespace}

    namespace = running.namespace("pid")
    await eventually(lambda: members() == {"teul-init", "sleep 1000"}, "the orphans are gone")


async def test_init_of_a_terminal_passes_the_foreground_on(bench: Bench) -> None:
    """The program, not init, gets what the keyboard sends."""
    running = await bench.start(
        "sh",
        "-c",
        "trap 'echo interrupted; exit 4' INT; echo ready; while :; do sleep 0.05; done",
        change=with_init,
        tty=True,
        stdin="open",
    )
    await running.read_until("ready")
    await running.write("\x03")
    await running.read_until("interrupted")
    assert (await running.ended()).code == 4


async def test_a_program_that_asks_to_be_traced_by_its_parent_is_not_stopped(bench: Bench) -> None:
    """ptrace(2), PTRACE_TRACEME: its parent is the keeper, which must not leave it in a stop, nor take a stop for an end."""
    program = (
        "import ctypes, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
        "assert ctypes.CDLL(None).ptrace(0, 0, 0, 0) == 0\n"
        "print('traced', flush=True)\n"
        "time.sleep(1000)\n"
    )

    def with_the_hosts_root(spec: Spec) -> None:
        spec["mounts"].append(mount("/host", "bind", "/", "rbind", "rprivate", "ro"))

    container = await bench.start("chroot", "/host", sys.executable, "-I", "-S", "-c", program, change=with_the_hosts_root)
    await container.read_until("traced")
    container.process.signal(signal.SIGTERM)
    assert (await container.ended()).code == 7
