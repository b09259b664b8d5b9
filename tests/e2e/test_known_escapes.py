"""Escapes that other engines are known for, tried on this one. THREAT_MODEL.md has the list, with where each is tried.

Those that need many rounds against a container that swaps paths are in `test_swapped_paths`; those of descriptors, programs and devices in
`test_attacks`.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support import images, processes
from support.engine import Engine
from support.images import Image, file, pack
from support.needs import needs

pytestmark = [needs("root", "docker_cli", "busybox", "overlayfs")]

SECRET = "of the host only"
# A v1 hierarchy of one's own, and in it the program that the kernel starts as root of the host when a cgroup becomes empty.
RELEASE_AGENT = """
mkdir /mine
for controllers in none,name=teul-escape memory rdma cpuset pids; do
  mount -t cgroup -o $controllers cgroup /mine 2>/dev/null && echo "DANGER: $controllers mounted"
done
for file in /sys/fs/cgroup/release_agent /sys/fs/cgroup/*/release_agent /mine/release_agent; do
  [ -e $file ] && echo /danger 2>/dev/null > $file && echo "DANGER: $file written"
done
mount -o remount,rw /sys/fs/cgroup 2>/dev/null && echo "DANGER: writable again"
echo tried
"""


# Busybox's own knows no cgroup namespaces.
UNSHARE = ("-v", "/usr/bin/unshare:/bin/unshare-all:ro", "-v", "/lib:/lib:ro", "-v", "/lib64:/lib64:ro")


@pytest.mark.parametrize(
    "way", ["", "/bin/unshare-all -r -m -C", "/bin/unshare-all -m -C"], ids=["as it is", "user namespace", "cgroup namespace"]
)
@pytest.mark.parametrize("options", [(), ("--security-opt", "seccomp=unconfined")], ids=["filtered", "unfiltered"])
def test_no_release_agent(engine: Engine, options: tuple[str, ...], way: str) -> None:
    """CVE-2022-0492: a container with a user namespace of its own mounts cgroups there, and names a program of its own.

    Without the filter nothing keeps it from having that namespace; the kernel since 5.17, and what is read-only, from writing the name.
    """
    script = RELEASE_AGENT if options == () or not way else RELEASE_AGENT.replace('&& echo "DANGER: $controllers mounted"', "")
    command = [*way.split(), "sh", "-c", script]
    output = engine.docker("run", "--rm", "--network", "none", *options, *UNSHARE, "busybox", *command)
    assert "DANGER" not in output.stdout, output.stdout
    assert "tried" in output.stdout or "not permitted" in output.stderr, output.stderr


def test_nothing_listens_at_an_abstract_socket(engine: Engine) -> None:
    """CVE-2020-15257: abstract sockets belong to the network namespace, and a container with the host's reaches them: no file protects them."""
    engine.must("network", "create", "escapes")
    engine.must("run", "-d", "--network", "escapes", "-p", "127.0.0.1:0:7", "busybox", "sleep", "1000")
    engine.must("run", "-d", "-t", "busybox", "sleep", "1000")
    seen = engine.must("run", "--rm", "--network", "host", "busybox", "cat", "/proc/net/unix").splitlines()
    abstract = {line.split()[6]: line.split()[7] for line in seen if line.split()[7:] and line.split()[7].startswith("@")}
    ours = {_socket(f"/proc/{pid}/fd/{fd}") for pid in engine.engine_processes() for fd in os.listdir(f"/proc/{pid}/fd")}
    assert len(ours) > 3
    assert not ours & set(abstract), f"DANGER: in reach of containers: {[abstract[inode] for inode in ours & set(abstract)]}"
    engine.remove_containers()
    engine.must("network", "rm", "escapes")


def _socket(path: str) -> str:
    """The inode of the socket that a descriptor leads to, or what else it leads to."""
    try:
        return os.readlink(path).removeprefix("socket:[").removesuffix("]")
    except FileNotFoundError:
        return ""


@pytest.mark.parametrize("way", ["../../../../../../../..", "/volume/../../../../../../../..", "link"])
def test_an_images_volume_gets_nothing_of_the_hosts(engine: Engine, tmp_path: Path, way: str) -> None:
    """CVE-2022-23648: what an image has at the path of a volume is copied into it; the path, or a link in it, leads out of the image."""
    (tmp_path / "secret").write_text(SECRET)
    path = f"/{way}{tmp_path}" if way != "link" else "/link/data"
    entries = [*images.busybox_entries(), images.symlink("link", "../../../../../../../.." + str(tmp_path.parent))]
    if way == "link":
        tmp_path.rename(tmp_path.parent / "data")
    engine.must("load", stdin=Image(("volumes:1",), (pack(entries),), {"Cmd": ["true"], "Volumes": {path: {}}}).docker_archive())
    try:
        engine.docker("run", "--name", "escape", "volumes:1", "true")
        volumes = engine.docker("volume", "ls", "-q").stdout.split()
        for volume in volumes:
            found = engine.docker("run", "--rm", "-v", f"{volume}:/found", "busybox", "sh", "-c", "cat /found/* 2>/dev/null; find /found")
            assert SECRET not in found.stdout, "DANGER: a file of the host was copied into a volume"
            assert "secret" not in found.stdout
        assert (tmp_path.parent / "data" if way == "link" else tmp_path).joinpath("secret").read_text() == SECRET
    finally:
        engine.remove_containers()
        engine.docker("volume", "prune", "-f")
        engine.must("rmi", "-f", "volumes:1")
        if way == "link":
            (tmp_path.parent / "data").rename(tmp_path)


def test_a_library_of_the_containers_is_not_loaded(engine: Engine, tmp_path: Path) -> None:
    """CVE-2019-14271: whatever works on a container's files could load a library from there, which runs as root of the host.

    Every library and module that the engine's interpreter has, or might want, is there under its own path and tells when it is opened.
    """
    loaded = {line.split()[-1] for line in Path(f"/proc/{engine.pid}/maps").read_text().splitlines() if ".so" in line}
    names = loaded | {f"/lib/x86_64-linux-gnu/libnss_{name}.so.2" for name in ("files", "dns", "compat", "systemd")}
    names |= {"/etc/ld.so.cache", "/etc/ld.so.preload", "/usr/lib/x86_64-linux-gnu/gconv/gconv-modules", "/etc/ssl/openssl.cnf"}
    names |= {"/usr/lib/ssl/openssl.cnf", "/etc/nsswitch.conf", "/lib/x86_64-linux-gnu/libgcc_s.so.1"}
    planted = [file(name.lstrip("/"), "no library\n", 0o755) for name in sorted(names)]
    image = Image(("planted:1",), (pack([*images.busybox_entries(), *planted]),), {"Cmd": ["true"]})
    engine.must("load", stdin=image.docker_archive())
    container = engine.must("run", "-d", "-u", "judge", "-v", "planted:/etc", "planted:1", "sleep", "1000")
    (tmp_path / "file").write_text("in")
    try:
        engine.must("cp", str(tmp_path / "file"), f"{container}:/tmp/file")
        engine.must("cp", "-a", f"{container}:/tmp/file", str(tmp_path / "out"))
        assert engine.must("exec", "-u", "judge:video", container, "id", "-un") == "judge"
        assert "A /tmp/file" in engine.must("diff", container)
        engine.must("commit", container, "planted:2")
        engine.must("export", "-o", str(tmp_path / "export"), container)
        inside = processes.namespace_of(engine.init_pid(container), "mnt")
        assert inside not in {processes.namespace_of(pid, "mnt") for pid in engine.engine_processes()}
    finally:
        engine.remove_containers()
        engine.must("rmi", "-f", "planted:1", "planted:2")
        engine.must("volume", "rm", "planted")


def test_what_a_container_has_at_proc_is_not_written_to(engine: Engine) -> None:
    """CVE-2025-52881: a kernel parameter, a label, a limit is written through /proc; not through one that leads elsewhere.

    The image has links at /proc/sys and /proc/self, which a /proc that is mounted hides, and one at /proc itself, which is refused.
    """
    before = Path("/proc/sys/kernel/core_pattern").read_text()
    for name, goal in (("proc", "/sys"), ("proc", "/fake"), ("proc", "/dev/shm")):
        below = [entry for entry in images.busybox_entries() if entry.name != "proc" and not entry.name.startswith("proc/")]
        fake = [images.directory("fake"), images.directory("fake/sys"), images.directory("fake/sys/net"), file("fake/sys/net/unix", "")]
        entries = [*below, *fake, images.symlink(name, goal)]
        engine.must("load", stdin=Image(("forged:2",), (pack(entries),), {"Cmd": ["true"]}).docker_archive())
        output = engine.docker("run", "--rm", "--sysctl", "net.ipv4.ip_forward=0", "--oom-score-adj", "500", "forged:2", "true")
        assert output.exit_code == 125
        assert "must be mounted on an ordinary directory" in output.stderr
        engine.must("rmi", "-f", "forged:2")
    assert Path("/proc/sys/kernel/core_pattern").read_text() == before
