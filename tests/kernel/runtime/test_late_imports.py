"""A process on its way into a container loads nothing from the container's root, in whatever step it would."""

from __future__ import annotations

import encodings
import os
import socket
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest

from support.needs import needs
from teul.runtime.child.main import Child

pytestmark = [needs("root")]

_PLANTED = """
import codecs, os
os.close(os.open("/loaded", os.O_CREAT | os.O_WRONLY))
def getregentry():
    return codecs.CodecInfo(lambda text, errors="strict": (b"", len(text)), None)
"""


@pytest.mark.parametrize("kind", ["create", "exec"])
@pytest.mark.parametrize("late", ["module", "codec"])
def test_a_child_loads_nothing_from_the_containers_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, late: str) -> None:
    """CVE-2019-14271: Docker's `cp` loaded a library of the container's, as root of the host."""
    for place in {os.path.realpath(path) for path in (*sys.path, *encodings.__path__) if os.path.isdir(path)}:
        directory = tmp_path / place.lstrip("/")
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "teul_planted.py").write_text(_PLANTED)

    def enter(_child: Child, _directory_fd: int) -> NoReturn:
        """In place of either road: be in the container's root, and there need something that has not been loaded."""
        os.chroot(tmp_path)
        os.chdir("/")
        try:
            __import__("teul_planted") if late == "module" else "x".encode("teul-planted")
        finally:
            os.close(os.open("/tried", os.O_CREAT | os.O_WRONLY))
        raise AssertionError("something was loaded")

    for road in ("_create", "_execute"):
        monkeypatch.setattr(Child, road, enter)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    launch: Any = {"kind": kind}
    with ours, theirs:
        pid = os.fork()
        if not pid:
            Child(launch, theirs, (-1, -1, -1), donors={}, mounts=[]).run(-1)
        os.waitpid(pid, 0)
        failure = ours.recv(8192).decode()
    assert (tmp_path / "tried").exists(), failure
    assert not (tmp_path / "loaded").exists(), "DANGER: a module of the container's root was run with every privilege"
    assert "something was loaded" not in failure
