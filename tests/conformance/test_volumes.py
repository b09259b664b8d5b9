"""Volumes, asked for in every way that clients have: each engine answers the same, and volumes have the same in them."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from conformance import volume_scenes as scenes
from conformance.network_scenes import Request, Step
from support import images
from support.docker_host import DockerHost
from support.dockerd import Dockerd
from support.engine import Engine
from support.needs import needs

pytestmark = [needs("root", "docker_cli", "dockerd", "busybox", "overlayfs")]

# What dockerd 20.10 says and what Teul says: as moby 28 does, but for the last ones.
KNOWN = [
    ("Invalid filter '", "invalid filter '"),
    # moby 25 has the driver tell in which place a container's files were; nobody but dockerd knows that place.
    ("source <root>/overlay2/<id>/merged/plain is not directory", "source /plain is not directory"),
    # moby 28 takes no contradiction for an answer.
    ("0\nother\nvol2", "1\n\nError response from daemon: invalid filter 'dangling=[false true]'"),
    # moby 23 marks what nobody has named.
    ('"Labels":null,"Mountpoint":"<root>/volumes/<id>', '"Labels":{"com.docker.volume.anonymous":""},"Mountpoint":"<root>/volumes/<id>'),
    # Go's structs have other names today.
    (
        "json: cannot unmarshal number into Go struct field VolumeCreateBody.Name of type string",
        "invalid JSON: json: cannot unmarshal number into Go struct field CreateRequest.Name of type string",
    ),
    (
        "json: cannot unmarshal array into Go value of type volume.VolumeCreateBody",
        "invalid JSON: json: cannot unmarshal array into Go value of type volume.CreateRequest",
    ),
    ("error reading volume filters: invalid character 'o' in literal null (expecting 'u')", "invalid filter"),
    ("500 {\"message\":\"invalid character 'o' in literal null (expecting 'u')\"}", '400 {"message":"invalid filter"}'),
    # Options of a mount may be secrets, and its flags are only a number: Teul tells neither.
    (", flags: 0x1000: ", ": "),
    (", data: nonsense=1: ", ": "),
    (", data: addr=127.0.0.1: ", ": "),
    (", data: addr=127.0.0.1,password=secret: ", ": "),
]


class Hosts:
    """Both engines, and what a step says of each."""

    def __init__(self, dockerd: DockerHost, teul: DockerHost) -> None:
        self.both = (dockerd, teul)

    def play(self, steps: Sequence[Step]) -> list[tuple[str, str, str]]:
        """The steps, and what dockerd and Teul answered, wherever they did not answer the same. Nothing stays."""
        try:
            answers = [[(_title(step), _answer(host, step)) for step in steps] for host in self.both]
        finally:
            for host in self.both:
                clean(host)
        return [(title, theirs, ours) for (title, theirs), (_, ours) in zip(*answers, strict=True) if _as_known(theirs, ours) != ours]


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    with Dockerd() as dockerd, Engine(hurried={"teul.plugins.registry._LOOKING_SECONDS": 0.1}) as teul:
        for host in (dockerd, teul):
            host.load(images.busybox().docker_archive())
            host.load(scenes.filled_image().docker_archive())
        yield Hosts(dockerd, teul)


def clean(host: DockerHost) -> None:
    host.remove_containers()
    for name in host.must("volume", "ls", "-q").split():
        host.must("volume", "rm", name)


def _as_known(theirs: str, ours: str) -> str:
    """What dockerd said, with what is known to be other in Teul as Teul says it."""
    for left, right in KNOWN:
        if left in theirs and right in ours:
            theirs = theirs.replace(left, right)
    return theirs


def _title(step: Step) -> str:
    return step.title if isinstance(step, Request) else step


def _answer(host: DockerHost, step: Step) -> str:
    if isinstance(step, Request):
        with host.api(version="") as api:
            response = api.request(step.method, step.path, step.body)
            return _plain(host, f"{response.status} {response.body.decode()}")
    output = host.docker(*shlex.split(step))
    return _plain(host, f"{output.exit_code}\n{output.stdout}\n{output.stderr}").strip()


def _plain(host: DockerHost, text: str) -> str:
    """Without what is another each time: places, ids, times."""
    text = text.replace(str(host.base / ("data" if isinstance(host, Dockerd) else "root")), "<root>")
    text = re.sub(r"[0-9a-f]{64}", "<id>", text)
    text = re.sub(r"\b[0-9a-f]{12}\b", "<id>", text)
    # The order of mounts is that of a map of Go's.
    text = re.sub(
        r'(?m)^\[\{"Type".*?\}\]', lambda found: json.dumps(sorted(json.loads(found[0]), key=lambda item: item["Destination"])), text
    )
    # So is that of the command line's -v.
    text = re.sub(r'(?<=\] )\[("[^]]*)\]', lambda found: f"[{','.join(sorted(found[1].split(',')))}]", text)
    # Why a host's name is not known, each engine's resolver has words of its own for.
    text = re.sub(r"lookup (\S+?)(?: on \S+)?: [^\n]*", r"lookup \1: <reason>", text)
    # Archives are another test's.
    text = re.sub(r"(?s)^0\n(\S+?)\0.*", r"archive of \1", text)
    # Where dockerd fills a directory last, its time is that of the filling; Teul gives it the image's.
    text = re.sub(r"(?m)^(\S+ 4[0-9a-f]{3} \S+ \d+) \d+$", r"\1", text)
    return re.sub(r'"CreatedAt": ?"[^"]*"', '"CreatedAt":"<time>"', text)


def same(hosts: Hosts, steps: Sequence[Step]) -> None:
    found = hosts.play(steps)
    assert not found, "\n".join(f"--- {title}\n<<< {theirs.strip()}\n>>> {ours.strip()}" for title, theirs, ours in found)


def _id(steps: Any) -> str:
    return _title(steps[0])[:60] if isinstance(steps, list) else ""


@pytest.mark.parametrize("steps", scenes.FILLING, ids=_id)
def test_what_an_image_gives(hosts: Hosts, steps: list[Step]) -> None:
    same(hosts, steps)


@pytest.mark.parametrize("steps", scenes.SHARING, ids=_id)
def test_who_has_what(hosts: Hosts, steps: list[Step]) -> None:
    same(hosts, steps)


@pytest.mark.parametrize("options", scenes.WRONG)
def test_specifications(hosts: Hosts, options: str) -> None:
    steps: list[Step] = [f"run --name box {options} busybox grep -o ' /x [^ ]* r[ow]' /proc/mounts", scenes.MOUNTS + "box"]
    # Where a request is refused because of its second volume dockerd has made the first one by then; Teul makes none.
    same(hosts, [*steps, "volume ls -q"] if options not in scenes.TWICE else steps)


@pytest.mark.parametrize("steps", scenes.DRIVERS, ids=_id)
def test_options_of_the_driver(hosts: Hosts, steps: list[Step]) -> None:
    same(hosts, steps)


@pytest.mark.parametrize("steps", scenes.LISTS + scenes.PRUNES, ids=_id)
def test_lists_and_prunes(hosts: Hosts, steps: list[Step]) -> None:
    same(hosts, steps)


@pytest.mark.parametrize("step", scenes.REQUESTS, ids=_title)
def test_requests(hosts: Hosts, step: Step) -> None:
    same(hosts, [step])


@pytest.mark.parametrize("steps", scenes.COPIES, ids=_id)
def test_copies(hosts: Hosts, steps: list[Step]) -> None:
    same(hosts, steps)


def test_events(hosts: Hosts) -> None:
    told = []
    for host in hosts.both:
        since = host.must("system", "info", "-f", "{{.SystemTime}}").strip()
        for step in scenes.EVENTS:
            _answer(host, step)
        until = host.must("system", "info", "-f", "{{.SystemTime}}").strip()
        lines = host.must("events", "--since", since, "--until", until, "--filter", "type=volume", "--format", "{{json .}}").splitlines()
        # In no order: dockerd's is that of a map. And before moby 23 it told of making what was there already.
        told.append({_plain(host, json.dumps({key: json.loads(line)[key] for key in ("Action", "Actor")})) for line in lines})
        clean(host)
    assert told[1] == told[0]
