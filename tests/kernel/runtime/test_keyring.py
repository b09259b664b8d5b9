"""Keys of the host are not a container's: add_key(2), keyctl(2)."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator

import pytest

from kernel.runtime.bare_containers import Bench, Spec, mount
from support.needs import needs
from teul.linux.syscalls import libc

pytestmark = [needs("root", "busybox", "overlayfs"), pytest.mark.asyncio(loop_scope="session")]

_NR_ADD_KEY = {"x86_64": 248, "aarch64": 217}[os.uname().machine]
_NR_KEYCTL = {"x86_64": 250, "aarch64": 219}[os.uname().machine]
_KEY_SPEC_SESSION_KEYRING, _KEY_SPEC_USER_SESSION_KEYRING, _KEYCTL_UNLINK, _KEYCTL_SEARCH = -3, -5, 9, 10
_SECRET = f"teul-secret-{os.getpid()}"

# Run by the host's interpreter, in a container that has the host's root at /host.
_FIND = f"""
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
if sys.argv[1] == "add":
    libc.syscall({_NR_ADD_KEY}, b"user", b"teul-own", b"x", 1, {_KEY_SPEC_SESSION_KEYRING})
print(libc.syscall({_NR_KEYCTL}, {_KEYCTL_SEARCH}, {_KEY_SPEC_SESSION_KEYRING}, b"user", sys.argv[2].encode(), 0) > 0)
"""


@pytest.fixture
def secret() -> Iterator[None]:
    """A key in the session keyring of all processes of root that have none of their own, the keeper's too."""
    key = libc.syscall(_NR_ADD_KEY, b"user", _SECRET.encode(), b"x", ctypes.c_size_t(1), _KEY_SPEC_USER_SESSION_KEYRING)
    if key < 0:
        pytest.skip("this process may not add keys")
    yield
    libc.syscall(_NR_KEYCTL, _KEYCTL_UNLINK, key, _KEY_SPEC_USER_SESSION_KEYRING)


def with_the_hosts_root(spec: Spec) -> None:
    spec["mounts"].append(mount("/host", "bind", "/", "rbind", "rprivate", "ro"))


def look(mode: str, key: str) -> tuple[str, ...]:
    return ("chroot", "/host", sys.executable, "-I", "-S", "-c", _FIND, mode, key)


async def test_a_key_of_the_engines_session_is_not_found_in_a_container(bench: Bench, secret: None) -> None:
    container = await bench.start("sleep", "1000", change=with_the_hosts_root)
    assert (await (await container.exec(*look("find", _SECRET))).ended()).out == "False\n"
    first = await bench.start(*look("find", _SECRET), change=with_the_hosts_root)
    assert (await first.ended()).out == "False\n"


async def test_a_containers_processes_share_their_keys_and_no_others_do(bench: Bench) -> None:
    first = await bench.start("sleep", "1000", change=with_the_hosts_root)
    second = await bench.start("sleep", "1000", change=with_the_hosts_root)
    assert (await (await first.exec(*look("add", "teul-own"))).ended()).out == "True\n"
    assert (await (await first.exec(*look("find", "teul-own"))).ended()).out == "True\n"
    assert (await (await second.exec(*look("find", "teul-own"))).ended()).out == "False\n"
