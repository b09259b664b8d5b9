"""The `teul` command says and does what docker's does, of the same dockerd and its registry: output, exit codes, files."""

from __future__ import annotations

import io
import json
import os
import re
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from conformance.pair import PROGRAMS, TEUL, Pair
from support import images
from support.docker_host import DockerHost, Output
from support.docker_registry import HTPASSWD
from support.dockerd import Dockerd
from support.engine import Engine
from support.needs import needs
from support.polling import eventually
from support.registry import PASSWORD, USERNAME
from support.terminal import Terminal

pytestmark = [needs("root", "docker_cli", "dockerd", "docker_registry", "busybox", "overlayfs")]

OPEN, CLOSED = "127.0.0.1:5000", "127.0.0.1:5001"


@pytest.fixture(scope="module")
def dockerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dockerd]:
    """With two registries in its network namespace; the second wants to know its users."""
    directory = tmp_path_factory.mktemp("registry")
    (directory / "htpasswd").write_text(HTPASSWD)
    with Dockerd() as dockerd:
        dockerd.load(images.busybox().docker_archive())
        servers = [_registry(dockerd, directory, address) for address in (OPEN, CLOSED)]
        try:
            for address in (OPEN, CLOSED):
                eventually(partial(_listens, directory, address), "the registry listens")
            yield dockerd
        finally:
            for server in servers:
                server.terminate()
                server.wait()


def _listens(directory: Path, address: str) -> bool:
    return f"listening on {address}" in (directory / f"{address}.log").read_text()


def _registry(dockerd: Dockerd, directory: Path, address: str) -> subprocess.Popen[bytes]:
    config: dict[str, Any] = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(directory / address)}},
        "http": {"addr": address},
    }
    if address == CLOSED:
        config["auth"] = {"htpasswd": {"realm": "test", "path": str(directory / "htpasswd")}}
    path = directory / f"{address}.json"
    path.write_text(json.dumps(config))
    with (directory / f"{address}.log").open("wb") as log:
        return subprocess.Popen(
            ["nsenter", "-t", str(dockerd.pid), "-n", "docker-registry", "serve", str(path)], stdout=log, stderr=subprocess.STDOUT
        )


@pytest.fixture
def pair(dockerd: Dockerd, tmp_path: Path) -> Iterator[Pair]:
    yield Pair(dockerd, tmp_path)
    dockerd.remove_containers()


@pytest.mark.parametrize(
    "command", ["pull", "login", "logout", "export", "diff", "cp", "image prune", "image pull", "commit", "container prune", "system prune"]
)
def test_help(pair: Pair, command: str) -> None:
    """docker leaves out what the engine is too old for, so not of all."""
    docker, teul = (pair.run(name, program, (*command.split(), "--help"), b"") for name, program in PROGRAMS)
    assert teul.stdout == docker.stdout.replace("docker ", "teul ")


@pytest.mark.parametrize(
    "command", ["pull", "push", "save", "export", "diff", "cp", "image pull", "image prune x", "commit", "commit a b c", "system prune x"]
)
def test_wrong_numbers_of_arguments(pair: Pair, command: str) -> None:
    docker, teul = (pair.run(name, program, tuple(command.split()), b"") for name, program in PROGRAMS)
    assert (teul.exit_code, teul.stdout, teul.stderr) == (docker.exit_code, docker.stdout, docker.stderr.replace("docker", "teul"))


def test_push_and_pull(pair: Pair) -> None:
    image = f"{OPEN}/a/box:v1"
    pair.dockerd.must("tag", "busybox", image)
    pair.dockerd.must("push", image)
    assert "Layer already exists" in pair.same("push", image).stdout
    assert pair.same("push", "-q", image).stdout == f"{image}\n"
    assert pair.same("push", f"{OPEN}/a/nosuch").exit_code == 1
    assert pair.same("push", "--all-tags", image).exit_code == 1
    assert pair.same("push", "--all-tags", f"{OPEN}/a/box").exit_code == 0
    assert pair.same("push", f"{OPEN}/a/box@sha256:{'a' * 64}").exit_code == 1
    assert "Downloaded newer image" in pair.after("rmi", image, run=("pull", image)).stdout
    assert "Image is up to date" in pair.same("pull", image).stdout
    assert pair.same("pull", "-q", image).stdout == f"{image}\n"
    assert pair.same("image", "pull", "--all-tags", f"{OPEN}/a/box").exit_code == 0
    assert pair.same("pull", f"{OPEN}/a/nosuch").exit_code == 1
    assert pair.same("pull", f"{OPEN}/a/box").exit_code == 1, "it has no latest"
    assert pair.same("pull", "--platform", "linux/arm64", image).exit_code in {0, 1}
    assert pair.same("pull", "127.0.0.1:1/x").exit_code == 1
    assert pair.same("pull", "Box").exit_code == 1


def test_run_of_a_missing_image(pair: Pair) -> None:
    image = f"{OPEN}/b/box:v1"
    pair.dockerd.must("tag", "busybox", image)
    pair.dockerd.must("push", image)
    run = ("run", "--rm", image, "echo", "hello")
    output = pair.after("rmi", image, run=run)
    assert output.stdout == "hello\n"
    assert output.stderr.startswith(f"Unable to find image '{image}' locally\nv1: Pulling from b/box\n")
    assert pair.after("rmi", image, run=("run", "--rm", "-q", image, "echo", "hello")).stderr == ""
    assert "Image is up to date" in pair.same("run", "--rm", "--pull", "always", image, "true").stderr
    assert pair.after("rmi", "-f", image, run=("run", "--pull", "never", image)).exit_code == 125
    assert pair.same("run", f"{OPEN}/b/nosuch").exit_code == 125
    assert pair.same("create", "--pull", "never", f"{OPEN}/b/nosuch").exit_code == 1


def test_progress_at_a_terminal_ends_alike(pair: Pair) -> None:
    """What is left on the screen at the end, not how it got there."""
    image = f"{OPEN}/c/box:v1"
    pair.dockerd.load(images.layered().docker_archive())
    pair.dockerd.must("tag", images.layered().names[0], image)
    pair.dockerd.must("push", image)
    pair.dockerd.must("rmi", images.layered().names[0])
    for name, program in PROGRAMS:
        pair.dockerd.must("rmi", image)
        with Terminal([program, "pull", image], environment=pair.environment(name), columns=120) as terminal:
            terminal.expect(r"v1: Pulling from c/box\r?\n")
            terminal.expect(r"[0-9a-f]{12}: Pull complete")
            terminal.expect(r"Digest: sha256:[0-9a-f]{64}\r?\nStatus: Downloaded newer image for \S+\r?\n\S+/c/box:v1\r?\n")
            assert terminal.wait() == 0


def test_logins(pair: Pair) -> None:
    image = f"{CLOSED}/a/box:v1"
    pair.dockerd.must("tag", "busybox", image)
    assert pair.same("push", image).exit_code == 1
    login = ("login", "-u", USERNAME, "--password-stdin", CLOSED)
    assert pair.same(*login, stdin=b"wrong").exit_code == 1
    assert pair.same("login", CLOSED).exit_code == 1
    assert pair.same("login", "-u", USERNAME, "--password-stdin", "-p", "x").exit_code == 1
    assert pair.same("login", "--password-stdin").exit_code == 1
    assert pair.same("login", "127.0.0.1:1", "-u", "x", "-p", "y").exit_code == 1
    assert pair.same("logout", CLOSED).exit_code == 0
    output = pair.same(*login, stdin=PASSWORD.encode() + b"\n")
    assert output.stdout == "Login Succeeded\n"
    assert "stored unencrypted" in output.stderr
    configs = [pair.directory / name / "config" / "config.json" for name, _ in PROGRAMS]
    assert configs[0].read_text() == configs[1].read_text()
    assert {stat.S_IMODE(path.stat().st_mode) for path in configs} == {0o600}
    assert pair.same("login", CLOSED).stdout == "Login Succeeded\n"
    assert pair.run("teul", TEUL, ("push", image), b"").exit_code == 0
    assert pair.same("push", image).exit_code == 0
    assert pair.after("rmi", image, run=("run", "--rm", image, "true")).exit_code == 0
    assert pair.same("logout", f"http://{CLOSED}/v2/").exit_code == 0
    assert configs[0].read_text() == configs[1].read_text()
    assert pair.same("pull", image).exit_code == 1


HELPER = """#!/bin/sh
# A helper as docker's are: one file per server.
file=$HOME/secret-$(md5sum < /dev/null | cut -c 1-4)
echo "$1" >> "$HOME/asked"
case $1 in
store) cat > "$file" ;;
get) cat > /dev/null; [ -f "$file" ] || { echo "credentials not found in native keychain"; exit 1; }; cat "$file" ;;
erase) cat > /dev/null; [ -f "$file" ] || { echo "nothing to erase"; exit 2; }; rm "$file" ;;
esac
"""


def test_helpers(pair: Pair) -> None:
    """The same program is asked the same, and told the same."""
    for name, _ in PROGRAMS:
        helper = pair.directory / name / "bin" / "docker-credential-judge"
        helper.parent.mkdir()
        helper.write_text(HELPER)
        helper.chmod(0o755)
        (pair.directory / name / "config" / "config.json").write_text(json.dumps({"credsStore": "judge"}))
    image = f"{CLOSED}/h/box:v1"
    pair.dockerd.must("tag", "busybox", image)
    output = pair.same("login", "-u", USERNAME, "--password-stdin", CLOSED, stdin=PASSWORD.encode())
    assert (output.stdout, output.stderr) == ("Login Succeeded\n", "")
    for name, program in PROGRAMS:
        assert pair.run(name, program, ("push", image), b"").exit_code == 0
    assert pair.after("rmi", image, run=("run", "--rm", image, "true")).exit_code == 0
    assert pair.same("logout", CLOSED).exit_code == 0
    assert pair.files("docker")["asked"] == pair.files("teul")["asked"]
    configs = [json.loads((pair.directory / name / "config" / "config.json").read_text()) for name, _ in PROGRAMS]
    assert configs[0] == configs[1]


SETUP = (
    "mkdir -p /d/sub /empty && echo one > /d/one && echo two > /d/sub/two && chmod 4750 /d/one && chown 7:8 /d/one && chmod 700 /d/sub && "
    "ln -s one /d/link && ln -s /d /dlink && ln -s nowhere /d/broken && ln /d/one /d/hard && touch -d '2001-02-03 04:05:06' /d/one"
)
FROM = [
    ("box:/d/one", "."),
    ("box:/d/one", "renamed"),
    ("box:/d/one", "missing/"),
    ("box:/d/one", "missing/x"),
    ("box:/d/one", "dir"),
    ("box:/d/one", "dir/file"),
    ("box:/d/one", "to-file"),
    ("box:/d", "."),
    ("box:/d", "renamed"),
    ("box:/d/", "renamed/"),
    ("box:/d/.", "renamed"),
    ("box:/d/.", "dir"),
    ("box:/d/sub", "dir/file"),
    ("box:/d/link", "dir"),
    ("-L", "box:/d/link", "dir"),
    ("-L", "box:/d/link", "renamed"),
    ("-L", "box:/dlink", "dir"),
    ("-L", "box:/dlink/.", "dir"),
    ("box:/dlink", "dir"),
    ("box:/dlink/", "dir"),
    ("box:/dlink/one", "dir"),
    ("box:/d/broken", "dir"),
    ("-L", "box:/d/broken", "dir"),
    ("box:/nosuch", "dir"),
    ("box:/d/one/x", "dir"),
    ("nosuch:/d", "dir"),
    ("box:/d/one", "/dev/null"),
    ("box:d/one", "dir"),
    ("box:/d/one", "dirlink"),
    ("box:/d", "dirlink/"),
    ("box:/d/one", "dangling"),
    ("-a", "box:/d", "dir"),
    ("-q=false", "box:/d/one", "dir"),
]


def prepare(directory: Path) -> None:
    (directory / "dir" / "sub").mkdir(parents=True)
    (directory / "dir" / "file").write_text("a file")
    (directory / "to-file").write_text("another")
    (directory / "dirlink").symlink_to("dir")
    (directory / "dangling").symlink_to("dir/made")


@pytest.mark.parametrize("arguments", FROM, ids=" ".join)
def test_copies_out_of_a_container(pair: Pair, arguments: tuple[str, ...]) -> None:
    copy_out(pair, arguments)


def copy_out(pair: Pair, arguments: tuple[str, ...]) -> None:
    pair.dockerd.must("run", "--name", "box", "busybox", "sh", "-c", SETUP)
    for name, _ in PROGRAMS:
        prepare(pair.directory / name)
    pair.same("cp", *arguments)
    assert pair.files("teul") == pair.files("docker")


TO = [
    ("one", "box:/empty"),
    ("one", "box:/renamed"),
    ("one", "box:/missing/"),
    ("one", "box:/missing/x"),
    ("one", "box:/d/one"),
    ("one", "box:/d/link"),
    ("one", "box:/dlink"),
    ("tree", "box:/empty"),
    ("tree", "box:/renamed"),
    ("tree/", "box:/renamed/"),
    ("tree/.", "box:/renamed"),
    ("tree/.", "box:/empty"),
    ("tree", "box:/d/one"),
    ("treelink", "box:/empty"),
    ("treelink/", "box:/empty"),
    ("treelink/.", "box:/empty"),
    ("-L", "treelink", "box:/empty"),
    ("-L", "treelink", "box:/renamed"),
    ("-L", "treelink/", "box:/empty"),
    ("-L", "tree/link", "box:/empty"),
    ("tree/link", "box:/empty"),
    ("-a", "tree", "box:/empty"),
    ("nosuch", "box:/empty"),
    ("one/", "box:/empty"),
    ("-L", "nosuch", "box:/empty"),
    ("one", "nosuch:/empty"),
    ("one", "box:/dev/null"),
    ("./with:colon", "box:/empty"),
    ("-q=false", "one", "box:/empty"),
    ("one", "two"),
    ("box:/d", "box:/e"),
    ("", "box:/e"),
    ("one", ""),
]


def _inside(dockerd: DockerHost) -> dict[str, tuple[object, ...]]:
    """What stands in the places of the container that are copied to."""
    done = subprocess.run(["docker", "export", "box"], capture_output=True, env=dockerd.environment(), check=True)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        return {
            member.name: (member.type, member.mode, member.uid, member.gid, member.size, member.linkname, _time(member))
            for member in archive
            if member.name.split("/")[0] in {"d", "dlink", "empty", "renamed", "missing"}
        }


def _time(member: tarfile.TarInfo) -> float | None:
    """Of what was copied; not of what the container made itself just now."""
    return member.mtime if member.mtime < 1_500_000_000 else None


@pytest.mark.parametrize("arguments", TO, ids=" ".join)
def test_copies_into_a_container(pair: Pair, arguments: tuple[str, ...]) -> None:
    copy_in(pair, arguments)


def copy_in(pair: Pair, arguments: tuple[str, ...]) -> None:
    """Output, and what is there afterwards."""
    seen = []
    outputs = []
    for name, program in PROGRAMS:
        directory = pair.directory / name
        (directory / "tree" / "below").mkdir(parents=True, mode=0o751)
        (directory / "one").write_text("1")
        (directory / "with:colon").write_text("2")
        (directory / "tree" / "below" / "file").write_text("3" * 1000)
        (directory / "tree" / "file").write_text("4")
        (directory / "tree" / "file").chmod(0o2755)
        os.chown(directory / "tree" / "file", 1234, 5678)
        os.link(directory / "tree" / "file", directory / "tree" / "hard")
        (directory / "tree" / "link").symlink_to("file")
        (directory / "treelink").symlink_to("tree")
        for path in [directory / "one", *(directory / "tree").rglob("*")]:
            os.utime(path, (10**9, 10**9), follow_symlinks=False)
        pair.dockerd.must("run", "--name", "box", "busybox", "sh", "-c", SETUP)
        outputs.append(pair.run(name, program, ("cp", *arguments), b""))
        seen.append(_inside(pair.dockerd))
        pair.dockerd.must("rm", "box")
    assert outputs[1] == outputs[0]
    assert seen[1] == seen[0]


def test_archives_through_the_standard_streams(pair: Pair) -> None:
    pair.dockerd.must("run", "--name", "box", "busybox", "sh", "-c", SETUP)
    archives = [
        subprocess.run([program, "cp", "box:/d", "-"], capture_output=True, env=pair.environment(name), check=True).stdout
        for name, program in PROGRAMS
    ]
    assert archives[0] == archives[1]
    assert pair.same("cp", "-", "box:/empty", stdin=archives[0]).exit_code == 0
    assert pair.same("cp", "-", "box:/d/one", stdin=archives[0]).exit_code == 1
    assert pair.same("cp", "-", "box:/nosuch", stdin=archives[0]).exit_code == 1
    assert pair.same("cp", "-", "box:/empty", stdin=b"no archive").exit_code == 1


def test_diff_export_and_save(pair: Pair) -> None:
    pair.dockerd.must("run", "--name", "box", "busybox", "sh", "-c", f"{SETUP}; rm /bin/vi")
    docker, teul = (pair.run(name, program, ("diff", "box"), b"").stdout.splitlines() for name, program in PROGRAMS)
    assert sorted(teul) == sorted(docker), "dockerd has no order for them"
    assert "D /bin/vi" in teul
    for command, what, nosuch in (("diff", "box", "nosuch"), ("export", "box", "nosuch"), ("save", "busybox", "nosuch")):
        assert pair.same(command, nosuch).exit_code == 1
        if command == "diff":
            continue
        outputs = [
            subprocess.run([program, command, what], capture_output=True, env=pair.environment(name), check=True).stdout
            for name, program in PROGRAMS
        ]
        assert outputs[0] == outputs[1]
        assert pair.same(command, what, "-o", f"{command}.tar").exit_code == 0
        for bad in ("missing/x.tar", "/dev/null", "/tmp", "config"):
            assert pair.same(command, what, "-o", bad).exit_code == 1
    assert pair.same("save", "-o", "none.tar", "nosuch").exit_code == 1
    files = [pair.files(name) for name, _ in PROGRAMS]
    assert {name: entry[:3] for name, entry in files[0].items()} == {name: entry[:3] for name, entry in files[1].items()}
    assert {"save.tar", "export.tar"} == {name for name in files[1] if name.endswith(".tar")}


def test_prune(pair: Pair) -> None:
    for answer in (b"n\n", b"", b"yes\n"):
        assert pair.same("image", "prune", stdin=answer).exit_code == 0
    assert pair.same("image", "prune", "-a", stdin=b"\n").exit_code == 0
    assert pair.same("image", "prune", stdin=b"Y\n").exit_code == 0
    assert pair.same("image", "prune", "-f", "--filter", "bad=1").exit_code == 1
    archive = images.layered().docker_archive()
    outputs = []
    pair.dockerd.must("image", "prune", "-a", "-f")
    for name, program in PROGRAMS:
        pair.dockerd.load(archive)
        outputs.append(pair.run(name, program, ("image", "prune", "-a", "-f", "--filter", "until=1s"), b""))
    pair.dockerd.load(images.busybox().docker_archive())
    assert outputs[0] == outputs[1]
    assert "untagged: " in outputs[1].stdout


FORMATS = [[], ["-v"], ["--format", "json"], ["--format", "raw"], ["-v", "--format", "json"], ["-v", "--format", "raw"]]
FORMATS += [
    ["--format", "table {{.Type}}\t{{.Size}}"],
    ["-v", "--format", "{{range .Containers}}{{.Names}} {{.Size}} {{end}}"],
    ["--format", "{{.X}}"],
]


@pytest.mark.parametrize("format_", FORMATS, ids=" ".join)
def test_disk_usage(pair: Pair, format_: list[str]) -> None:
    assert disk_usage_differs(pair, format_) == []


def disk_usage_differs(pair: Pair, format_: list[str], *, volume: bool = True) -> list[tuple[Output, Output]]:
    mounted = ["-v", "judged:/v"] if volume else []
    pair.dockerd.must("run", "--name", "box", *mounted, "busybox", "sh", "-c", "mkdir -p /v; echo x > /v/x; echo y > /y")
    try:
        for _ in range(5):  # one may say "1 second ago", and the other, a moment later, 2
            docker, teul = (pair.run(name, program, ("system", "df", *format_), b"") for name, program in PROGRAMS)
            if docker == teul:
                break
    finally:
        pair.dockerd.must("rm", "box")
        if volume:
            pair.dockerd.must("volume", "rm", "judged")
    if "{{.X}}" in format_:
        assert (docker.exit_code, teul.exit_code) == (1, 1)
        return []
    return [] if teul == docker else [(teul, docker)]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine() as engine:
        engine.load(images.busybox().docker_archive())
        yield engine


@pytest.fixture
def own(engine: Engine, tmp_path: Path) -> Iterator[Pair]:
    """Both commands, speaking to our engine."""
    yield Pair(engine, tmp_path)
    engine.remove_containers()


@pytest.mark.parametrize("arguments", FROM[::4], ids=" ".join)
def test_copies_out_of_our_container(own: Pair, arguments: tuple[str, ...]) -> None:
    copy_out(own, arguments)


@pytest.mark.parametrize("arguments", TO[::4], ids=" ".join)
def test_copies_into_our_container(own: Pair, arguments: tuple[str, ...]) -> None:
    copy_in(own, arguments)


def test_what_our_engine_says_otherwise(own: Pair) -> None:
    own.dockerd.must("run", "--name", "box", "busybox", "sh", "-c", f"{SETUP}; rm /bin/vi")
    assert "D /bin/vi\n" in own.same("diff", "box").stdout
    for command, what in (("export", "box"), ("save", "busybox")):
        assert own.same(command, "-o", f"{command}.tar", what).exit_code == 0
        assert own.same(command, "nosuch").exit_code == 1
    docker, teul = (own.files(name) for name, _ in PROGRAMS)
    assert docker["save.tar"][4] == teul["save.tar"][4]
    own.dockerd.must("rm", "box")
    assert own.same("image", "prune", "-f").exit_code == 0
    assert own.same("image", "prune", stdin=b"n\n").exit_code == 0
    for format_ in FORMATS:
        assert disk_usage_differs(own, format_, volume=False) == []  # it has none yet


@pytest.mark.parametrize(
    "format_",
    [
        "{{.Config.Labels.nope}}",
        "{{.Config.Labels.a}}",
        "{{.Config.Labels.nope.more}}",
        "{{if .Config.Labels.nope}}y{{else}}n{{end}}",
        '{{eq .Config.Labels.nope ""}}',
        "{{json .Config.Labels}} {{json .Config.Labels.nope}}",
        "{{.Config.Volumes}} {{json .Config.Volumes}} {{.Config.Volumes.nope}}",
        "{{.HostConfig.Sysctls.nope}} {{.HostConfig.Tmpfs}} {{.HostConfig.LogConfig.Config.nope}}",
        "{{.NetworkSettings.Networks.nope}} {{.NetworkSettings.Networks.nope.IPAddress}}",
    ],
)
def test_names_that_a_map_does_not_have(pair: Pair, format_: str) -> None:
    pair.dockerd.must("create", "--name", "labelled", "--label", "a=b", "busybox", "true")
    try:
        pair.same("inspect", "-f", format_, "labelled")
    finally:
        pair.dockerd.must("rm", "labelled")


def test_commits(pair: Pair) -> None:
    pair.dockerd.must("run", "--name", "box", "busybox", "sh", "-c", "echo > /made")
    outputs = []
    for name, program in PROGRAMS:
        command = ("commit", "-a", "me", "-m", "why", "-c", "ENV A=b", "-c", 'CMD ["x"]', "--pause=false", "box", f"test/{name}")
        output = pair.run(name, program, command, b"")
        image = pair.dockerd.inspect(f"test/{name}")
        assert output.stdout == f"{image['Id']}\n"
        outputs.append((output.exit_code, output.stderr, image["RootFS"], image["Config"], image["Author"], image["Comment"]))
        pair.dockerd.must("rmi", f"test/{name}")
    assert outputs[1] == outputs[0]
    for wrong in (
        ("box", "Bad"),
        ("box", "a:b:c"),
        ("box", "a@sha256:" + "a" * 64),
        ("nosuch",),
        ("-c", "RUN x", "box"),
        ("-c", "ENV", "box"),
    ):
        assert pair.same("commit", *wrong).exit_code == 1


@pytest.mark.parametrize(
    "prune",
    [
        ("container", "prune", "-f"),
        ("container", "prune", "-f", "--filter", "label=no"),
        ("container", "prune"),
        ("system", "prune", "-f"),
        ("system", "prune", "-af", "--filter", "label=pruned"),
        ("system", "prune", "--volumes", "-f"),
        ("system", "prune", "--volumes", "--filter", "until=1h"),
        ("system", "prune", "--volumes", "-a", "--filter", "label=b10", "--filter", "label=b9", "--filter", "label!=c"),
        ("system", "prune", "--filter", "nosuch=1", "-f"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("answer", [b"", b"n\n"], ids=["nothing", "no"])
def test_prunings(pair: Pair, prune: tuple[str, ...], answer: bytes) -> None:
    outputs = []
    for name, program in PROGRAMS:
        # Of each kind one thing: docker lists several in no order.
        pair.dockerd.must("run", "--label", "pruned", "-v", "/volume", "busybox", "sh", "-c", "echo 12345 > /made")
        pair.dockerd.must("network", "create", "--label", "pruned", "judged-network")
        output = pair.run(name, program, prune, answer)
        left = pair.dockerd.must("ps", "-aq"), pair.dockerd.must("network", "ls", "-q", "--filter", "name=judged-network")
        told = re.sub("[0-9a-f]{64}", "<id>", output.stdout)
        outputs.append((output.exit_code, told, output.stderr, [bool(text) for text in left]))
        pair.dockerd.remove_containers()
        pair.dockerd.docker("network", "rm", "judged-network")
        pair.dockerd.docker("volume", "prune", "-f")
    assert outputs[1] == outputs[0]
