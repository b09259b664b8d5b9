"""Whatever a client sends is its own fault, and told so: no 5xx, no lost connection, no traceback, and the container goes on."""

from __future__ import annotations

import gzip
import io
import json
import socket
import tarfile
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from support import images
from support.engine import Engine
from support.needs import needs
from support.polling import eventually
from support.unix_http import Response

pytestmark = [needs("root", "busybox", "overlayfs", "docker_cli")]

LONG = "9" * 5000
DEEP = b'{"a":' * 100_000


@pytest.fixture(scope="module")
def shared() -> Iterator[Engine]:
    """An engine with a container that has a terminal, one that has none, and one that does not run."""
    with Engine() as engine:
        engine.load(images.busybox().docker_archive())
        engine.must("run", "-d", "-t", "--name", "box", "busybox", "sleep", "100000")
        engine.must("create", "--name", "still", "busybox", "true")
        yield engine


@pytest.fixture
def engine(shared: Engine) -> Iterator[Engine]:
    """The shared engine; its log may not tell of surprises afterwards, and the container must still run in the same keeper."""
    pid, keeper = shared.init_pid("box"), shared.parent_of_init("box")
    start = shared.log_path.stat().st_size
    yield shared
    log = shared.log_path.read_bytes()[start:].decode(errors="replace")
    assert "Traceback" not in log, log
    assert (shared.init_pid("box"), shared.parent_of_init("box")) == (pid, keeper)


def ask(engine: Engine, method: str, path: str, body: Any = None, **options: Any) -> Response:
    with engine.api(version="v1.51", timeout_seconds=20) as api:
        return api.request(method, path, body, **options)


def archive(name: str = "f", *, pax: dict[str, str] | None = None, **fields: Any) -> bytes:
    """A tar archive of one small file, with some fields of its header replaced."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo(name)
        info.pax_headers = pax or {}
        for field, value in fields.items():
            setattr(info, field, value)
        info.size = 1 if info.type == tarfile.REGTYPE else 0
        tar.addfile(info, io.BytesIO(b"x"))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "path",
    [
        "/containers/create",
        "/containers/box/exec",
        "/containers/box/update",
        "/networks/create",
        "/networks/bridge/connect",
        "/exec/x/start",
    ],
)
def test_nesting_without_end(engine: Engine, path: str) -> None:
    answer = ask(engine, "POST", path, DEEP)
    assert answer.status in (400, 501), answer.message
    if answer.status == 400:
        assert answer.message == "invalid JSON: invalid character '{' exceeded max depth"


def test_nesting_in_a_seccomp_profile(engine: Engine) -> None:
    body = {"Image": "busybox", "HostConfig": {"SecurityOpt": ["seccomp=" + "[" * 100_000]}}
    identifier = ask(engine, "POST", "/containers/create", body).json()["Id"]
    answer = ask(engine, "POST", f"/containers/{identifier}/start")
    assert answer.message == "Decoding seccomp profile failed: exceeded max depth"


@pytest.mark.parametrize("container", ["box", "still"])
@pytest.mark.parametrize("method", ["GET", "PUT"])
@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/\0", "invalid argument"),
        ("/etc\0", "invalid argument"),
        ("/etc/passwd\0x", "invalid argument"),
        ("/" + "x" * 300, "file name too long"),
        ("/x" * 3000, "file name too long"),
        ("/bin/busybox/x", "not a directory"),
    ],
    ids=["nul", "nul after", "nul inside", "long name", "long path", "below a file"],
)
def test_paths_that_cannot_be(engine: Engine, container: str, method: str, path: str, why: str) -> None:
    body = archive() if method == "PUT" else None
    answer = ask(engine, method, f"/containers/{container}/archive?path={quote(path)}", body)
    assert (answer.status, answer.message) == (400, f"lstat {path}: {why}")
    assert ask(engine, "HEAD", f"/containers/{container}/archive?path={quote(path)}").status == 400


XATTR = "SCHILY.xattr."
ARCHIVES = {
    "uid beyond 32 bits": (archive(pax={"uid": str(1 << 40)}), "archive/tar: invalid tar header (owner)"),
    "gid of nobody": (archive(pax={"gid": str((1 << 32) - 1)}), "archive/tar: invalid tar header (owner)"),
    "uid of 5000 digits": (archive(pax={"uid": LONG}), "archive/tar: invalid tar header (number)"),
    "time of no sense": (archive(pax={"mtime": "nan"}), "archive/tar: invalid tar header (time)"),
    "attribute without a name": (archive(pax={XATTR: "v"}), "f: numerical result out of range"),
    "attribute with a long name": (archive(pax={f"{XATTR}user.{'n' * 300}": "v"}), "f: numerical result out of range"),
    "attribute with a large value": (archive(pax={f"{XATTR}user.n": "v" * 70_000}), "f: argument list too long"),
    "attribute with NUL": (archive(pax={f"{XATTR}user.a\0b": "v"}), "archive/tar: invalid tar header (PAX record)"),
    "capability that is none": (archive(pax={f"{XATTR}security.capability": "v"}), "f: invalid argument"),
    "long name": (archive("n" * 300), f"{'n' * 300}: file name too long"),
    "name with NUL": (archive(pax={"path": "a\0b"}), "archive/tar: invalid tar header (name)"),
    "name that leads out": (archive("../x"), 'invalid entry name "../x"'),
    "below a file": (archive("bin/busybox/x"), "bin/busybox/x: not a directory"),
    "link to nothing": (archive(type=tarfile.LNKTYPE, linkname="none"), "f: no such file or directory"),
    "link without a target": (archive(type=tarfile.SYMTYPE, linkname=""), "f: no such file or directory"),
    "device that cannot be": (archive(type=tarfile.CHRTYPE, devmajor=1 << 20), 'invalid device "f": no device 1048576:0'),
    "unknown type": (archive(type=b"Q"), "unhandled tar header type 81"),
    "garbage": (b"garbage" * 200, "archive/tar: invalid tar header"),
    "cut short": (archive()[:700], "unexpected EOF"),
    "emptiness behind": (gzip.compress(archive() + bytes(17 << 20)), "there are more than 16777216 bytes behind the end of the archive"),
    "compressed garbage": (b"\xfd7zXZ\0" + b"\0" * 600, "invalid compressed data: Corrupt input data"),
}


@pytest.mark.parametrize("container", ["box", "still"])
@pytest.mark.parametrize(("data", "message"), ARCHIVES.values(), ids=ARCHIVES)
def test_archives_that_cannot_be_placed(engine: Engine, container: str, data: bytes, message: str) -> None:
    answer = ask(engine, "PUT", f"/containers/{container}/archive?path=/", data, content_type="application/x-tar")
    assert (answer.status, answer.message) == (400, message)


@pytest.mark.parametrize("data", [data for name, (data, _) in ARCHIVES.items() if "uid" in name or "NUL" in name or "garbage" in name])
def test_archives_that_cannot_be_imported(engine: Engine, data: bytes) -> None:
    answer = ask(engine, "POST", "/images/create?fromSrc=-&repo=imported", data, content_type="application/x-tar")
    assert answer.status == 400, answer.message


def test_archive_that_can_be_imported(engine: Engine) -> None:
    """In the tiers that guard the event loop nobody else imports anything."""
    answer = ask(engine, "POST", "/images/create?fromSrc=-&repo=imported&tag=good", archive(), content_type="application/x-tar")
    assert (answer.status, list(answer.json())) == (200, ["status"])


@pytest.mark.parametrize("shares", [1, 2, 1 << 18, 1 << 40])
def test_cpu_shares_are_brought_within_the_kernels_bounds(engine: Engine, shares: int) -> None:
    """docker: `--cpu-shares 1` is created, and refused by runc at start; the kernel itself takes it for 2."""
    kept = engine.must("run", "-d", "--cpu-shares", str(shares), "busybox", "sleep", "100")
    try:
        assert engine.inspect(kept)["HostConfig"]["CpuShares"] == shares
        answer = ask(engine, "POST", f"/containers/{kept}/update", {"CpuShares": shares})
        assert answer.status == 200, answer.message
    finally:
        engine.must("rm", "-f", kept)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--nosuch", "error: unknown gnu long option"),
        ("-o bad", 'error: unknown user-defined format specifier "bad"'),
        ("-p", "error: list of process IDs must follow -p"),
        ("-C none", "ps: exit status 1"),
        ("-o pid=", "Couldn't find PID field in ps output"),
        ("--help", "Couldn't find PID field in ps output"),
    ],
)
def test_what_ps_does_not_take(engine: Engine, arguments: str, message: str) -> None:
    answer = ask(engine, "GET", f"/containers/box/top?ps_args={quote(arguments)}")
    assert (answer.status, answer.message) == (400, message)


@pytest.mark.parametrize("size", ["65536", "-1", "4294967296", LONG])
def test_sizes_that_no_terminal_has(engine: Engine, size: str) -> None:
    """More often than a keeper may be lost: not one is."""
    for _ in range(25):
        for query, name in ((f"h={size}&w=5", "height"), (f"h=5&w={size}", "width")):
            answer = ask(engine, "POST", f"/containers/box/resize?{query}")
            assert (answer.status, answer.message) == (400, f'invalid resize {name} "{size}": value out of range')
    assert ask(engine, "POST", "/containers/box/resize?h=65535&w=65535").status == 200
    assert ask(engine, "POST", "/containers/box/resize?h=2000&w=3000").status == 200
    eventually(lambda: engine.must("exec", "box", "sh", "-c", "stty size < /proc/1/fd/0") == "2000 3000", "the terminal has its size")


@pytest.mark.parametrize("size", [[65536, 1], [-1, 1]])
def test_console_sizes_that_no_terminal_has(engine: Engine, size: list[int]) -> None:
    outside = f"invalid ConsoleSize [{size[0]},{size[1]}]: value out of range"
    process = {"Cmd": ["true"], "Tty": True}
    identifier = ask(engine, "POST", "/containers/box/exec", process).json()["Id"]
    for path, body, field in (
        ("/containers/create", {"Image": "busybox", "Tty": True, "HostConfig": {"ConsoleSize": size}}, "HostConfig.HostConfig.ConsoleSize"),
        ("/containers/box/exec", {**process, "ConsoleSize": size}, "ExecCreateRequest.ConsoleSize"),
        (f"/exec/{identifier}/start", {"Tty": True, "ConsoleSize": size}, "ExecStartRequest.ConsoleSize"),
    ):
        answer = ask(engine, "POST", path, body)
        negative = f"invalid JSON: json: cannot unmarshal number -1 into Go struct field {field} of type uint"
        assert (answer.status, answer.message) == (400, negative if size[0] < 0 else outside)


@pytest.mark.parametrize(
    ("method", "path", "message"),
    [
        ("GET", f"/containers/json?limit={LONG}", f'strconv.Atoi: parsing "{LONG}": value out of range'),
        ("GET", f"/containers/json?filters={quote(json.dumps({'exited': [LONG]}))}", "value out of range"),
        ("GET", f"/containers/box/logs?stdout=1&since={LONG}", "value out of range"),
        ("POST", f"/containers/still/stop?t={LONG}", "value out of range"),
        ("POST", f"/containers/box/kill?signal={LONG}", f"invalid signal: {LONG}"),
        ("POST", f"/containers/box/kill?signal=RTMIN%2B{LONG}", f"invalid signal: RTMIN+{LONG}"),
        ("GET", "/containers/json?limit=%D9%A3", "invalid syntax"),
    ],
)
def test_numbers_that_are_none(engine: Engine, method: str, path: str, message: str) -> None:
    answer = ask(engine, method, path)
    assert answer.status == 400, answer.message
    assert answer.message.endswith(message)


def test_numbers_that_mean_everything(engine: Engine) -> None:
    assert ask(engine, "GET", f"/containers/box/logs?stdout=1&tail={LONG}").status == 200


def test_versions_that_are_none(engine: Engine) -> None:
    with engine.api(version="") as api:
        for version in (f"1.{LONG}", f"{LONG}.1"):
            answer = api.request("GET", f"/v{version}/info")
            assert (answer.status, answer.message) == (400, f"client version {version} is too new. Maximum supported API version is 1.51")


def test_length_that_is_none(engine: Engine) -> None:
    with socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(10)
        stream.connect(str(engine.socket_path))
        stream.sendall(f"POST /containers/box/attach HTTP/1.1\r\nHost: x\r\nContent-Length: {LONG}\r\n\r\n".encode())
        assert stream.recv(12).partition(b" ")[2] == b"400"


@pytest.mark.parametrize(
    "config",
    [
        {"Cmd": ["a\0b"]},
        {"Env": ["A=\0"]},
        {"Hostname": "\0"},
        {"User": "\0"},
        {"WorkingDir": "/\0"},
        {"HostConfig": {"Binds": ["/a\0b:/x"]}},
        {"HostConfig": {"Tmpfs": {"/x\0": ""}}},
        {"HostConfig": {"Devices": [{"PathOnHost": "/dev/x\0", "PathInContainer": "/dev/x"}]}},
        {"HostConfig": {"Sysctls": {"net.x\0": "1"}}},
    ],
    ids=str,
)
def test_nul_bytes_in_a_configuration(engine: Engine, config: dict[str, Any]) -> None:
    name = next(iter(config.get("HostConfig", config)))
    answer = ask(engine, "POST", "/containers/create", {"Image": "busybox", **config})
    assert (answer.status, answer.message) == (400, f"invalid container configuration: {name} contains a NUL byte")


@pytest.mark.parametrize("config", [{"Cmd": ["a\0b"]}, {"Cmd": ["true"], "Env": ["A=\0"]}, {"Cmd": ["true"], "User": "\0"}], ids=str)
def test_nul_bytes_in_an_exec(engine: Engine, config: dict[str, Any]) -> None:
    answer = ask(engine, "POST", "/containers/box/exec", config)
    assert answer.status == 400
    assert answer.message.startswith("invalid exec configuration: ")


def test_labels_are_the_clients_own(engine: Engine) -> None:
    labels = {"a\0b": "c\0d"}
    identifier = ask(engine, "POST", "/containers/create", {"Image": "busybox", "Labels": labels}).json()["Id"]
    assert ask(engine, "GET", f"/containers/{identifier}/json").json()["Config"]["Labels"] == labels


@pytest.mark.parametrize(
    ("host_config", "message"),
    [
        ({"DeviceCgroupRules": [f"c {LONG}:1 r"]}, f"invalid device cgroup rule: number {LONG}: value out of range"),
        ({"DeviceCgroupRules": ["c 99999999999:1 r"]}, "invalid device cgroup rule: number 99999999999: value out of range"),
        ({"LogConfig": {"Type": "json-file", "Config": {"max-size": LONG}}}, f"invalid size: '{LONG}'"),
        ({"LogConfig": {"Type": "json-file", "Config": {"max-file": LONG}}}, f'invalid max-file: "{LONG}"'),
        ({"PortBindings": {f"{LONG}/tcp": [{}]}}, f'invalid port specification: "{LONG}/tcp"'),
    ],
    ids=["rule", "rule of 11 digits", "max-size", "max-file", "port"],
)
def test_numbers_in_a_configuration_that_are_none(engine: Engine, host_config: dict[str, Any], message: str) -> None:
    answer = ask(engine, "POST", "/containers/create", {"Image": "busybox", "HostConfig": host_config})
    assert answer.status == 400, answer.message
    assert message in answer.message
