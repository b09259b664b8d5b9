"""Docker Compose and the volumes of a project: what stays and what goes when it is brought up, recreated and taken down."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from support import compose, images
from support.docker_host import DockerHost
from support.dockerd import Dockerd
from support.engine import Engine
from support.needs import needs

pytestmark = [needs("root", "docker_cli", "dockerd", "busybox", "overlayfs", "compose")]

PROJECT = """
services:
  store:
    image: busybox
    command: sleep 1000
    init: true
    volumes: ["data:/data", "/anonymous", "outside:/outside"]
  reader:
    image: busybox
    command: sleep 1000
    init: true
    depends_on: [store]
    volumes:
      - {type: volume, source: data, target: /data, read_only: true}
      - {type: volume, source: scratch, target: /scratch, volume: {nocopy: true}}
volumes:
  data: {labels: {kind: data}}
  scratch: {driver: local, driver_opts: {type: tmpfs, device: tmpfs, o: size=1m}}
  outside: {external: true}
"""
_WRITE = 'for d in data anonymous outside; do echo "$0" >> /$d/file; done; cat /data/file /anonymous/file /outside/file'
STEPS = (
    ("up", "-d"),  # the external volume is not there
    ("down", "-v"),
    ("volume", "create", "outside"),
    ("up", "-d"),
    ("exec", "-T", "store", "sh", "-c", _WRITE, "first"),
    ("exec", "-T", "reader", "sh", "-c", "cat /data/file; touch /data/no; touch /scratch/yes; df -k /scratch | tail -n1"),
    ("up", "-d", "--force-recreate", "-t", "1"),
    ("exec", "-T", "store", "sh", "-c", _WRITE, "second"),
    ("up", "-d", "--force-recreate", "--renew-anon-volumes", "-t", "1"),
    ("exec", "-T", "store", "sh", "-c", _WRITE, "third"),
    ("stop", "-t", "1"),
    ("start",),
    ("exec", "-T", "store", "sh", "-c", _WRITE, "fourth"),
    ("down", "-t", "1"),
    ("up", "-d"),
    ("exec", "-T", "store", "sh", "-c", _WRITE, "fifth"),
    ("rm", "-f", "-s", "-v", "store"),
    ("up", "-d"),
    ("exec", "-T", "store", "sh", "-c", _WRITE, "sixth"),
    ("volumes", "--format", "{{.Name}} {{.Driver}}"),
    ("down", "-v", "-t", "1"),
    ("up", "-d"),
    ("exec", "-T", "store", "sh", "-c", _WRITE, "seventh"),
    ("down", "-v", "-t", "1"),
    ("volume", "rm", "outside"),
)


def shown(host: DockerHost) -> Any:
    """The volumes that there are: those without a name by their number."""
    found = [json.loads(line) for line in host.must("volume", "ls", "--format", "{{json .}}").splitlines()]
    named = sorted(volume["Name"] for volume in found if len(volume["Name"]) != 64)
    documents = json.loads(host.must("volume", "inspect", *named)) if named else []
    kept = [
        {key: value for key, value in (document["Labels"] or {}).items() if not key.endswith((".config-hash", ".version"))}
        for document in documents
    ]
    return len(found) - len(named), [*zip(named, kept, (document["Options"] for document in documents), strict=True)]


def take(host: DockerHost, directory: Path, step: tuple[str, ...]) -> Any:
    """The step's exit code, what it printed, and the volumes that there are then."""
    if step[0] == "volume":
        return host.must(*step), shown(host)
    program = compose.program()
    assert program is not None
    output = host.run([str(program), "--project-directory", str(directory), "--progress", "plain", *step], timeout_seconds=120)
    told = output.stdout if step[0] in ("exec", "volumes") else ""
    complaints = [re.sub(r"^time=\S+ ", "", line) for line in output.stderr.splitlines() if "not found" in line or "Read-only" in line]
    return output.exit_code, sorted(told.splitlines()) if step[0] == "volumes" else told, complaints, shown(host)


def test_a_project_with_volumes(tmp_path: Path) -> None:
    problems: list[str] = []
    with Dockerd() as dockerd, Engine() as engine:
        places = []
        for host in (dockerd, engine):
            host.load(images.busybox().docker_archive())
            directory = tmp_path / host.name / "judged"
            directory.mkdir(parents=True)
            (directory / "compose.yaml").write_text(PROJECT)
            places.append((host, directory))
        for step in STEPS:
            docker, teul = (take(host, directory, step) for host, directory in places)
            if docker[0] == 1:
                # What Compose has made by the time that it finds something missing is its own accident.
                docker, teul = docker[:-1], teul[:-1]
            if teul != docker:
                problems.append(f"$ compose {' '.join(step)}\n  docker {docker}\n  teul   {teul}")
    assert not problems, "\n" + "\n".join(problems)
