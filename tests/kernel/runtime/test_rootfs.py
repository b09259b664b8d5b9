"""What a container sees: its root, mounts, devices, and what is hidden from it. Nothing of it is ever resolved on the host."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel.runtime.bare_containers import Bench, Spec, bind, mount
from support.needs import needs
from support.side_by_side import alone
from teul.runtime.engine.process import StartError

pytestmark = [needs("root", "busybox", "overlayfs"), pytest.mark.asyncio(loop_scope="session")]


async def test_layers_lie_over_each_other(bench: Bench) -> None:
    """The first one of the list is the topmost; what is written goes to the upper directory alone."""
    bottom = bench.make_layer({"etc/both": "bottom\n", "etc/bottom": "bottom\n"})
    top = bench.make_layer({"etc/both": "top\n"})
    running = await bench.start(
        "sh", "-c", "cat /etc/both /etc/bottom; echo changed > /etc/bottom; rm /etc/both; exit", layers=(top, bottom)
    )
    assert (await running.ended()).out == "top\nbottom\n"
    assert (bottom / "etc/bottom").read_text() == "bottom\n"
    assert (top / "etc/both").exists()
    upper = running.directory / "upper/etc"
    assert (upper / "bottom").read_text() == "changed\n"
    assert stat.S_ISCHR((upper / "both").lstat().st_mode), "the whiteout"


async def test_many_layers_with_awkward_names(bench: Bench) -> None:
    """As many as an image may have, at paths of any length, with the signs that mean something in mount options."""
    layers = []
    for number in range(120):
        layer = bench.base / f"{'long' * 20}:a,b\\c=d {number}"
        layer.mkdir()
        (layer / f"layer-{number}").touch()
        layers.append(layer)
    assert await bench.ask("ls -d /layer-* | wc -l", layers=tuple(layers)) == "120\n"


async def test_root_without_layers_is_the_directory_itself(bench: Bench) -> None:
    """A plain OCI bundle: `root.path` is used as it is."""

    def change(spec: Spec) -> None:
        del spec["teul"]["rootfs"]
        subprocess.run(["cp", "-a", f"{bench.lower}/.", spec["root"]["path"]], check=True)

    running = await bench.start("sh", "-c", "echo here > /etc/note", change=change)
    assert (await running.ended()).code == 0
    assert (running.directory / "rootfs/etc/note").read_text() == "here\n"


async def test_readonly_root_is_readonly_and_what_is_mounted_in_it_is_not(bench: Bench) -> None:
    ended = await bench.script(
        "touch /etc/x 2>/dev/null && echo wrote; touch /dev/shm/x && echo shm; touch /dev/x && echo dev; awk '$2 == \"/\" {print $4}' /proc/mounts",
        change=lambda spec: spec["root"].update(readonly=True),
    )
    *lines, options = ended.out.splitlines()
    assert lines == ["shm", "dev"]
    assert options.split(",")[0] == "ro"


async def test_root_of_the_container_is_all_there_is(bench: Bench) -> None:
    """No mount of the host is left in its namespace, and nothing is above its root."""
    lines = (await bench.ask("cat /proc/self/mountinfo; ls -di / /..")).splitlines()
    assert len({line.split()[0] for line in lines[-2:]}) == 1
    targets = [line.split()[4] for line in lines[:-2]]
    assert targets[0] == "/"
    assert all(target.startswith(("/proc", "/dev", "/sys")) for target in targets[1:]), targets
    assert all("shared:" not in line and "master:" not in line for line in lines[:-2])


# -- binds


async def test_binds_of_files_and_directories(bench: Bench) -> None:
    """Targets are made where they are missing; a file lies over a file; `ro` refuses writes."""
    directory = bench.new_directory("source")
    (directory / "note").write_text("from the host\n")

    def change(spec: Spec) -> None:
        spec["mounts"] += [
            bind(directory, "/new/place"),
            bind(directory / "note", "/etc/passwd"),
            bind(directory / "note", "/another/new/file", "rbind", "ro", "rprivate"),
        ]

    script = "cat /new/place/note /etc/passwd /another/new/file; echo more > /new/place/written; echo x 2>/dev/null > /another/new/file || echo kept"
    assert await bench.ask(script, change=change) == "from the host\n" * 3 + "kept\n"
    assert (directory / "written").read_text() == "more\n"
    assert (directory / "note").read_text() == "from the host\n"


@pytest.fixture
def shared_mount(bench: Bench) -> Iterator[Path]:
    """A shared mount of the host with one mount below it."""
    top = bench.new_directory("shared")
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(top)], check=True)
    subprocess.run(["mount", "--make-shared", str(top)], check=True)
    (top / "below").mkdir()
    (top / "later").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(top / "below")], check=True)
    (top / "below/deep").touch()
    yield top
    subprocess.run(["umount", "--recursive", str(top)], check=True)


async def test_read_only_binds_with_and_without_what_is_below(bench: Bench, shared_mount: Path) -> None:
    """`ro` covers the mount itself, `rro` everything below it; `bind` leaves out what is below, `rbind` takes it along."""

    def change(spec: Spec) -> None:
        spec["mounts"] += [
            bind(shared_mount, "/ro", "rbind", "ro", "rprivate"),
            bind(shared_mount, "/rro", "rbind", "rro", "rprivate"),
            bind(shared_mount, "/flat", "bind", "rprivate"),
        ]

    tries = "; ".join(f"touch {path}/x 2>/dev/null && echo {path}" for path in ("/ro", "/ro/below", "/rro", "/rro/below"))
    ended = await bench.script(f"{tries}; ls /flat/below /ro/below /rro/below", change=change)
    written, _, listing = ended.out.partition("/flat/below:\n")
    assert written == "/ro/below\n"
    assert listing.split() == ["/ro/below:", "deep", "x", "/rro/below:", "deep", "x"]


async def test_mounts_travel_as_the_propagation_says(bench: Bench, shared_mount: Path) -> None:
    """What the host mounts later reaches `rslave` and `rshared`; what the container mounts reaches the host by `rshared` alone."""

    def change(spec: Spec) -> None:
        spec["mounts"] += [bind(shared_mount, f"/{word}", "rbind", word) for word in ("rprivate", "rslave", "rshared")]
        spec["linux"]["rootfsPropagation"] = "rslave"
        for names in spec["process"]["capabilities"].values():
            names.append("CAP_SYS_ADMIN")

    running = await bench.start("sleep", "1000", change=change)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(shared_mount / "later")], check=True)
    (shared_mount / "later/arrived").touch()
    assert (await running.ask("ls -d /*/later/arrived")).split() == ["/rshared/later/arrived", "/rslave/later/arrived"]
    await running.ask("for word in rprivate rslave rshared; do mkdir /$word/from-$word; mount -t tmpfs tmpfs /$word/from-$word; done")
    assert [word for word in ("rprivate", "rslave", "rshared") if (shared_mount / f"from-{word}").is_mount()] == ["rshared"]


async def test_tmpfs_and_its_options(bench: Bench) -> None:
    def change(spec: Spec) -> None:
        spec["mounts"].append(mount("/scratch", "tmpfs", "tmpfs", "nosuid", "nodev", "noexec", "size=1m", "mode=1770", "uid=7", "gid=8"))

    facts = await bench.ask(
        "stat -c '%a %u %g' /scratch; grep ' /scratch ' /proc/mounts; dd if=/dev/zero of=/scratch/x bs=1M count=2 2>&1 | grep -c 'No space'",
        change=change,
    )
    owner, line, full = facts.splitlines()
    assert owner == "1770 7 8"
    assert {"rw", "nosuid", "nodev", "noexec", "size=1024k"} <= set(line.split()[3].split(","))
    assert full == "1"


# -- what an image may have planted


VICTIM_LINKS = ("absolute", "relative", "magic")


@pytest.mark.parametrize("way", VICTIM_LINKS)
async def test_planted_links_lead_nowhere_but_into_the_root(bench: Bench, way: str) -> None:
    """Every mount target, device and directory that is made goes through links of the image; none may come out on the host."""
    victim = bench.new_directory("victim")
    goal = {"absolute": str(victim), "relative": "../" * 20 + str(victim)[1:], "magic": f"/proc/self/root{victim}"}[way]
    names = ("bind-directory", "bind-file", "tmpfs", "device", "cwd", "etc/linked")
    source = bench.new_directory("source")
    (source / "file").touch()
    layer = bench.make_layer(links=dict.fromkeys(names, goal))

    def change(spec: Spec) -> None:
        spec["mounts"] += [
            bind(source, "/bind-directory/made-directory"),
            bind(source / "file", "/bind-file/made-file"),
            bind(source / "file", "/etc/linked/made-below"),
            mount("/tmpfs/made-tmpfs", "tmpfs", "tmpfs"),
        ]
        spec["linux"]["devices"].append({"path": "/device/made-node", "type": "c", "major": 1, "minor": 3})
        spec["linux"]["maskedPaths"].append("/tmpfs/made-tmpfs")
        spec["process"]["cwd"] = "/cwd/made-cwd"

    try:
        await bench.script("true", change=change, layers=(layer,))
    except StartError as error:
        assert way == "magic", error  # there is no /proc yet where it would have to lead
    assert list(victim.iterdir()) == [], "DANGER: a link of the image was followed on the host"
    assert str(victim) not in Path("/proc/self/mountinfo").read_text()


async def test_links_inside_the_root_are_followed_as_the_container_would(bench: Bench) -> None:
    """Debian's /var/run -> /run and the like."""
    source = bench.new_directory("source")
    layer = bench.make_layer(links={"var/run": "/run"})
    await bench.ask(
        "test -d /run/secret && grep -q ' /run/secret ' /proc/mounts",
        layers=(layer,),
        change=lambda spec: spec["mounts"].append(bind(source, "/var/run/secret")),
    )


@pytest.mark.parametrize("name", ["proc", "sys"])
async def test_kernel_file_systems_go_to_directories_only(bench: Bench, name: str) -> None:
    """A link there would let the container replace what looks like /proc to the next exec (CVE-2019-16884, CVE-2019-19921)."""
    layer = bench.make_layer(links={name: "/elsewhere"}, files={"elsewhere/file": ""})
    lower = bench.new_directory("lower")
    subprocess.run(["cp", "-a", f"{bench.lower}/.", str(lower)], check=True)
    (lower / name).rmdir()

    def change(spec: Spec) -> None:
        spec["teul"]["rootfs"]["lower"] = [str(layer), str(lower)]

    with pytest.raises(StartError, match="must be mounted on an ordinary directory") as caught:
        await bench.start("true", change=change)
    assert caught.value.step == f"mount /{name}"


@alone
@pytest.mark.parametrize("goal", ["/elsewhere", "../../../../../../../../../../../../dev"])
async def test_terminal_comes_from_the_containers_own_devpts(bench: Bench, goal: str) -> None:
    """Also where the image has made a link of /dev: never from the host's."""
    lower = bench.new_directory("lower")
    subprocess.run(["cp", "-a", f"{bench.lower}/.", str(lower)], check=True)
    (lower / "dev").rmdir()
    (lower / "dev").symlink_to(goal)
    (lower / "elsewhere").mkdir()
    before = set(os.listdir("/dev/pts"))

    def change(spec: Spec) -> None:
        spec["teul"]["rootfs"]["lower"] = [str(lower)]

    try:
        running = await bench.start("sh", "-c", "tty; echo ready; read line", change=change, tty=True, stdin="open")
    except StartError as error:
        assert "/dev" in str(error)
        return
    await running.read_until("ready")
    assert set(os.listdir("/dev/pts")) == before, "DANGER: the terminal is one of the host's"
    assert running.out.decode().split()[0] == "/elsewhere/pts/0"


async def test_file_is_not_mounted_over_a_directory(bench: Bench) -> None:
    """Docker's well-known complaint; nothing is made."""
    source = bench.make_layer({"file": ""}) / "file"
    with pytest.raises(StartError) as caught:
        await bench.start("true", change=lambda spec: spec["mounts"].append(bind(source, "/etc")))
    assert (caught.value.step, caught.value.errno) == ("mount /etc", 21)


# -- hidden things


async def test_masked_paths_show_nothing(bench: Bench) -> None:
    """Files read as empty, directories list as empty, and neither can be written."""
    layer = bench.make_layer({"secret/file": "text\n", "secret-file": "text\n"})

    def change(spec: Spec) -> None:
        spec["linux"]["maskedPaths"] += ["/secret", "/secret-file", "/no/such/path"]

    script = "cat /secret-file /proc/kcore /proc/keys /proc/timer_list 2>/dev/null | wc -c; ls -A /secret /sys/firmware; touch /secret/x || echo refused"
    facts = await bench.ask(f"({script}) 2>/dev/null", change=change, layers=(layer,))
    assert facts.replace("/secret:", "").replace("/sys/firmware:", "").split() == ["0", "refused"]


async def test_readonly_paths_cannot_be_written(bench: Bench) -> None:
    """Root in the container neither writes there nor mounts it writable again."""
    layer = bench.make_layer({"frozen/file": "text\n"})

    def change(spec: Spec) -> None:
        spec["linux"]["readonlyPaths"].append("/frozen")

    script = """
        for path in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /proc/irq/default_smp_affinity /frozen/file /sys/kernel/uevent_helper; do
            (echo x > $path) 2>/dev/null && echo wrote $path
        done
        mount -o remount,rw /proc/sys 2>/dev/null && echo remounted; umount /proc/sys 2>/dev/null && echo unmounted
        cat /frozen/file
    """
    assert (await bench.script(script, change=change, layers=(layer,))).out == "text\n"


# -- devices


async def test_devices_have_their_owner_mode_and_numbers(bench: Bench) -> None:
    def change(spec: Spec) -> None:
        spec["linux"]["devices"] += [
            {"path": "/dev/special/one", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 7, "gid": 8},
            {"path": "/dev/pipe", "type": "p", "fileMode": 0o622},
            {"path": "/dev/disk", "type": "b", "major": 7, "minor": 0, "fileMode": 0o600},
        ]

    lines = (await bench.ask("stat -c '%n %F %a %u %g %t %T' /dev/null /dev/special/one /dev/pipe /dev/disk", change=change)).splitlines()
    assert lines == [
        "/dev/null character special file 666 0 0 1 3",
        "/dev/special/one character special file 640 7 8 1 5",
        "/dev/pipe fifo 622 0 0 0 0",
        "/dev/disk block special file 600 0 0 7 0",
    ]


async def test_dev_has_the_usual_links(bench: Bench) -> None:
    facts = await bench.ask(
        "for l in fd stdin stdout stderr ptmx; do echo $l $(readlink /dev/$l); done; echo out > /dev/stdout; echo x > /dev/full || echo full"
    )
    assert facts.splitlines() == [
        "fd /proc/self/fd",
        "stdin /proc/self/fd/0",
        "stdout /proc/self/fd/1",
        "stderr /proc/self/fd/2",
        "ptmx pts/ptmx",
        "out",
        "full",
    ]


async def test_bound_dev_of_the_host_is_left_as_it_is(bench: Bench) -> None:
    """`-v /dev:/dev`: nodes and links made in there would be made on the host."""
    host_dev = bench.new_directory("dev")

    def change(spec: Spec) -> None:
        spec["mounts"] = [entry for entry in spec["mounts"] if not entry["destination"].startswith("/dev")]
        spec["mounts"].append(bind(host_dev, "/dev"))

    with pytest.raises(StartError):
        await bench.start("true", change=change)  # for want of a /dev/null
    os.mknod(host_dev / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    assert (await bench.run("true", change=change)).code == 0
    assert os.listdir(host_dev) == ["null"]


@pytest.mark.parametrize("destination", ["/proc/sys/kernel", "/proc/self/attr", "/proc/new", "/proc/1/../sys", "/aside/sys"])
@pytest.mark.parametrize("kind", ["bind", "tmpfs"])
async def test_nothing_is_mounted_inside_proc(bench: Bench, tmp_path: Path, destination: str, kind: str) -> None:
    """CVE-2019-19921 and its kin: a label written to a covered /proc/self/attr would be no label. Also where a symlink leads there."""
    layer = bench.make_layer(links={"aside": "/proc"})

    def change(spec: Spec) -> None:
        words = ("rbind", "rprivate") if kind == "bind" else ()
        spec["mounts"].append(mount(destination, kind, str(tmp_path), *words))

    with pytest.raises(StartError, match="cannot be mounted because it is inside /proc"):
        await bench.start("true", change=change, layers=(layer,))
    assert bench.remains() == []


async def test_files_that_lxcfs_covers_may_be_covered(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("ours\n")
    change = lambda spec: spec["mounts"].append(mount("/proc/meminfo", "bind", str(tmp_path / "meminfo"), "rbind", "rprivate"))  # noqa: E731
    assert await bench.ask("cat /proc/meminfo", change=change) == "ours\n"


async def test_only_a_proc_is_mounted_at_proc(bench: Bench, tmp_path: Path) -> None:
    def change(spec: Spec) -> None:
        spec["mounts"] = [entry for entry in spec["mounts"] if entry["destination"] != "/proc"]
        spec["mounts"].insert(0, mount("/proc", "bind", str(tmp_path), "rbind", "rprivate"))

    with pytest.raises(StartError, match='"/proc" cannot be mounted because it is not of type proc'):
        await bench.start("true", change=change)
