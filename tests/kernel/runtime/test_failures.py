"""A start that fails says at which step and why, and takes everything back."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

import pytest

from kernel.runtime.bare_containers import Bench, Spec, bind, mount
from support import processes
from support.needs import needs
from teul.runtime.engine.process import StartError

pytestmark = [needs("root", "busybox", "overlayfs"), pytest.mark.asyncio(loop_scope="session")]


def change_mounts(*mounts: dict[str, Any]) -> Callable[[Spec], None]:
    return lambda spec: spec["mounts"].extend(mounts)


def sysctl(name: str, value: str) -> Callable[[Spec], None]:
    return lambda spec: spec["linux"].update(sysctl={name: value})


def namespace(kind: str, path: str) -> Callable[[Spec], None]:
    def change(spec: Spec) -> None:
        next(entry for entry in spec["linux"]["namespaces"] if entry["type"] == kind)["path"] = path

    return change


def missing_layer(spec: Spec) -> None:
    spec["teul"]["rootfs"]["lower"].insert(0, "/no/such/layer")


CASES: list[tuple[str, tuple[str, ...], Callable[[Spec], None] | None, str, int | None, str]] = [
    ("program missing", ("no-such",), None, "find the program", None, r'exec: "no-such": executable file not found in \$PATH'),
    ("program not executable", ("/etc/not-executable",), None, "find the program", None, 'exec: "/etc/not-executable": permission denied'),
    ("program a directory", ("/etc",), None, "find the program", None, 'exec: "/etc": is a directory'),
    ("bind source missing", ("true",), change_mounts(bind("/no/such/source", "/x")), "mount /x", errno.ENOENT, "/no/such/source"),
    ("unknown file system", ("true",), change_mounts(mount("/x", "nonsensefs", "x")), "mount /x", errno.ENODEV, "nonsensefs"),
    ("unknown mount option", ("true",), change_mounts(mount("/x", "tmpfs", "x", "nonsense=1")), "mount /x", errno.EINVAL, "nonsense"),
    ("sysctl missing", ("true",), sysctl("net.no.such", "1"), "set sysctl net.no.such", errno.ENOENT, "no/such"),
    ("sysctl value wrong", ("true",), sysctl("kernel.msgmax", "many"), "set sysctl kernel.msgmax", errno.EINVAL, "Invalid argument"),
    ("layer missing", ("true",), missing_layer, "mount the root file system", errno.ENOENT, "/no/such/layer"),
    ("namespace gone", ("true",), namespace("network", "/proc/1/ns/no-such"), "open network namespace", errno.ENOENT, "no-such"),
    ("not a namespace", ("true",), namespace("ipc", "/etc/passwd"), "enter namespaces", errno.EINVAL, "setns"),
]


@pytest.mark.parametrize(("args", "change", "step", "number", "text"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
async def test_failure_is_reported_and_leaves_nothing(
    bench: Bench, args: tuple[str, ...], change: Callable[[Spec], None] | None, step: str, number: int | None, text: str
) -> None:
    """The step, the kernel's errno and what it was about; no process, cgroup, mount or socket afterwards."""
    with pytest.raises(StartError, match=text) as caught:
        await bench.start(*args, change=change)
    assert (caught.value.step, caught.value.errno) == (step, number)
    assert bench.remains() == []
    assert not [path for path in bench.base.rglob("*") if path.name in {"monitor.sock", "exit.json"}]
    # The keeper is none the worse for it.
    assert (await bench.run("true")).code == 0


async def test_missing_interpreter_is_the_programs_own_end(bench: Bench) -> None:
    """As runc: by then the container has started, so its stderr and exit code say it."""
    layer = bench.make_layer({"bin/script": "#!/no/such/interpreter\n"})
    ended = await bench.run("script", layers=(layer,))
    assert (ended.code, ended.err) == (255, "exec /bin/script: no such file or directory\n")


async def test_wrong_architecture_is_the_programs_own_end(bench: Bench) -> None:
    layer = bench.make_layer({"bin/nonsense": "\x7fELF and so on\n"})
    ended = await bench.run("nonsense", layers=(layer,))
    assert (ended.code, ended.err) == (255, "exec /bin/nonsense: exec format error\n")


async def test_limit_that_the_kernel_refuses(bench: Bench) -> None:
    with pytest.raises(StartError, match="cpu") as caught:
        await bench.start("true", resources={"cpu": {"quota": 3}})
    assert (caught.value.step, caught.value.errno) == ("make the cgroup", errno.EINVAL)
    assert bench.remains() == []


async def test_spec_that_makes_no_sense_is_reported(bench: Bench) -> None:
    with pytest.raises(StartError, match="destination") as caught:
        await bench.start("true", change=lambda spec: spec["mounts"].append({"type": "tmpfs"}))
    assert caught.value.kind == "KeyError"
    assert bench.remains() == []


async def test_failed_link_leaves_no_link(bench: Bench) -> None:
    """The bridge is not there: the child, which waits for its link, is ended."""
    plan = {
        "host_name": f"tl{os.getpid()}",
        "bridge": "no-such-bridge",
        "mac": "02:42:0a:00:00:02",
        "mtu": 1500,
        "container_name": "eth0",
        "addresses": ["10.255.255.2/24"],
        "gateway": None,
        "gateway6": None,
    }
    with pytest.raises(StartError, match="no-such-bridge") as caught:
        await bench.start("true", message={"networks": [plan]})
    assert caught.value.step == "make the network link"
    assert not os.path.exists(f"/sys/class/net/{plan['host_name']}")
    assert bench.remains() == []


async def test_failures_in_a_row_leave_no_processes(bench: Bench) -> None:
    """No zombie of a monitor or of a child that failed stays with the keeper."""
    keeper = bench.supervisor.keeper_pid
    for _ in range(5):
        with pytest.raises(StartError):
            await bench.start("no-such")
    await bench.run("true")
    # One monitor stands by; the one of the last container may be on its way out.
    assert len(processes.children_of(keeper)) <= 3
