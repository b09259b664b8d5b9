"""Logs beside dockerd: what is refused, what goes along with lines, and what a syslog server gets."""

from __future__ import annotations

import re
import shlex
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import images
from support.docker_host import DockerHost
from support.dockerd import Dockerd
from support.engine import Engine
from support.needs import needs

pytestmark = [needs("root", "docker_cli", "dockerd", "busybox", "overlayfs")]


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[DockerHost, DockerHost]]:
    with Dockerd() as dockerd, Engine() as engine:
        for host in (dockerd, engine):
            host.load(images.busybox().docker_archive())
        yield dockerd, engine


@pytest.mark.parametrize(
    "options",
    [
        "json-file --log-opt colour=red",
        "local --log-opt colour=red",
        "syslog --log-opt colour=red",
        "journald --log-opt colour=red",
        "json-file --log-opt mode=lossy",
        "json-file --log-opt max-buffer-size=1m",
        "json-file --log-opt mode=non-blocking --log-opt max-buffer-size=x",
        "json-file --log-opt cache-disabled=maybe",
        "syslog --log-opt syslog-facility=nosuch",
        "syslog --log-opt syslog-format=nosuch",
        "syslog --log-opt syslog-address=unix:///no/such",
        "syslog",
        "syslog --log-opt syslog-address=tcp://127.0.0.1:1",
        "journald",
        "json-file --log-opt compress=true",
        "json-file --log-opt compress=true --log-opt max-size=1m",
        "json-file --log-opt max-size=0",
        "json-file --log-opt max-file=0",
    ],
)
def test_both_refuse_the_same(hosts: tuple[DockerHost, DockerHost], options: str) -> None:
    """By `docker run`. Some values dockerd finds out about at the start only, and says so."""
    docker, teul = (refusal(host, options) for host in hosts)
    assert teul == docker


def refusal(host: DockerHost, options: str) -> tuple[int, str]:
    done = host.docker("run", "--rm", "--log-driver", *shlex.split(options), "busybox", "true")
    text = done.stderr.partition("\n\nRun 'docker")[0].strip().replace("failed to initialize logging driver: ", "")
    return done.exit_code, text


def test_both_show_the_same_details(hosts: tuple[DockerHost, DockerHost]) -> None:
    """Of json-file: to the `local` driver Docker gives these options since a later version."""
    options = ["--label", "team=a&b", "--label", "tier=b", "-e", "COLOUR=r d"]
    wanted = ["--log-opt", "labels=team", "--log-opt", "labels-regex=^ti", "--log-opt", "env-regex=OUR$", "--log-opt", "tag={{.Name}}"]
    shown = []
    for host in hosts:
        host.must("run", "--name", "adorned", *options, *wanted, "busybox", "sh", "-c", "echo x; echo; printf y")
        shown.append(host.must("logs", "--details", "adorned"))
        host.must("rm", "adorned")
    assert shown[1] == shown[0]


@pytest.mark.parametrize(
    "more", ["", "syslog-format=rfc3164", "syslog-format=rfc5424", "syslog-format=rfc5424micro", "syslog-facility=local3"]
)
def test_both_send_the_same_lines(hosts: tuple[DockerHost, DockerHost], tmp_path: Path, more: str) -> None:
    got = []
    for host in hosts:
        path = tmp_path / host.name
        sink = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sink.settimeout(20)
        sink.bind(str(path))
        options = ["--log-driver", "syslog", "--log-opt", f"syslog-address=unixgram://{path}"]
        options += ["--log-opt", "tag={{.Name}}/{{.ImageName}}", *(["--log-opt", more] if more else [])]
        host.must("run", "--rm", "--name", "sends", *options, "busybox", "sh", "-c", "echo one; sleep 0.2; printf 'two\\tx' >&2")
        got.append([shape(sink.recv(65536)) for _ in range(2)])
        sink.close()
    assert got[1] == got[0]


def shape(line: bytes) -> str:
    """Without time and process."""
    text = re.sub(r"\[\d+\]:", "[PID]:", line.decode())
    text = re.sub(r"(busybox) \d+ ", r"\1 PID ", text)
    text = re.sub(r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d", "TIME", text)
    return re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?(?:Z|[+-]\d\d:\d\d)", lambda found: f"TIME{len(found[1] or '')}", text)
