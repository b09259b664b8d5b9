"""Docker Compose brings up, looks at, changes and takes down a project: each engine says and shows the same."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from support import compose, images
from support.docker_host import DockerHost, Output
from support.dockerd import Dockerd
from support.engine import Engine
from support.needs import needs

pytestmark = [needs("root", "docker_cli", "dockerd", "busybox", "overlayfs", "compose")]

PROJECT = """
services:
  store:
    image: busybox
    command: sh -c 'trap "exit 0" TERM; touch /tmp/ready; while :; do sleep 0.1; done'
    hostname: store
    networks:
      back: {aliases: [database, db], ipv4_address: 10.181.9.9}
    healthcheck:
      test: [CMD, test, -e, /tmp/ready]
      interval: 1s
  web:
    image: busybox
    command: sh -c 'trap "exit 0" TERM; httpd -p 80 -h /etc; while :; do sleep 0.1; done'
    hostname: web
    ports: ["127.0.0.1:38180:80"]
    environment: {ROLE: web}
    labels: {own: label}
    depends_on:
      store: {condition: service_healthy}
    networks: [front, back]
  replica:
    image: busybox
    command: sleep 1000
    init: true
    scale: 3
    networks: [back]
  once:
    image: busybox
    command: echo done
    depends_on: [web]
    network_mode: none
networks:
  front:
    driver_opts: {com.docker.network.driver.mtu: "1400"}
    labels: {kind: front}
    ipam: {config: [{subnet: 10.181.8.0/24, gateway: 10.181.8.7}]}
  back:
    internal: true
    ipam: {config: [{subnet: 10.181.9.0/24}]}
"""

STEPS = (
    ("up", "-d", "--quiet-pull"),
    ("ps", "-a", "--format", "{{.Service}} {{.State}} {{.ExitCode}}"),
    ("ps", "--services"),
    ("exec", "-T", "web", "cat", "/etc/hosts"),
    ("exec", "-T", "store", "hostname"),
    ("exec", "-T", "web", "sh", "-c", "echo $ROLE; exit 3"),
    ("exec", "-T", "web", "nslookup", "-type=a", "db"),
    ("exec", "-T", "store", "wget", "-qO-", "http://web/hostname"),
    ("exec", "-T", "web", "sh", "-c", "nslookup -type=a replica | grep -c Address"),
    ("port", "web", "80"),
    ("up", "-d", "--scale", "replica=5"),
    ("exec", "-T", "web", "sh", "-c", "nslookup -type=a replica | grep -c Address"),
    ("up", "-d", "--scale", "replica=1"),
    ("exec", "-T", "store", "ip", "-o", "-4", "addr", "show", "dev", "eth0"),
    ("up", "-d"),
    ("restart", "-t", "2", "web"),
    ("ps", "--format", "{{.Service}} {{.State}}"),
    ("stop", "-t", "2", "store"),
    ("ps", "-a", "--format", "{{.Service}} {{.State}} {{.ExitCode}}"),
    ("start", "store"),
    ("up", "-d", "--force-recreate", "-t", "2", "web"),
    ("up", "-d", "--scale", "once=2"),
    ("logs", "--no-log-prefix", "once"),
    ("ps", "-a", "--format", "{{.Name}}"),
    ("rm", "-f", "-s", "once"),
    ("down", "-t", "2"),
    ("ps", "-a", "--format", "{{.Name}}"),
    ("down",),
)


class Project:
    """A project's directory, and Compose speaking to one engine about it."""

    def __init__(self, host: DockerHost, directory: Path) -> None:
        self.host = host
        self.directory = directory / "judged"
        self.directory.mkdir(parents=True)
        (self.directory / "compose.yaml").write_text(PROJECT)

    def compose(self, *arguments: str) -> Output:
        program = compose.program()
        assert program is not None
        prefix = [str(program), "--project-directory", str(self.directory), "--progress", "plain"]
        return self.host.run([*prefix, *arguments], timeout_seconds=120)

    def shown(self) -> Any:
        """What the engine has of the project's networks and containers, as far as the project asks for it."""
        names = sorted(self.host.must("ps", "-a", "--format", "{{.Names}}").split())
        brief = [name for name in names if "once" in name]
        if brief:
            self.host.must("wait", *brief)
        networks = sorted(self.host.must("network", "ls", "-f", "type=custom", "--format", "{{.Name}}").split())
        return [self._network(name) for name in networks], [self._container(name) for name in names]

    def _network(self, name: str) -> Any:
        document = json.loads(self.host.must("network", "inspect", name))[0]
        labels = {key: value for key, value in document["Labels"].items() if "config-hash" not in key}
        return name, document["Internal"], document["Options"], labels, [entry["Subnet"] for entry in document["IPAM"]["Config"]]

    def _container(self, name: str) -> Any:
        document = self.host.inspect(name)
        endpoints = {
            network: (endpoint["IPAMConfig"], sorted(_chosen(endpoint["Aliases"], document["Config"]["Hostname"])))
            for network, endpoint in document["NetworkSettings"]["Networks"].items()
        }
        ports = document["NetworkSettings"]["Ports"]
        return name, document["State"]["Status"], document["HostConfig"]["NetworkMode"], document["Config"]["Env"], ports, endpoints


def _chosen(aliases: list[str] | None, hostname: str) -> list[str]:
    """Without what 20.10 adds: the short id and the host name."""
    return [alias for alias in aliases or [] if not re.fullmatch(r"[0-9a-f]{12}", alias) and alias != hostname]


def normalise(output: Output, step: tuple[str, ...]) -> Any:
    """What Compose said, without ids and times; what it tells of its progress comes in any order."""
    stdout = re.sub(r"\b[0-9a-f]{64}\b", "<id>", output.stdout)
    if step[:3] == ("exec", "-T", "web") and "/etc/hosts" in step:
        lines = stdout.replace("fe00::0", "fe00::").replace("ff00::0", "ff00::").splitlines()
        stdout = "\n".join(sorted(re.sub(r"^10\.181\.(\d)\.\d+", r"10.181.\1.x", line) for line in lines))
    stdout = re.sub(r"(?m)^\d+: ", "", stdout).replace("judged-once-2, judged-once-1", "judged-once-1, judged-once-2")
    progress = sorted({re.sub(r" \d+\.\d+s", "", line).strip() for line in output.stderr.splitlines() if not line.startswith("time=")})
    return output.exit_code, sorted(stdout.splitlines()) if step[0] in ("ps", "logs") else stdout, progress


def test_a_project_of_two_networks(tmp_path: Path) -> None:
    """Up, looked at, restarted, changed and down again."""
    problems: list[str] = []
    with Dockerd() as dockerd, Engine() as engine:
        projects = [Project(host, tmp_path / host.name) for host in (dockerd, engine)]
        for project in projects:
            project.host.load(images.busybox().docker_archive())
        for step in STEPS:
            docker, teul = ((normalise(project.compose(*step), step), project.shown()) for project in projects)
            assert docker[0][0] == (3 if "exit 3" in step[-1] else 0), (step, docker)
            if teul != docker:
                problems.append(f"$ compose {' '.join(step)}\n  docker {docker}\n  teul   {teul}")
    assert not problems, "\n" + "\n".join(problems)
