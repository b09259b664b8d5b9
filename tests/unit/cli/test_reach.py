"""What a user is told who reaches no engine."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from teul.cli.endpoint import Endpoint
from teul.cli.reach import ROOT_ONLY, advise, membership_advice
from teul.client.address import Address


def status(*, gid: int, mode: int = 0o660) -> os.stat_result:
    return os.stat_result((stat.S_IFSOCK | mode, 1, 1, 1, 0, gid, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("found", "members", "advice"),
    [
        (status(gid=0), (), "the socket is root's alone: use sudo, or make a group docker, which the next engine gives the socket to"),
        (status(gid=5, mode=0o600), ("kim",), "the socket is root's alone: use sudo, or make a group docker, which the next engine gives"),
        (status(gid=5), ("kim",), 'kim is in the group "docker", but this session began before: log in again, or run "newgrp docker"'),
        (status(gid=5), ("lee",), 'kim is not in the group "docker": run "sudo usermod -aG docker kim" and log in again, or use sudo'),
    ],
)
def test_how_somebody_gets_to_a_socket(found: os.stat_result, members: tuple[str, ...], advice: str) -> None:
    assert membership_advice("kim", "docker", found, members=members).startswith(advice)


def test_what_is_possible_without_root(tmp_path: Path) -> None:
    own = Endpoint(Address(path=str(tmp_path / "docker.sock")), startable=False, own=True)
    assert advise(own, refused=True, user_id=1000) == ROOT_ONLY
    assert advise(own, refused=False, user_id=1000) == "use sudo", "no socket to look at"
    assert advise(own, refused=True, user_id=0) == ""
    assert advise(Endpoint(Address(host="h", port=1), startable=False), refused=True, user_id=1000) == ""
    led = Endpoint(Address(host="h", port=1), startable=False, chosen_by="DOCKER_HOST")
    assert advise(led, refused=True, user_id=0) == "DOCKER_HOST leads there; without it teul speaks to its own engine"
