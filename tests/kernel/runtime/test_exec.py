"""One more process in a running container: where it is, who it is, how it ends."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kernel.runtime.bare_containers import CAPABILITIES, NAMESPACE_FILES, Bench, Spec, eventually
from support import processes
from support.needs import needs
from teul.linux import caps, seccomp
from teul.runtime.engine.process import StartError

pytestmark = [needs("root", "busybox", "overlayfs"), pytest.mark.asyncio(loop_scope="session")]


async def test_namespaces_root_and_cgroup_are_the_containers(bench: Bench) -> None:
    container = await bench.start("sleep", "1000")
    inner = await container.exec("sleep", "1000")
    for kind, file in NAMESPACE_FILES.items():
        assert inner.namespace(file) == container.namespace(file), kind
    assert Path(f"/proc/{inner.pid}/cgroup").read_text() == Path(f"/proc/{container.pid}/cgroup").read_text()
    assert os.path.samefile(inner.root, container.root)
    assert inner.status()["NSpid"].split()[-1] != "1"


async def test_streams_and_exit_code(bench: Bench) -> None:
    container = await bench.start("sleep", "1000")
    inner = await container.exec("sh", "-c", "read line; echo got $line; echo err >&2; exit 42", stdin="once")
    await inner.write("typed\n")
    ended = await inner.ended()
    assert (ended.out, ended.err, ended.code) == ("got typed\n", "err\n", 42)
    killed = await container.exec("sleep", "1000")
    assert (await killed.kill()).code == 137
    assert not container.process.exit.done()


async def test_terminal(bench: Bench) -> None:
    """One of the container's, with the size that was asked, and a session of its own."""
    container = await bench.start("sh", "-c", "tty; exec sleep 1000", tty=True)
    await container.read_until("/dev/pts/0")
    inner = await container.exec("sh", "-c", "tty; stty size; read line; stty size; exit 3", tty=True, stdin="open", size=(11, 22))
    await inner.read_until("11 22")
    inner.process.resize(33, 44)
    await inner.write("go\n")
    ended = await inner.ended()
    assert (ended.out.split("\r\n")[0], ended.code) == ("/dev/pts/1", 3)
    assert "33 44" in ended.out


async def test_user_directory_and_environment(bench: Bench) -> None:
    container = await bench.start("sleep", "1000")
    request = {"cwd": "/tmp", "env": ["PATH=/bin", "A=b"]}
    inner = await container.exec("sh", "-c", "id -u; id -g; id -G; pwd; echo $A $HOME", process=request, teul={"user": "judge:video"})
    assert (await inner.ended()).out == "1234\n44\n44\n/tmp\nb /home/judge\n"


async def test_capabilities_are_not_more_than_asked(bench: Bench) -> None:
    container = await bench.start("sleep", "1000")
    inner = await container.exec("sleep", "1000")
    assert set(caps.names(caps.process_masks(inner.pid)["bounding"])) == set(CAPABILITIES)
    bare = await container.exec("sleep", "1000", process={"capabilities": {}, "noNewPrivileges": True})
    assert set(caps.process_masks(bare.pid).values()) == {0}
    assert bare.status()["NoNewPrivs"] == "1"


@needs("seccomp")
async def test_filter_is_the_containers(bench: Bench, seccomp_filter: Path) -> None:
    """As privileged as it may be."""

    def change(spec: Spec) -> None:
        spec["teul"].update(seccomp_bpf=str(seccomp_filter), seccomp_flags=seccomp.SECCOMP_FILTER_FLAG_SPEC_ALLOW)

    container = await bench.start("sleep", "1000", change=change)
    inner = await container.exec("sleep", "1000")
    assert inner.status()["Seccomp"] == "2"


async def test_files_go_through_the_containers_root(bench: Bench) -> None:
    """The program, its interpreter and the users are those of the container, changed as it may have them."""
    container = await bench.start(
        "sh",
        "-c",
        "echo 'late:x:77:78::/late:' >> /etc/passwd; printf '#!/bin/sh\\necho own $(id -u)\\n' > /tool; chmod 755 /tool; echo ready; exec sleep 1000",
    )
    await container.read_until("ready")
    inner = await container.exec("/tool", teul={"user": "late"})
    assert (await inner.ended()).out == "own 77\n"


async def test_working_directory_is_not_made(bench: Bench) -> None:
    """docker: only the container's first process has its directory made."""
    container = await bench.start("sleep", "1000")
    with pytest.raises(StartError) as caught:
        await container.exec("true", process={"cwd": "/no/such"})
    assert caught.value.step == "set the working directory"
    assert "/no/such" in caught.value.message


@pytest.mark.parametrize(
    ("program", "text"),
    [
        ("no-such-program", r'exec: "no-such-program": executable file not found in \$PATH'),
        ("/no/such/program", 'exec: "/no/such/program": stat /no/such/program: no such file or directory'),
        ("/etc/passwd", 'exec: "/etc/passwd": permission denied'),
        ("/etc", 'exec: "/etc": is a directory'),
    ],
)
async def test_program_that_cannot_be_run_is_reported_and_the_container_goes_on(bench: Bench, program: str, text: str) -> None:
    container = await bench.start("sleep", "1000")
    with pytest.raises(StartError, match=text) as caught:
        await container.exec(program)
    assert (caught.value.step, caught.value.kind) == ("find the program", "ProgramError")
    assert await container.ask("echo alive") == "alive\n"
    inside = [
        pid for pid in processes.all_pids() if processes.is_alive(pid) and processes.namespace_of(pid, "pid") == container.namespace("pid")
    ]
    assert inside == [container.pid]


async def test_arguments_may_be_long(bench: Bench) -> None:
    """Up to the kernel's own limit for them, far more than one message between our processes holds."""
    container = await bench.start("sleep", "1000")
    words = [f"{number:08}" + "x" * 10_000 for number in range(100)]
    inner = await container.exec("sh", "-c", 'echo $# ${#1}; shift 99; echo "$1" | cut -c1-8', "sh", *words)
    assert (await inner.ended()).out == "100 10008\n00000099\n"
    with pytest.raises(StartError) as caught:
        await container.exec("/" + "y" * 100_000)
    assert caught.value.errno in {None, 36}
    assert await container.ask("echo alive") == "alive\n"


async def test_exec_ends_with_its_container(bench: Bench) -> None:
    """Killed with everything else in the pid namespace; its exit code says so."""
    container = await bench.start("sleep", "1000")
    inner = await container.exec("sh", "-c", "echo ready; exec sleep 1000")
    await inner.read_until("ready")
    await container.kill()
    assert (await inner.ended()).code == 137


async def test_exec_into_an_ended_container_fails(bench: Bench) -> None:
    """The pidfd cannot be mistaken for another process."""
    container = await bench.start("sleep", "1000")
    pidfd = os.dup(container.process.pidfd)
    await container.kill()
    directory = bench.new_directory("late")
    (directory / "config.json").write_text('{"process": {"args": ["true"], "cwd": "/"}, "teul": {}}')
    try:
        with pytest.raises(StartError) as caught:
            await bench.launch(
                {"kind": "exec", "cgroup": container.plan, "joins": ["container"]}, directory, container.plan, {}, donors=[pidfd]
            )
    finally:
        os.close(pidfd)
    assert caught.value.step in {"enter the pid namespace", "fork"}


async def test_many_execs_at_once(bench: Bench) -> None:
    import asyncio

    container = await bench.start("sleep", "1000")
    answers = await asyncio.gather(*(container.ask(f"echo {number}") for number in range(8)))
    assert answers == [f"{number}\n" for number in range(8)]


async def test_exec_leaves_nothing_behind_in_the_container(bench: Bench) -> None:
    """No zombie of it, no mount, no terminal."""
    container = await bench.start("sh", "-c", "while :; do sleep 1000; done")
    before = await container.ask("cat /proc/mounts | wc -l; ls /dev/pts")
    terminal = await container.exec("true", tty=True)
    await terminal.ended()
    await (await container.exec("false")).ended()
    assert await container.ask("cat /proc/mounts | wc -l; ls /dev/pts") == before
    await eventually(
        lambda: len([pid for pid in processes.all_pids() if processes.namespace_of(pid, "pid") == container.namespace("pid")]) == 2,
        "no zombies",
    )
