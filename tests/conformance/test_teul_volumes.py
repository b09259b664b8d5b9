"""`teul volume` says and does what docker's does, of the same dockerd and of our engine."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conformance.pair import PROGRAMS, Pair
from support import images
from support.docker_host import DockerHost, Output
from support.dockerd import Dockerd
from support.engine import Engine
from support.needs import needs

pytestmark = [needs("root", "docker_cli", "dockerd", "busybox", "overlayfs")]


@pytest.fixture(scope="module", params=[Dockerd, Engine], ids=["dockerd", "teul"])
def host(request: pytest.FixtureRequest) -> Iterator[DockerHost]:
    with request.param() as host:
        host.load(images.busybox().docker_archive())
        yield host


@pytest.fixture
def pair(host: DockerHost, tmp_path: Path) -> Iterator[Pair]:
    yield Pair(host, tmp_path)
    host.remove_containers()
    for name in host.must("volume", "ls", "-q").split():
        host.must("volume", "rm", name)


@pytest.fixture
def modern(pair: Pair) -> Pair:
    """An engine with what dockerd 20.10 has not: volumes of a swarm, and a prune that spares what has a name."""
    if not isinstance(pair.dockerd, Engine):
        pytest.skip("dockerd 20.10 speaks no API of version 1.42")
    return pair


VERBS = ("create", "inspect", "ls", "prune", "rm", "update")


@pytest.mark.parametrize("command", VERBS)
def test_help(modern: Pair, command: str) -> None:
    docker, teul = (modern.run(name, program, ("volume", command, "--help"), b"") for name, program in PROGRAMS)
    assert teul.stdout == re.sub(r"\bdocker\b(?= volume)", "teul", docker.stdout)


def test_unknown_fields_of_templates(pair: Pair) -> None:
    """Of a volume docker says what Go's own type is called, which Teul's does not have: it speaks of it as of the other objects."""
    pair.dockerd.must("volume", "create", "vol")
    docker, teul = (pair.run(name, program, ("volume", "inspect", "-f", "{{.Nosuch}}", "vol"), b"") for name, program in PROGRAMS)
    assert (teul.exit_code, teul.stdout) == (docker.exit_code, docker.stdout)
    assert docker.stderr.endswith("can't evaluate field Nosuch in type volume.Volume\n")
    assert teul.stderr.endswith('map has no entry for key "Nosuch"\n')


def test_help_of_all_verbs(modern: Pair) -> None:
    """Docker's, and those of Teul's own."""
    docker, teul = (modern.run(name, program, ("volume", "--help"), b"").stdout for name, program in PROGRAMS)
    assert set(docker.splitlines()) <= set(teul.splitlines())


@pytest.mark.parametrize("command", ["volume create x y", "volume inspect", "volume ls x", "volume rm", "volume prune x"])
def test_wrong_numbers_of_arguments(pair: Pair, command: str) -> None:
    docker, teul = (pair.run(name, program, tuple(command.split()), b"") for name, program in PROGRAMS)
    # Docker's slip of the pen, of 28.2 and those near it.
    expected = docker.stderr.replace("docker", "teul").replace("SRun", "Run")
    assert (teul.exit_code, teul.stdout, teul.stderr) == (docker.exit_code, docker.stdout, expected)


CREATIONS = [
    (),
    ("vol",),
    ("--name", "vol"),
    ("--driver", "local", "--label", "a=b", "--label", "c", "vol"),
    ("-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m", "vol"),
    ("--opt", "type=none", "--opt", "device=/nosuch", "--opt", "o=bind", "vol"),
]
REFUSED = [
    ("--name", "vol", "vol"),
    ("v",),
    ("-x-",),
    ("a/b",),
    ("--label", "=x", "vol"),
    ("--label", "a b=x", "vol"),
    ("-o", "nosuch=x", "vol"),
    ("-o", "type=tmpfs", "vol"),
    ("-o", "device=tmpfs", "vol"),
    ("-o", "o=bind", "vol"),
    ("-o", "size=nonsense", "vol"),
    ("--nosuch",),
    ("--limit-bytes", "nonsense", "vol"),
]
OF_A_SWARM = [
    ("--group", "g", "vol"),
    ("--scope", "multi", "vol"),
    ("--type", "mount", "--sharing", "all", "--secret", "a=b", "--topology-required", "a=b,c=d", "vol"),
    ("--required-bytes", "1g", "--limit-bytes", "2g", "--availability", "drain", "--topology-preferred", "a=b", "vol"),
]


def described(pair: Pair, name: str, program: str, arguments: tuple[str, ...]) -> tuple[Output, Any]:
    """What a creation said, and what it made; without what is another each time."""
    output = pair.run(name, program, ("volume", "create", *arguments), b"")
    if output.exit_code:
        return output, None
    [document] = json.loads(pair.dockerd.must("volume", "inspect", output.stdout.strip()))
    pair.dockerd.must("volume", "rm", output.stdout.strip())
    del document["CreatedAt"]
    text = json.dumps(document)
    if "vol" not in arguments and "--name" not in arguments:
        text = text.replace(output.stdout.strip(), "<name>")
        output = Output(output.exit_code, re.sub(r"^[0-9a-f]{64}$", "<name>", output.stdout), output.stderr)
    return output, text


@pytest.mark.parametrize("arguments", CREATIONS + REFUSED + OF_A_SWARM, ids=" ".join)
def test_creation(pair: Pair, arguments: tuple[str, ...]) -> None:
    docker, teul = (described(pair, name, program, arguments) for name, program in PROGRAMS)
    assert teul == docker
    assert (teul[1] is not None) == (arguments in CREATIONS)


LISTS = [
    (),
    ("-q",),
    ("--filter", "name=vol"),
    ("--filter", "driver=local", "--filter", "dangling=true"),
    ("--filter", "dangling=false"),
    ("--filter", "dangling=nonsense"),
    ("--filter", "label=a", "-q"),
    ("--filter", "nosuch=x"),
    ("--filter", "nonsense"),
    ("--format", "json"),
    ("--format", "json", "-q"),
    ("--format", "raw"),
    ("--format", "raw", "-q"),
    ("--format", "table", "-q"),
    ("--format", '{{.Name}} {{.Label "a"}}', "-q"),
    ("--format", 'table {{.Name}}\t{{.Scope}}\t{{.Mountpoint}}\t{{.Labels}}\t{{.Links}}\t{{.Size}}\t{{.Label "a"}}'),
    ("--format", "table {{.Group}}\t{{.Availability}}\t{{.Status}}"),
    ("--format", "{{json .}}"),
    ("--format", "{{.Nosuch}}"),
    ("--format", "{{.ID}}"),
    ("--format", "{{"),
    ("--cluster",),
    ("--cluster", "-q"),
    ("--cluster", "--format", "{{.Name}}"),
]


def test_lists(pair: Pair) -> None:
    for name in ("vol10", "vol2", "vol1"):
        pair.dockerd.must("volume", "create", "--label", "a=<b>", name)
    pair.dockerd.must("run", "-d", "--name", "box", "-v", "vol2:/x", "-v", "/y", "busybox", "sleep", "60")
    for arguments in LISTS:
        pair.same("volume", "ls", *arguments)
    names = pair.same("volume", "list", "--format", "{{.Name}}", "--filter", "label=a").stdout.split()
    assert names == ["vol1", "vol2", "vol10"]
    for name, _ in PROGRAMS:
        settings = {"volumesFormat": "table {{.Name}}\t{{.Scope}}"}
        (pair.directory / name / "config" / "config.json").write_text(json.dumps(settings))
    assert pair.same("volume", "ls", "-f", "label=a").stdout.startswith("VOLUME NAME   SCOPE\n")
    assert pair.same("volume", "ls", "-q").exit_code == 0


def test_inspection(pair: Pair) -> None:
    pair.dockerd.must("volume", "create", "--label", "a=b", "-o", "type=tmpfs", "-o", "device=tmpfs", "vol")
    pair.dockerd.must("volume", "create", "plain")
    for arguments in (
        ("vol",),
        ("vol", "nosuch", "plain"),
        ("-f", "{{.Name}} {{.Driver}} {{.Mountpoint}} {{range $k, $v := .Options}}{{$k}}={{$v}} {{end}}", "vol", "plain"),
        ("-f", "{{json .Labels}} {{.UsageData}} {{.Status}}", "vol"),
        ("-f", "json", "vol"),
        ("-f", "{{", "vol"),
        ("nosuch",),
        ("",),
    ):
        pair.same("volume", "inspect", *arguments)
    assert pair.same("inspect", "vol").exit_code == 0
    assert pair.same("inspect", "--type", "volume", "nosuch").exit_code == 1


def test_removal(pair: Pair) -> None:
    create = ("volume", "create", "vol")
    assert pair.after(*create, run=("volume", "rm", "vol")).stdout == "vol\n"
    output = pair.after(*create, run=("volume", "remove", "nosuch", "vol", "neither"))
    assert (output.exit_code, output.stdout) == (1, "vol\n")
    assert pair.same("volume", "rm", "-f", "nosuch").exit_code == 0
    pair.dockerd.must(*create)
    pair.dockerd.must("run", "-d", "--name", "box", "-v", "vol:/x", "busybox", "sleep", "60")
    pair.same("volume", "rm", "", "nosuch")
    assert "volume is in use" in pair.same("volume", "rm", "-f", "vol").stderr


def test_update(modern: Pair) -> None:
    modern.dockerd.must("volume", "create", "vol")
    assert modern.same("volume", "update", "vol").stderr == "can only update cluster volumes\n"
    assert modern.same("volume", "update", "--availability", "drain", "nosuch").exit_code == 1


def test_prune(pair: Pair) -> None:
    is_modern = isinstance(pair.dockerd, Engine)
    everything = ("-a",) if is_modern else ()
    create = ("volume", "create", "--label", "a=b", "vol")
    output = pair.after(*create, run=("volume", "prune", "-f", *everything))
    assert output.stdout == "Deleted Volumes:\nvol\n\nTotal reclaimed space: 0B\n"
    assert pair.same("volume", "prune", "-f").stdout == "Total reclaimed space: 0B\n"
    pair.dockerd.must(*create)
    for arguments in ((), ("-a",), ("--filter", "label=zz"), ("-a", "--filter", "all=1")):
        assert "vol" not in pair.same("volume", "prune", *arguments, stdin=b"n\n").stdout.split()
    assert pair.same("volume", "prune", "-f", "--filter", "label=zz").stdout == "Total reclaimed space: 0B\n"
    assert pair.same("volume", "prune", "-f", "--filter", "label!=a").exit_code == 0
    assert pair.same("volume", "prune", "-f", "--filter", "nosuch=zz").exit_code == 1
    assert pair.dockerd.must("volume", "ls", "-q") == "vol"
    for text in ("all=false", "all=nonsense"):
        pair.same("volume", "prune", "-f", "--filter", text)
    pair.dockerd.docker("volume", "rm", "vol")
    pair.after(*create, run=("volume", "prune", "-f", "--filter", "label=a", *everything))
