"""What a container has changed is in the image that Teul commits as it is in the one that dockerd commits, entry by entry."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from conformance.test_layers import merged
from support import images
from support.docker_host import DockerHost
from support.dockerd import Dockerd
from support.engine import Engine
from support.needs import needs
from support.trees import Tree, differences, tree
from teul.snapshots import erofs
from teul.store.layer_files import ARCHIVE_FILE, INDEX_FILE

pytestmark = needs("root", "dockerd", "docker_cli", "busybox", "overlayfs")

_BASE = images.Image(
    ("base:1",),
    (
        *images.busybox().layers,
        images.pack(
            [
                *(images.directory(name) for name in ("old", "old/deep", "hidden", "hidden/below", "replaced", "kept")),
                *(images.file(f"{name}/{file}", file) for name in ("old", "old/deep", "hidden", "replaced", "kept") for file in ("a", "b")),
                images.file("turned", "a file that becomes a directory"),
                images.file("linked", "a file that gets a second name"),
                images.symlink("link", "kept/a"),
            ]
        ),
    ),
    {"Cmd": ["sh"], "Env": [images.PATH, "WORD=base"], "Labels": {"from": "base"}},
)
_SCRIPT = """
set -e
rm /old/a /link; rm -r /old/deep /hidden; mkdir /hidden; echo new > /hidden/c
rm -r /replaced; echo file > /replaced
rm /turned; mkdir /turned; echo x > /turned/x
ln /linked /second; ln -s nowhere /dangling
mkdir -p /made/of/many; echo deep > /made/of/many/names; chmod 1777 /made; chown 12:34 /made/of
echo one > /one; ln /one /two; chmod 4755 /one; mkfifo /pipe; mknod /null c 1 3; mknod /block b 7 0
dd if=/dev/zero of=/sparse bs=1 count=1 seek=3000000 2>/dev/null; echo middle | dd of=/sparse bs=1 seek=1000000 conv=notrunc 2>/dev/null
echo >> /kept/a; chmod 600 /kept/b; echo gone > /tmp/gone; rm /tmp/gone; touch "/od d" "/$(printf 'n\\303\\266')"
name=$(printf '%0200d' 7); mkdir -p /$name/$name; echo long > /$name/$name/$name
echo etc > /etc/made; ln -s /etc/made /etc/link; echo v > /mounted/v; echo t > /temporary/t
touch -h -t 202301020304.05 /dangling /etc/link
find /old /hidden /replaced /turned /linked /made /one /pipe /null /block /sparse /kept /tmp "/od d" /n* /0* /etc/made /etc -depth \
    ! -name hosts ! -name hostname ! -name resolv.conf ! -type l -exec touch -t 202301020304.05 {} +
echo ready; exec sleep 1000
"""


@pytest.fixture(scope="module")
def docker() -> Iterator[Dockerd]:
    with Dockerd(extra=("--storage-driver", "overlay2")) as running:
        running.load(_BASE.docker_archive())
        yield running


@pytest.fixture(scope="module", params=["erofs", "directory"])
def teul(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with Engine(extra=("--snapshotter", request.param)) as running:
        running.load(_BASE.docker_archive())
        yield running


def changed(host: DockerHost) -> None:
    """A container called "box" that runs and has changed everything that it may."""
    host.remove_containers()
    run = ("run", "-d", "--name", "box", "--cap-add", "MKNOD", "-v", "/mounted", "--tmpfs", "/temporary", "base:1", "sh", "-c", _SCRIPT)
    host.must(*run)
    while "ready" not in host.must("logs", "box"):
        assert host.inspect("box")["State"]["Running"], host.docker("logs", "box").stderr
    root = f"/proc/{host.init_pid('box')}/root"
    os.setxattr(f"{root}/one", "user.note", b"hello")
    os.setxattr(f"{root}/made/of/many/names", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))


def layers(host: DockerHost, image: str, stack: ExitStack) -> list[str | int]:
    """The image's layers, the lowest first, as overlayfs takes them."""
    data = host.inspect(image)["GraphDriver"]["Data"]
    found: list[str | int] = []
    for directory in [data["UpperDir"], *filter(None, data.get("LowerDir", "").split(":"))][::-1]:
        if os.path.exists(f"{directory}/{INDEX_FILE}"):
            fd = erofs.mount_layer(f"{directory}/{INDEX_FILE}", f"{directory}/{ARCHIVE_FILE}")
            stack.callback(os.close, fd)
            found.append(fd)
        else:
            found.append(directory)
    return found


def shown(host: DockerHost, image: str, place: Path) -> Tree:
    """What a container of the image finds."""
    with ExitStack() as stack:
        return tree(stack.enter_context(merged(layers(host, image, stack), place)))


def test_trees_are_as_dockerd_commits_them(docker: Dockerd, teul: Engine, tmp_path: Path) -> None:
    trees = []
    for host in (docker, teul):
        changed(host)
        host.must("commit", "box", "made:1")
        trees.append(shown(host, "made:1", tmp_path / host.name))
    theirs, ours = trees
    found = {(os.fsdecode(path), fact): (left, right) for path, fact, left, right in differences(theirs, ours)}
    for name in ("one", "two"):
        assert found.pop((name, "attributes"))[1]["user.note"] == b"hello", "Docker's layers have no attributes but capabilities"
    for name in (".", "mounted", "temporary"):
        found.pop((name, "mtime"), None)  # when the container was started
    assert not found


# What is said of a container, and what of the image that it becomes.
_CREATED: dict[str, tuple[str, ...]] = {
    "plain": ("base:1",),
    "its own": (
        *("-e", "WORD=own", "--user", "1:2", "--workdir", "/kept", "--label", "own=1", "--expose", "80", "-v", "/mounted"),
        *("--stop-signal", "SIGUSR1", "--health-cmd", "true", "--health-retries", "3", "--entrypoint", "echo", "base:1", "a b", "c"),
    ),
}
_COMMITTED: dict[str, tuple[str, ...]] = {
    "nothing": (),
    "words": ("-a", "Somebody <some@body>", "-m", "why it was made"),
    "commands": ("-c", 'CMD ["ls", "/"]', "--change", "ENV WORD=changed NEW=$WORD", "-c", "EXPOSE 81 82/udp", "-c", "LABEL a=b"),
    "others": ("-c", "ENTRYPOINT sleep 1", "-c", "VOLUME /v", "-c", "WORKDIR deeper", "-c", "USER nobody", "-c", "ONBUILD RUN x"),
    "more": ("-c", "HEALTHCHECK --interval=5s CMD true", "--pause=false"),
}


@pytest.mark.parametrize("committed", _COMMITTED)
@pytest.mark.parametrize("created", _CREATED)
def test_images_say_of_themselves_what_dockerds_do(docker: Dockerd, teul: Engine, created: str, committed: str) -> None:
    told = []
    for host in (docker, teul):
        host.remove_containers()
        host.must("create", "--name", "box", *_CREATED[created])
        assert re.fullmatch("sha256:[0-9a-f]{64}", host.must("commit", *_COMMITTED[committed], "box", "made"))
        image = json.loads(host.must("image", "inspect", "made:latest"))[0]
        assert image["Parent"] == host.inspect("base:1")["Id"]
        image["RootFS"]["Layers"] = len(image["RootFS"]["Layers"])
        history = host.must("history", "--no-trunc", "--format", "{{.CreatedBy}}|{{.Size}}|{{.Comment}}", "made")
        told.append((image, history))
        host.must("rmi", "made")
    (theirs, their_history), (ours, our_history) = told
    assert our_history == their_history
    for name in ("RepoTags", "Comment", "Author", "Architecture", "Os", "RootFS"):
        assert ours[name] == theirs[name], name
    # An older dockerd tells of members that no image has.
    assert ours["Config"] == {name: theirs["Config"][name] for name in ours["Config"]}
    optional = ("ArgsEscaped", "ExposedPorts", "Healthcheck", "Shell", "StopSignal")
    assert [name for name in optional if theirs["Config"].get(name)] == [name for name in optional if name in ours["Config"]]


@pytest.mark.parametrize(
    "arguments",
    [
        ("nosuch",),
        ("box", "Bad"),
        ("box", "a:b:c"),
        ("box", "base@sha256:" + "a" * 64),
        ("-c", "RUN x", "box"),
        ("-c", "MAINTAINER x", "box"),
        ("-c", "EXPOSE x", "box"),
        ("-c", "ENV", "box"),
        (),
        ("box", "a", "b"),
        ("--nosuch", "box"),
    ],
    ids=repr,
)
def test_refusals_are_dockerds(docker: Dockerd, teul: Engine, arguments: tuple[str, ...]) -> None:
    outputs = []
    for host in (docker, teul):
        host.remove_containers()
        host.must("create", "--name", "box", "base:1")
        outputs.append(host.docker("commit", *arguments))
        assert outputs[-1].exit_code
    # An older dockerd writes names of commands in small letters, and some first letters large.
    assert outputs[1].stderr.lower() == outputs[0].stderr.lower()
    assert (outputs[1].exit_code, outputs[1].stdout) == (outputs[0].exit_code, outputs[0].stdout)


def test_events_are_dockerds(docker: Dockerd, teul: Engine) -> None:
    """But for their order: here the container goes on as soon as its files are read."""
    told = []
    for host in (docker, teul):
        host.remove_containers()
        host.must("run", "-d", "--name", "box", "base:1", "sleep", "1000")
        begin = host.must("info", "--format", "{{.SystemTime}}")
        host.must("commit", "-m", "why", "box", "made:1")
        end = host.must("info", "--format", "{{.SystemTime}}")
        form = '{{.Type}} {{.Action}} {{index .Actor.Attributes "name"}} {{index .Actor.Attributes "comment"}} {{index .Actor.Attributes "imageRef"}}'
        events = host.must("events", "--since", begin, "--until", end, "--format", form)
        lines = re.sub("sha256:[0-9a-f]{64}", "<id>", events).splitlines()
        told.append(sorted(line for line in lines if not line.startswith("image create")))  # which an older dockerd does not tell
    assert told[1] == told[0]


@pytest.mark.parametrize("filters", [(), ("label=keep",), ("label!=keep",), ("until=1h",), ("until=2010-01-01", "label!=x")], ids=repr)
def test_pruning_is_dockerds(docker: Dockerd, teul: Engine, filters: tuple[str, ...]) -> None:
    told = []
    for host in (docker, teul):
        host.remove_containers()
        host.must("run", "-d", "--name", "runs", "base:1", "sleep", "1000")
        host.must("run", "--name", "ended", "base:1", "sh", "-c", "echo 12345 > /file")
        host.must("create", "--name", "created", "--label", "keep", "base:1")
        output = host.docker("container", "prune", "-f", *(word for text in filters for word in ("--filter", text)))
        names = {host.inspect(name)["Id"]: name for name in host.must("ps", "-a", "--format", "{{.Names}}").split()}
        told.append((re.sub("[0-9a-f]{64}", "<id>", output.stdout), output.stderr, sorted(names.values())))
    assert told[1] == told[0]


@pytest.mark.parametrize("filter_text", ["nosuch=1", "until=x", "until=1h --filter until=2h"])
def test_refused_prunings_are_dockerds(docker: Dockerd, teul: Engine, filter_text: str) -> None:
    outputs = [host.docker("container", "prune", "-f", "--filter", *filter_text.split()) for host in (docker, teul)]
    assert outputs[0].exit_code
    assert outputs[1].stderr.lower() == outputs[0].stderr.lower()
