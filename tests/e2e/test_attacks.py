"""Attacks on the security invariants, from the outside and from inside a container."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from support import images, processes
from support.engine import Engine
from support.images import Image, directory, pack, symlink
from support.needs import needs
from support.polling import eventually

pytestmark = [needs("root", "docker_cli", "busybox", "overlayfs")]


def load(engine: Engine, name: str, *entries: images.Entry, leave_out: tuple[str, ...] = ()) -> None:
    base = [entry for entry in images.busybox_entries() if entry.name not in leave_out]
    engine.must("load", stdin=Image((name,), (pack([*base, *entries]),), {"Cmd": ["true"]}).docker_archive())


@pytest.fixture
def victim() -> Path:
    """A directory of the host at which images aim."""
    return Path("/tmp/teul-attack-victim")


MOUNT_TARGETS = ("proc", "sys", "dev", "etc", "etc/hosts", "etc/resolv.conf", "etc/hostname", "tmp")


@pytest.mark.parametrize("target", MOUNT_TARGETS)
@pytest.mark.parametrize("way", ["absolute", "relative", "proc"])
def test_symlinked_mount_target_does_not_lead_to_the_host(engine: Engine, victim: Path, target: str, way: str) -> None:
    """An image may make any mount target a symlink; mounts, directories and files must land inside the rootfs or not at all."""
    goal = {"absolute": str(victim), "relative": "../" * 12 + str(victim)[1:], "proc": "/proc/1/root" + str(victim)}[way]
    below = tuple(entry.name for entry in images.busybox_entries() if entry.name == target or entry.name.startswith(f"{target}/"))
    load(engine, "linked:1", symlink(target, goal), leave_out=below)
    victim.mkdir()
    try:
        engine.docker("run", "--rm", "linked:1", "true")
        engine.docker("run", "--rm", "--tmpfs", "/tmp/scratch", "-w", "/tmp/work", "linked:1", "true")
        left = sorted(path.name for path in victim.rglob("*"))
        assert left == [], f"DANGER: the engine followed a symlink of the image to the host: {left}"
        assert str(victim) not in Path("/proc/self/mountinfo").read_text(), "DANGER: something was mounted on the host"
    finally:
        for path in sorted(victim.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        victim.rmdir()
        engine.docker("rmi", "-f", "linked:1")


@pytest.mark.parametrize("option", [("-w", "/way/made"), ("--tmpfs", "/way/made"), ("--device", "/dev/null:/way/made")])
def test_paths_of_options_stay_inside_the_rootfs(engine: Engine, victim: Path, option: tuple[str, str]) -> None:
    """Working directories, tmpfs and devices are made below the rootfs, whatever the image's symlinks say."""
    load(engine, "linked:1", symlink("way", "../../../../../../../../../.." + str(victim)))
    victim.mkdir()
    try:
        engine.docker("run", "--rm", *option, "linked:1", "true")
        assert list(victim.iterdir()) == [], f"DANGER: {option} reached the host through a symlink"
    finally:
        for path in victim.iterdir():
            path.rmdir() if path.is_dir() else path.unlink()
        victim.rmdir()
        engine.docker("rmi", "-f", "linked:1")


def test_user_database_is_read_inside_the_rootfs(engine: Engine) -> None:
    """/etc/passwd as a symlink: names are looked up in the image's file, not in the host's."""
    load(engine, "linked:1", symlink("etc/passwd", "/../../../../../../etc/passwd"), leave_out=("etc/passwd",))
    output = engine.docker("run", "--rm", "-u", "root-of-the-host-only", "linked:1", "true")
    assert output.exit_code == 125
    daemon = engine.docker("run", "--rm", "-u", "www-data", "linked:1", "id", "-u")
    assert daemon.stdout.strip() != "33", "DANGER: the name was looked up in the host's passwd file"
    engine.must("rmi", "-f", "linked:1")


def descriptors(listing: str) -> list[str]:
    return [line.split(" ", 1)[0] for line in listing.splitlines() if line[:1].isdigit()]


_LIST = 'n=0; while [ $n -lt 100 ]; do [ -e /proc/$$/fd/$n ] && echo "$n $(readlink /proc/$$/fd/$n)"; n=$((n+1)); done; :'


def test_no_descriptor_leaks_into_a_container(engine: Engine) -> None:
    """CVE-2024-21626: one open directory of the host is enough to leave the container."""
    assert descriptors(engine.must("run", "--rm", "busybox", "sh", "-c", _LIST)) == ["0", "1", "2"]


def test_no_descriptor_leaks_into_an_exec(engine: Engine) -> None:
    container = engine.must("run", "-d", "busybox", "sleep", "1000")
    assert descriptors(engine.must("exec", container, "sh", "-c", _LIST)) == ["0", "1", "2"]


@pytest.mark.parametrize("number", range(3, 16))
def test_working_directory_cannot_be_a_descriptor_of_the_host(engine: Engine, number: int) -> None:
    """CVE-2024-21626: `-w /proc/self/fd/N` must not put the process into a directory outside of its root."""
    output = engine.docker(
        "run", "--rm", "-w", f"/proc/self/fd/{number}", "busybox", "sh", "-c", "cd ../../../../..; ls -d root/.ssh work 2>&1; pwd"
    )
    assert "DANGER" not in output.stdout
    assert "work\n" not in output.stdout.replace("ls: work", "")
    container = engine.must("run", "-d", "busybox", "sleep", "1000")
    entered = engine.docker(
        "exec",
        "-w",
        f"/proc/self/fd/{number}",
        container,
        "sh",
        "-c",
        "cat ../../../../../../proc/sys/kernel/osrelease >/dev/null; ls ../../../../..",
    )
    assert "work" not in entered.stdout.split(), "DANGER: the exec sees the host's root directory"


def test_engines_binary_cannot_be_reached_through_proc_self_exe(engine: Engine) -> None:
    """CVE-2019-5736: a container whose program is /proc/self/exe must not get hold of the engine's interpreter."""
    interpreter = Path(os.path.realpath(f"/proc/{engine.pid}/exe"))
    before = interpreter.stat()
    load(engine, "self:1", symlink("bin/self", "/proc/self/exe"))
    for command in (["/proc/self/exe"], ["/bin/self", "-c", "print('DANGER')"], ["/proc/1/exe", "-c", "print('DANGER')"]):
        output = engine.docker("run", "--rm", "self:1", *command)
        assert "DANGER" not in output.stdout, f"DANGER: {command} runs the engine's interpreter inside the container"
    container = engine.must("run", "-d", "self:1", "sleep", "1000")
    for command in (["/proc/self/exe", "-c", "print('DANGER')"], ["/bin/self", "-c", "print('DANGER')"]):
        assert "DANGER" not in engine.docker("exec", container, *command).stdout
    after = interpreter.stat()
    assert (before.st_ino, before.st_mtime_ns, before.st_size) == (after.st_ino, after.st_mtime_ns, after.st_size)
    engine.remove_containers()
    engine.must("rmi", "-f", "self:1")


def test_process_that_joins_a_container_cannot_be_inspected_from_inside(engine: Engine) -> None:
    """CVE-2016-9962: from joining the pid namespace to exec, the entering process is non-dumpable.

    A loop inside tries to read the memory map, descriptors and root of every process that appears; while exec after exec comes in,
    it must never see anything that is not the container's own.
    """
    watcher = (
        "while [ ! -e /done ]; do for p in /proc/[0-9]*; do "
        "grep -l -s p[y]thon $p/maps $p/cmdline; readlink $p/exe 2>/dev/null | grep p[y]thon; "
        "ls -l $p/fd 2>/dev/null | grep -E 't[e]ul|docker[.]sock'; "
        "done; done"
    )
    container = engine.must("run", "-d", "busybox", "sh", "-c", watcher)
    for _ in range(40):
        engine.must("exec", container, "true")
    engine.must("exec", container, "touch", "/done")
    engine.must("wait", container)
    assert engine.must("logs", container) == "", "DANGER: the container can look into the engine's process"


def test_container_cannot_see_or_signal_the_hosts_processes(engine: Engine) -> None:
    output = engine.must("run", "--rm", "busybox", "sh", "-c", "ls -d /proc/[0-9]* | wc -l; kill -0 -1 2>&1 | head -1")
    assert int(output.split()[0]) < 10


def test_container_cannot_reach_the_engine(engine: Engine) -> None:
    """Neither socket, root nor run directory is visible inside, under any name in its mount table."""
    mounts = engine.must("run", "--rm", "busybox", "cat", "/proc/self/mountinfo")
    assert str(engine.run_root) not in mounts
    assert "docker.sock" not in mounts
    assert engine.docker("run", "--rm", "busybox", "ls", str(engine.base)).exit_code != 0


def test_masked_paths_stay_masked(engine: Engine) -> None:
    """Also for an exec, and after an attempt to unmount them."""
    container = engine.must("run", "-d", "busybox", "sleep", "1000")
    unmask = "(umount /proc/keys; umount -l /sys/firmware; mount -o remount,rw /proc/sys) 2>/dev/null"
    assert engine.must("exec", container, "sh", "-c", f"{unmask}; wc -c < /proc/keys; ls /sys/firmware").split() == ["0"]
    assert engine.docker("exec", container, "sh", "-c", "echo 1 > /proc/sys/kernel/panic").exit_code != 0


def test_masked_files_are_not_the_hosts_device_nodes(engine: Engine) -> None:
    """A path masked with the host's own /dev/null would let root inside change that node's owner and mode for the whole host."""
    before = os.stat("/dev/null").st_ctime_ns
    # The mode that it has anyway, so that a failing test does no harm: the inode's change time tells.
    engine.docker("run", "--rm", "busybox", "sh", "-c", "chmod 666 /proc/keys /proc/timer_list /proc/interrupts")
    assert os.stat("/dev/null").st_ctime_ns == before, "DANGER: /proc/keys is the host's /dev/null, and root inside may change it"


def test_device_filter_holds_for_nodes_made_inside(engine: Engine) -> None:
    """mknod is allowed, opening the node is not: block and memory devices of the host stay closed."""
    script = "mknod /mem c 1 1; mknod /disk b 254 0; mknod /kmsg c 1 11; "
    script += "for n in /mem /disk /kmsg; do head -c 1 $n >/dev/null 2>&1 && echo open $n; done; :"
    assert engine.must("run", "--rm", "busybox", "sh", "-c", script) == ""
    container = engine.must("run", "-d", "busybox", "sleep", "1000")
    assert engine.must("exec", container, "sh", "-c", script) == "", "the filter does not hold for an exec"


def test_capabilities_of_an_exec_are_not_more_than_the_containers(engine: Engine) -> None:
    container = engine.must("run", "-d", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "busybox", "sleep", "1000")
    status = engine.must("exec", container, "grep", "-E", "^(Cap|NoNewPrivs|Seccomp:)", "/proc/self/status")
    values = dict(line.split(":\t") for line in status.splitlines())
    assert {values[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (values["NoNewPrivs"], values["Seccomp"]) == ("1", "2")


def test_a_forged_proc_does_not_give_an_exec_more_rights(engine: Engine) -> None:
    """An image whose /proc is a link is refused, or everything that an exec takes from /proc is the host's: never the forged one's."""
    below = tuple(entry.name for entry in images.busybox_entries() if entry.name == "proc" or entry.name.startswith("proc/"))
    load(engine, "forged:1", symlink("proc", "/p"), directory("p"), leave_out=below)
    result = engine.docker("run", "-d", "--name", "forged", "forged:1", "sleep", "1000")
    assert result.exit_code != 0
    assert "must be mounted on an ordinary directory" in result.stderr


def test_an_exec_does_not_open_what_the_container_put_at_dev_null(engine: Engine) -> None:
    """The standard input of a detached exec is /dev/null; a container that replaced it must not choose what is opened."""
    engine.must("run", "-d", "--name", "nulled", "busybox", "sh", "-c", "rm /dev/null; ln -s /etc/passwd /dev/null; sleep 1000")
    eventually(
        lambda: "passwd" in engine.docker("exec", "-i", "nulled", "readlink", "/dev/null").stdout, "the container replaces its device"
    )
    result = engine.docker("exec", "nulled", "true")
    assert result.exit_code != 0
    assert "is not the null device" in result.stdout + result.stderr


def test_socket_is_for_root_and_its_group_only(engine: Engine) -> None:
    """Who can write to the socket is root on this machine."""
    mode = stat.S_IMODE(engine.socket_path.stat().st_mode)
    assert mode & 0o007 == 0, f"DANGER: everyone can use the socket ({mode:o})"
    assert engine.socket_path.stat().st_uid == 0


@pytest.mark.parametrize("path", ["root", "run"])
def test_engines_directories_are_closed_to_others(engine: Engine, path: str) -> None:
    """Set-user-id programs and secrets of containers must not be within reach of the host's users."""
    top = {"root": engine.root, "run": engine.run_root}[path]
    container = engine.must("run", "-d", "busybox", "sleep", "1000")
    exposed: list[str] = []
    for directory_path, _, names in os.walk(top):
        if not os.stat(directory_path).st_mode & 0o001:
            continue
        exposed += [
            f"{directory_path}/{name}"
            for name in names
            if os.lstat(f"{directory_path}/{name}").st_mode & 0o4002 and _is_reachable(directory_path)
        ]
    engine.must("rm", "-f", container)
    assert not exposed, f"DANGER: reachable by everyone: {exposed[:5]}"


def test_an_open_root_is_closed_at_the_next_start(fresh_engine: Engine) -> None:
    """An engine of before, or a careless hand, may have left it open; the engine works in it as before."""
    container = fresh_engine.must("run", "-d", "busybox", "sleep", "1000")
    fresh_engine.kill9()
    root, run = fresh_engine.root, fresh_engine.run_root
    places = [root, *(root / name for name in ("blobs", "blobs/sha256", "snapshots", "containers", "tmp")), run / "containers"]
    for path in (*places, *root.glob("teul.db*")):
        path.chmod(0o755)
    fresh_engine.start()
    assert fresh_engine.must("exec", container, "echo", "inside") == "inside"
    assert fresh_engine.must("run", "--rm", "-u", "1000", "busybox", "cat", "/etc/hostname")
    open_ones = [str(path) for path in (*places, *root.glob("teul.db*")) if path.stat().st_mode & 0o007]
    assert not open_ones, f"DANGER: readable by everyone: {open_ones}"
    assert fresh_engine.socket_path.stat().st_mode & 0o777 == 0o660


def _is_reachable(path: str) -> bool:
    """Whether a stranger can enter every directory on the way. The test's own directory is 0700 and does not count."""
    parts = Path(path).relative_to("/tmp").parts
    return all(os.stat(os.path.join("/tmp", *parts[:depth])).st_mode & 0o001 for depth in range(2, len(parts) + 1))


def test_options_are_never_interpreted(engine: Engine, tmp_path: Path) -> None:
    """Commas, colons, quotes and newlines in what a client sends do not become mount options, rules or commands."""
    trap = tmp_path / "executed"
    nasty = f"a,b:c;$(touch {trap})`touch {trap}`\n'\"|&"
    output = engine.must("run", "--rm", "-e", f"N={nasty}", "--label", f"l={nasty}", "busybox", "sh", "-c", 'printf %s "$N"')
    assert output == nasty
    engine.docker("run", "--rm", "--hostname", "h;touch", "busybox", "true")
    engine.docker("run", "--rm", "--tmpfs", f"/t:size=1m,lowerdir={tmp_path}", "busybox", "true")
    assert not trap.exists(), "DANGER: text of a client was executed"


def test_malformed_requests_do_not_disturb_the_engine(engine: Engine) -> None:
    """Whatever is thrown at the socket, the next request is answered."""
    for data in (
        b"\0" * 1000,
        b"GET\r\n\r\n",
        b'POST /v1.41/containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n{"a":',
        b"GET / HTTP/9.9\r\n\r\n",
    ):
        with socket.socket(socket.AF_UNIX) as stream:
            stream.settimeout(5)
            stream.connect(str(engine.socket_path))
            stream.sendall(data)
            stream.shutdown(socket.SHUT_WR)
            while stream.recv(65536):
                continue
    with engine.api() as api:
        for body in (b"not json", b"[]", b'{"Image": 5}', b"\xff\xfe", b'{"HostConfig": "x"}', b"[" * 10_000):
            assert api.request("POST", "/containers/create", body).status == 400
        assert api.request("GET", "/containers/..%2f..%2fetc/json").status in {400, 404}
        assert api.request("GET", "/no/such/route").status == 404
        assert api.expect(200, "GET", "/_ping").body == b"OK"


def test_fork_bomb_is_held_by_its_limit(engine: Engine) -> None:
    """And removing it by force works while it is at it."""
    container = engine.must("run", "-d", "--pids-limit", "30", "busybox", "sh", "-c", "b() { b | b & }; b; while :; do sleep 1; done")
    inside = processes.namespace_of(engine.init_pid(container), "pid")
    assert sum(processes.namespace_of(pid, "pid") == inside for pid in processes.all_pids()) <= 31
    engine.must("rm", "-f", container)
    eventually(lambda: not any(processes.namespace_of(pid, "pid") == inside for pid in processes.all_pids()), "the bomb is gone")


def test_directory_entries_are_made_with_safe_modes(engine: Engine) -> None:
    """A directory that the engine makes for a mount target is not writable by everyone."""
    load(engine, "bare:1", directory("only"), leave_out=("proc", "sys", "dev"))
    modes = engine.must("run", "--rm", "--tmpfs", "/a/b:mode=700", "bare:1", "stat", "-c", "%a %n", "/proc", "/sys", "/dev", "/a", "/a/b")
    assert all(int(line.split()[0][-1]) & 2 == 0 for line in modes.splitlines()), modes
    engine.must("rmi", "-f", "bare:1")
