"""A disk without room for one more row, whatever happens on it then, and whether its engine is stopped or killed while there is no room.

At each point: nothing that was acknowledged is lost, the records and what the engine says agree, the client is told "no space left on
device", and Teul's own commands make room again.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.test_full_disk import SOON
from faults.judge import assert_ends, assert_whole
from faults.victim import EXIT_CODE, IMAGE, Victim, small_image
from support.docker_host import DockerHost
from support.engine import Engine
from support.needs import needs
from support.polling import eventually
from support.unix_http import Response
from teul.store.ballast import BALLAST_BYTES, free_bytes

pytestmark = [needs("root", "busybox", "overlayfs")]

_NO_ROOM = "no space left on device"
_FILL = "while :; do cat /dev/zero >>/fill 2>/dev/null; sleep 0.01; done"  # what is given up for others, too
_TALK = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.02; done"
_LARGE = small_image("large:1", extra=[os.urandom(1 << 20)])


class _SmallVictim(Victim):
    """Its root has a disk of its own, of 200 MB, and nothing is made to go wrong but by that."""

    name = "small"

    def __init__(self) -> None:
        super().__init__(hurried=SOON)

    def command(self) -> list[str]:
        return Engine.command(self)

    def options(self) -> list[str]:
        return [*super().options(), "--disk-reserve", "0"]  # or it would never come to that

    def start(self, *, timeout_seconds: float = 30.0) -> None:
        if not self.root.exists():
            self.root.mkdir(mode=0o711)
            mounted = self.run_on_host("mount", "-t", "tmpfs", "-o", "size=200m", "small", str(self.root))
            assert mounted == 0
        super().start(timeout_seconds=timeout_seconds)

    def sweep(self) -> None:
        try:
            super().sweep()
        finally:
            assert self.run_on_host("umount", str(self.root)) == 0

    def run_on_host(self, *argv: str) -> int:
        return DockerHost.run(self, argv).exit_code

    def command_line(self, *arguments: str) -> str:
        """Teul's own, which has to succeed."""
        output = DockerHost.run(self, [str(Path(sys.executable).with_name("teul")), *arguments])
        assert output.exit_code == 0, f"teul {' '.join(arguments)}: {output.stderr}\n{self.log_tail()}"
        return output.stdout

    def fill(self) -> None:
        """Have a container take all the room there is, and records take what is left of the database's own."""
        self.run("filler", Cmd=["sh", "-c", _FILL])
        eventually(self.is_full, "the disk is full", timeout_seconds=30)
        for number in range(2000):
            response = self.ask("POST", f"/containers/create?name=more{number}", {"Image": IMAGE})
            assert response is not None
            if response.status != 201:
                assert _NO_ROOM in response.message
                return
        raise AssertionError("there is no end of the room")

    def is_full(self) -> bool:
        return free_bytes(str(self.root)) == 0

    def known(self) -> dict[str, tuple[str, str, int]]:
        """What the engine says of its containers, by id: name, state, exit code. And its images."""
        told = self.want(200, "GET", "/containers/json?all=1").json()
        found = {item["Id"]: self.find(item["Id"]) for item in told}
        known = {key: (each["Name"], each["State"]["Status"], each["State"]["ExitCode"]) for key, each in found.items()}
        images = self.want(200, "GET", "/images/json?all=1").json()
        return known | {image["Id"]: (str(image["RepoTags"]), "", 0) for image in images}


@pytest.fixture
def small() -> Iterator[_SmallVictim]:
    with _SmallVictim() as small:
        small.load(small_image(IMAGE).docker_archive())
        eventually((small.root / "ballast").exists, "room is kept for bad days")
        small.create("new")
        small.run("running")
        small.run("talking", Cmd=["sh", "-c", _TALK])
        eventually(lambda: "line 3" in small.log("talking"), "it talks")
        small.is_damaged = True  # until a test has come to its end: an engine that cannot open could not take its containers away
        yield small


def _refused(response: Response | None) -> bool:
    """Whether it was, and then in the right words."""
    assert response is not None
    if response.status < 300 and b'"error"' not in response.body:
        return False
    assert _NO_ROOM in response.body.decode(), response.body
    return True


def _start(small: _SmallVictim) -> None:
    refused = _refused(small.ask("POST", "/containers/new/start"))
    assert small.status("new") == ("created" if refused else "running")


def _log(small: _SmallVictim) -> None:
    """It cannot be logged what it says, and it goes on all the same; what it has said is there."""
    assert "line 3\n" in small.log("talking")
    assert small.status("talking") == "running"


def _end(small: _SmallVictim) -> None:
    small.tell("running")
    assert small.want(200, "POST", "/containers/running/wait").json()["StatusCode"] == EXIT_CODE
    eventually(lambda: small.status("running") == "exited", "it has ended")


def _load(small: _SmallVictim) -> None:
    assert _refused(small.ask("POST", "/images/load", _LARGE.docker_archive()))


def _rename(small: _SmallVictim) -> None:
    container = small.find("new")["Id"]
    refused = _refused(small.ask("POST", "/containers/new/rename?name=other"))
    assert small.find(container)["Name"] == ("/new" if refused else "/other")


def _pause(small: _SmallVictim) -> None:
    refused = _refused(small.ask("POST", "/containers/running/pause"))
    assert small.status("running") == ("running" if refused else "paused")


def _remove(small: _SmallVictim) -> None:
    """Of these, none makes room by what it has written itself."""
    for name in ("new", "running"):
        refused = _refused(small.ask("DELETE", f"/containers/{name}?force=1"))
        assert (small.find(name) is not None) == refused
    assert small.status("running") in {"gone", "exited"}, "it was killed"


# What has happened is so though it cannot be written down; it is as soon as there is room.
_OWED = (_end, _remove)


@pytest.mark.parametrize("restart", ["none", "stop", "kill9"])
@pytest.mark.parametrize("happens", [_start, _log, _end, _load, _rename, _pause, _remove])
def test_nothing_is_lost_on_a_full_disk(small: _SmallVictim, happens: Callable[[_SmallVictim], None], restart: str) -> None:
    small.fill()
    happens(small)
    known = small.known()
    eventually(small.is_full, "the disk is full still")
    if restart != "none":
        getattr(small, restart)()
        small.start()
        assert small.known() == known
    if happens not in _OWED:
        assert_whole(small)
    _assert_log_is_whole(small, "talking")
    _clean_up(small)


def _assert_log_is_whole(small: _SmallVictim, name: str) -> None:
    """Lines may be missing, but none is spoilt."""
    lines: list[dict[str, Any]] = [json.loads(line) for line in _log_lines(small, name)]
    numbers = [int(line["log"].split()[1]) for line in lines]
    assert numbers == sorted(set(numbers))
    assert numbers[:3] == [1, 2, 3]


def _log_lines(small: _SmallVictim, name: str) -> list[str]:
    container = small.find(name)["Id"]
    text: str = (small.root / "containers" / container / f"{container}-json.log").read_text()
    return text[: text.rfind("\n") + 1].splitlines()


def _clean_up(small: _SmallVictim) -> None:
    """By Teul's own commands alone; and then everything works again."""
    lines = len(_log_lines(small, "talking"))
    small.command_line("rm", "-f", "filler")
    assert_whole(small)
    eventually(lambda: len(_log_lines(small, "talking")) > lines, "what it says is logged again")
    if small.status("running") == "paused":
        small.command_line("unpause", "running")
    if small.status("running") == "running":
        assert_ends(small, "running")
    small.command_line("rm", "-f", *small.command_line("ps", "-aq").split())
    small.load(_LARGE.docker_archive())
    small.command_line("rmi", "large:1")
    small.run("last")
    assert_ends(small, "last")
    small.command_line("rm", "last")
    ballast = small.root / "ballast"
    eventually(lambda: ballast.exists() and ballast.stat().st_blocks * 512 >= BALLAST_BYTES, "room is kept again", timeout_seconds=20)
    assert_whole(small)
    small.is_damaged = False


def test_engine_opens_after_a_reboot_onto_a_full_disk_on_which_nothing_is_kept(small: _SmallVictim) -> None:
    """Else nobody can make room but by hand."""
    small.fill()
    (small.root / "ballast").unlink()  # given up for a removal, say, and not had back yet
    eventually(small.is_full, "the disk is full again")
    small.stop()
    boot_id = small.root / "boot-id"
    seen = boot_id.read_bytes()
    _overwrite(boot_id, seen[::-1])
    small.start()
    small.command_line("rm", "-f", "filler")


def _overwrite(path: Path, data: bytes) -> None:
    """In place, for there is no room beside it."""
    with path.open("r+b") as file:
        file.write(data)
