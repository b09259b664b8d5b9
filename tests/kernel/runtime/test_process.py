"""Who the program is when it starts: user, groups, directory, capabilities, filters and limits; and what it brings along: nothing."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Any

import pytest

from kernel.runtime.bare_containers import CAPABILITIES, Bench, Spec
from support.needs import needs
from teul.linux import caps, seccomp
from teul.runtime.engine.process import StartError

pytestmark = [needs("root", "busybox", "overlayfs"), pytest.mark.asyncio(loop_scope="session")]


def process(**changes: Any) -> Any:
    """A change of the spec's process."""
    return lambda spec: spec["process"].update(changes)


def user(name: str, *groups: str) -> Any:
    return lambda spec: spec["teul"].update(user=name, groups=list(groups))


@pytest.mark.parametrize(
    ("name", "groups", "expected"),
    [
        ("", (), "0 0 0 /root"),
        ("judge", (), "1234 2345 2345,44,3456 /home/judge"),
        ("1234", (), "1234 2345 2345,44,3456 /home/judge"),
        ("judge:video", (), "1234 44 44 /home/judge"),
        ("judge:77", (), "1234 77 77 /home/judge"),
        ("4242", (), "4242 0 0 /"),
        ("4242:4343", ("video", "99"), "4242 4343 4343,44,99 /"),
        ("root", ("extra",), "0 0 0,3456 /root"),
    ],
)
async def test_user_and_groups_by_name_and_number(bench: Bench, name: str, groups: tuple[str, ...], expected: str) -> None:
    """Docker's rules; looked up in the container's own files. HOME follows the user."""
    running = await bench.start("sh", "-c", "echo $HOME; read line", stdin="open", change=user(name, *groups))
    home = (await running.read_until("\n")).strip()
    status = running.status()
    uids, gids = status["Uid"].split(), status["Gid"].split()
    assert len(set(uids)) == len(set(gids)) == 1, "real, effective, saved and file system ids are the same"
    expected_uid, expected_gid, expected_groups, expected_home = expected.split()
    assert (uids[0], gids[0], home) == (expected_uid, expected_gid, expected_home)
    assert sorted(status["Groups"].split()) == sorted(expected_groups.split(","))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("nobody-here", "unable to find user nobody-here: no matching entries in passwd file"),
        ("root:no-group", "unable to find group no-group: no matching entries in group file"),
    ],
)
async def test_unknown_user_is_dockers_error(bench: Bench, name: str, text: str) -> None:
    with pytest.raises(StartError, match=text) as caught:
        await bench.start("true", change=user(name))
    assert (caught.value.step, caught.value.kind) == ("find the user", "UserError")
    assert bench.remains() == []


async def test_numbers_of_a_plain_oci_spec_are_used(bench: Bench) -> None:
    def change(spec: Spec) -> None:
        spec["teul"]["user"] = None
        spec["process"]["user"] = {"uid": 11, "gid": 22, "additionalGids": [33], "umask": 0o077}

    lines = (await bench.ask("id -u; id -G; umask; echo $HOME", change=change)).splitlines()
    assert (lines[0], set(lines[1].split()), lines[2], lines[3]) == ("11", {"22", "33"}, "0077", "/")


async def test_home_that_is_given_is_kept(bench: Bench) -> None:
    change = process(env=["PATH=/bin", "HOME=/given", "EMPTY=", "EQUALS=a=b"])
    assert await bench.ask("echo $HOME; echo ${EMPTY-unset}; echo $EQUALS", change=change) == "/given\n\na=b\n"


async def test_environment_is_what_the_spec_says_and_no_more(bench: Bench) -> None:
    """Nothing of the engine's."""
    running = await bench.start("sleep", "1000")
    environment = Path(f"/proc/{running.pid}/environ").read_bytes().rstrip(b"\0").split(b"\0")
    assert sorted(environment) == [b"HOME=/root", b"PATH=/bin:/usr/bin"]


async def test_working_directory_is_made(bench: Bench) -> None:
    """As Docker makes it: 0755, root's, whoever the user is."""

    def change(spec: Spec) -> None:
        user("judge")(spec)
        spec["process"]["cwd"] = "/made/for/you"

    assert await bench.ask("pwd; stat -c '%a %u' /made /made/for/you", change=change) == "/made/for/you\n755 0\n755 0\n"


async def test_working_directory_that_only_the_user_may_enter(bench: Bench) -> None:
    """A home directory of mode 0700, and a root without CAP_DAC_OVERRIDE on the way to it."""
    layer = bench.make_layer({"home/private/file": ""})
    os.chown(layer / "home/private", 1234, 2345)
    os.chmod(layer / "home/private", 0o700)

    def change(spec: Spec) -> None:
        user("judge")(spec)
        spec["process"]["cwd"] = "/home/private"

    assert await bench.ask("pwd", change=change, layers=(layer,)) == "/home/private\n"


@pytest.mark.parametrize("cwd", [f"/proc/self/fd/{number}" for number in (3, 4, 5, 6, 7, 8, 9, 10, 12)])
async def test_working_directory_does_not_lead_out(bench: Bench, cwd: str) -> None:
    """CVE-2024-21626: a descriptor of the host that is still open makes `/proc/self/fd/N` a door."""
    try:
        running = await bench.start("sleep", "1000", change=process(cwd=cwd))
    except StartError as error:
        assert error.step == "set the working directory"
        return
    assert not os.path.exists(f"/proc/{running.pid}/cwd/busybox-root"), "DANGER"
    assert "unreachable" not in os.readlink(f"/proc/{running.pid}/cwd")


_LONG = "/" + "a/" * 3000


@pytest.mark.parametrize(
    ("cwd", "message"),
    [
        ("/etc/passwd", "Cannot mkdir: /etc/passwd is not a directory"),
        ("/etc/passwd/below", "mkdir /etc/passwd: not a directory"),
        ("/new/" + "b" * 300 + "/below", f"mkdir /new/{'b' * 300}: file name too long"),
        (_LONG, f"mkdir {_LONG[:4096]}: file name too long"),  # the first that does not fit into PATH_MAX with its NUL
        ("/proc/none/below", "mkdir /proc/none: no such file or directory"),
    ],
    ids=["a file", "below a file", "long name", "long path", "where nothing is made"],
)
async def test_working_directory_that_cannot_be(bench: Bench, cwd: str, message: str) -> None:
    """In the words of runc, whose os.MkdirAll names the directory that failed."""
    with pytest.raises(StartError) as caught:
        await bench.start("true", change=process(cwd=cwd))
    assert (caught.value.step, caught.value.message) == ("set the working directory", message)


async def test_working_directory_of_an_exec_that_is_too_long(bench: Bench) -> None:
    container = await bench.start("sleep", "1000")
    with pytest.raises(StartError, match=r'^chdir to cwd \("/a/.*"\) set in config.json failed: file name too long$'):
        await container.exec("true", process={"cwd": _LONG})


async def test_working_directory_may_be_deep_and_spelled_in_any_way(bench: Bench) -> None:
    deep = "/" + "d/" * 2000
    assert await bench.ask("pwd", change=process(cwd=f"{deep}/./../x//")) == f"{deep.rstrip('/')[:-2]}/x\n"


# -- capabilities


def masks(running: Any) -> dict[str, set[str]]:
    return {name: set(caps.names(bits)) for name, bits in caps.process_masks(running.pid).items()}


async def test_capabilities_of_root(bench: Bench) -> None:
    """Exactly those of the spec; nothing is inheritable or ambient (CVE-2022-24769)."""
    found = masks(await bench.start("sleep", "1000"))
    assert found["bounding"] == found["permitted"] == found["effective"] == set(CAPABILITIES)
    assert found["inheritable"] == found["ambient"] == set()


async def test_capabilities_of_another_user(bench: Bench) -> None:
    """None that work, however they are listed; but the bounding set for set-user-id programs."""
    found = masks(await bench.start("sleep", "1000", change=user("judge")))
    assert found["bounding"] == set(CAPABILITIES)
    assert found["permitted"] == found["effective"] == found["inheritable"] == found["ambient"] == set()


async def test_ambient_capabilities_reach_another_user(bench: Bench) -> None:
    """OCI allows what Docker does not ask for."""

    def change(spec: Spec) -> None:
        user("judge")(spec)
        spec["process"]["capabilities"].update(inheritable=["CAP_NET_RAW"], ambient=["CAP_NET_RAW"])

    found = masks(await bench.start("sleep", "1000", change=change))
    assert found["effective"] == found["permitted"] == found["ambient"] == {"CAP_NET_RAW"}


async def test_no_capabilities_at_all(bench: Bench) -> None:
    """`--cap-drop ALL`: root without any power."""
    found = masks(await bench.start("sleep", "1000", change=process(capabilities={})))
    assert set().union(*found.values()) == set()
    assert "not permitted" in (await bench.script("chown 1 /etc/passwd 2>&1", change=process(capabilities={}))).out


# -- no_new_privs and seccomp


async def test_no_new_privileges(bench: Bench) -> None:
    """A set-user-id program gains nothing."""
    layer = bench.make_layer({"bin/busybox-suid": ""})
    (layer / "bin/busybox-suid").write_bytes((bench.lower / "bin/busybox").read_bytes())
    (layer / "bin/busybox-suid").chmod(0o4755)
    script = "grep NoNewPrivs /proc/self/status; busybox-suid crontab -l 2>&1"

    def change(spec: Spec) -> None:
        user("judge")(spec)
        spec["process"]["noNewPrivileges"] = True

    without = await bench.script(script, change=user("judge"), layers=(layer,))
    ended = await bench.script(script, change=change, layers=(layer,))
    assert without.out.split()[1] == "0"
    assert ended.out.split()[1] == "1"
    assert "must be suid" in ended.out
    assert "must be suid" not in without.out, "the test's program is not set-user-id at all"


def filtered(path: Path, *, no_new_privileges: bool = False) -> Any:
    def change(spec: Spec) -> None:
        spec["teul"].update(seccomp_bpf=str(path), seccomp_flags=seccomp.SECCOMP_FILTER_FLAG_SPEC_ALLOW)
        spec["process"]["noNewPrivileges"] = no_new_privileges

    return change


@needs("seccomp")
@pytest.mark.parametrize("no_new_privileges", [False, True])
@pytest.mark.parametrize("name", ["", "judge"])
async def test_seccomp_filter_is_installed(bench: Bench, seccomp_filter: Path, name: str, no_new_privileges: bool) -> None:
    """For every user, with and without no_new_privs: one filter, in force."""

    def change(spec: Spec) -> None:
        filtered(seccomp_filter, no_new_privileges=no_new_privileges)(spec)
        spec["teul"]["user"] = name

    running = await bench.start("sleep", "1000", change=change)
    status = running.status()
    assert (status["Seccomp"], status.get("Seccomp_filters", "1")) == ("2", "1")
    assert "not permitted" in (await (await running.exec("sh", "-c", "unshare -m true 2>&1")).ended()).out


async def test_no_filter_means_none(bench: Bench) -> None:
    """`seccomp=unconfined`."""
    assert (await bench.start("sleep", "1000")).status()["Seccomp"] == "0"


async def test_missing_filter_is_an_error(bench: Bench) -> None:
    """Never a container without the filter that was asked for."""
    with pytest.raises(StartError) as caught:
        await bench.start("true", change=filtered(bench.base / "no-such.bpf"))
    assert caught.value.step == "read the seccomp filter"


# -- limits and settings


async def test_resource_limits(bench: Bench) -> None:
    """Soft and hard; -1 is unlimited where the host's own limit is."""
    limits = [
        {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        {"type": "RLIMIT_NPROC", "soft": 300, "hard": 400},
    ]
    running = await bench.start("sleep", "1000", change=process(rlimits=limits))
    assert resource.prlimit(running.pid, resource.RLIMIT_NOFILE) == (100, 200)
    assert resource.prlimit(running.pid, resource.RLIMIT_CORE) == (0, 0)
    assert resource.prlimit(running.pid, resource.RLIMIT_NPROC) == (300, 400)
    assert resource.prlimit(running.pid, resource.RLIMIT_FSIZE) == resource.getrlimit(resource.RLIMIT_FSIZE)


async def test_every_limit_that_has_a_name_can_be_set(bench: Bench) -> None:
    """All of docker's `--ulimit` names, those that Python does not know included."""
    names = [
        "CPU",
        "FSIZE",
        "DATA",
        "STACK",
        "CORE",
        "RSS",
        "NPROC",
        "NOFILE",
        "MEMLOCK",
        "AS",
        "LOCKS",
        "SIGPENDING",
        "MSGQUEUE",
        "NICE",
        "RTPRIO",
        "RTTIME",
    ]
    limits = [{"type": f"RLIMIT_{name}", "soft": soft, "hard": hard} for name in names for soft, hard in [_own_limit(names.index(name))]]
    running = await bench.start("sleep", "1000", change=process(rlimits=limits))
    lines = Path(f"/proc/{running.pid}/limits").read_text().splitlines()
    assert len(lines) == len(names) + 1


def _own_limit(kind: int) -> tuple[int, int]:
    return resource.getrlimit(kind)


async def test_limit_above_the_hosts_is_refused_clearly(bench: Bench) -> None:
    """Where raising needs a capability that we do not have, the message says so and names the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard + 1 if hard != resource.RLIM_INFINITY else None
    if wanted is None:
        pytest.skip("no limit is set here")
    try:
        running = await bench.start("sleep", "1000", change=process(rlimits=[{"type": "RLIMIT_NOFILE", "soft": wanted, "hard": wanted}]))
    except StartError as error:
        assert (error.step, error.errno) == ("set resource limits", 1)
        assert "RLIMIT_NOFILE" in error.message
        assert str(hard) in error.message
        return
    assert resource.prlimit(running.pid, resource.RLIMIT_NOFILE) == (wanted, wanted)


async def test_limit_that_contradicts_itself_is_refused(bench: Bench) -> None:
    with pytest.raises(StartError) as caught:
        await bench.start("true", change=process(rlimits=[{"type": "RLIMIT_NOFILE", "soft": 200, "hard": 100}]))
    assert caught.value.step == "set resource limits"


async def test_limits_of_no_known_name_or_size_are_errors(bench: Bench) -> None:
    """Whatever goes wrong on the way to exec is reported, and never looks like a program that failed."""
    for limit in ({"type": "RLIMIT_NONSENSE", "soft": 1, "hard": 1}, {"type": "RLIMIT_NOFILE", "soft": 1 << 70, "hard": 1 << 70}):
        with pytest.raises(StartError) as caught:
            await bench.start("true", change=process(rlimits=[limit]))
        assert caught.value.step == "set resource limits"


async def test_oom_score_adjustment(bench: Bench) -> None:
    running = await bench.start("sleep", "1000", change=process(oomScoreAdj=321))
    assert Path(f"/proc/{running.pid}/oom_score_adj").read_text() == "321\n"
    inner = await running.exec("sleep", "1000")
    assert Path(f"/proc/{inner.pid}/oom_score_adj").read_text() == "321\n"


async def test_sysctls_are_set_in_the_containers_namespaces(bench: Bench) -> None:
    """And not on the host; afterwards they are read-only."""
    host = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()
    sysctls = {"net.ipv4.ip_unprivileged_port_start": "7", "kernel.msgmax": "9999"}
    script = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/msgmax; echo 1 2>/dev/null > /proc/sys/kernel/msgmax || echo fixed"
    assert await bench.ask(script, change=lambda spec: spec["linux"].update(sysctl=sysctls)) == "7\n9999\nfixed\n"
    assert Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text() == host


# -- what it brings along


async def test_descriptors_at_exec_are_three(bench: Bench) -> None:
    """0, 1 and 2: with pipes, with a terminal, with an init, in an exec."""
    running = await bench.start("sleep", "1000", stdin="open")
    assert sorted(os.listdir(f"/proc/{running.pid}/fd")) == ["0", "1", "2"]
    for terminal in (False, True):
        inner = await running.exec("sleep", "1000", tty=terminal)
        assert sorted(os.listdir(f"/proc/{inner.pid}/fd")) == ["0", "1", "2"]
    guarded = await bench.start("sleep", "1000", change=lambda spec: spec["teul"].update(init=True))
    assert sorted(os.listdir(f"/proc/{guarded.pid}/fd")) == ["0", "1", "2"]


async def test_signals_start_as_they_should(bench: Bench) -> None:
    """Nothing blocked, nothing ignored, of what the interpreter had set up for itself."""
    for change in (None, lambda spec: spec["teul"].update(init=True)):
        running = await bench.start("cat", "/proc/self/status", change=change)
        status = dict(line.split(":\t", 1) for line in (await running.ended()).out.splitlines() if ":\t" in line)
        # 32 and 33 are libc's own: sigaction(3) cannot change them, and whoever started the tests may have them ignored.
        libc_own = 1 << 31 | 1 << 32
        assert int(status["SigBlk"], 16) & ~libc_own == int(status["SigIgn"], 16) & ~libc_own == 0


async def test_first_process_leads_a_session(bench: Bench) -> None:
    """And has no controlling terminal of the host."""
    _, _, _, _, group, session, terminal = (await bench.ask("cat /proc/self/stat; true")).split()[:7]
    assert (group, session, terminal) == ("1", "1", "0")
