"""Work inside another network namespace: it happens there, and nobody stays."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from kernel.netns import Member, eventually, isolated, member
from support.needs import needs
from teul.linux import netns, process
from teul.linux.netlink import links
from teul.linux.netlink.socket import Netlink

pytestmark = needs("root")


def _own() -> str:
    return os.readlink("/proc/thread-self/ns/net")


def _of(other: Member) -> str:
    return os.readlink(f"/proc/{other.pid}/ns/net")


@isolated
def test_work_happens_inside_and_the_caller_stays_where_it_is() -> None:
    before = _own()
    with member() as other:
        fd = netns.open_of(other.pid)
        assert netns.run_inside(fd, _own) == _of(other) != before
        os.close(fd)
    assert _own() == before


@isolated
def test_a_pidfd_names_the_namespace_as_well_until_its_process_has_ended() -> None:
    with member() as other:
        pidfd = process.open_pidfd(other.pid)
        assert netns.run_inside(pidfd, _own) == _of(other)
    with pytest.raises(OSError, match="setns") as refused:
        netns.run_inside(pidfd, _own)
    assert refused.value.errno == errno.ESRCH
    os.close(pidfd)


@isolated
def test_what_was_opened_inside_belongs_there() -> None:
    """Sockets, netlink and the settings below /proc/sys/net."""
    with member() as other:
        fd = netns.open_of(other.pid)
        netns.run_inside(fd, links.set_loopback_up)
        with netns.run_inside(fd, lambda: socket.create_server(("127.0.0.1", 0))) as server:
            address = server.getsockname()
            other.run(lambda: socket.create_connection(address).close())
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address)
        with netns.run_inside(fd, Netlink) as inside:
            assert [link.name for link in inside.list_links()] == ["lo"]
        setting = Path("/proc/sys/net/ipv4/ip_forward")
        before = setting.read_text()
        netns.run_inside(fd, lambda: setting.write_text("0" if before.strip() == "1" else "1"))
        assert setting.read_text() == before
        os.close(fd)


@isolated
def test_a_failure_is_raised_here_and_nobody_stays_inside() -> None:
    def fail() -> None:
        raise LookupError("inside")

    with member() as other:
        fd = netns.open_of(other.pid)
        with pytest.raises(LookupError, match="inside"):
            netns.run_inside(fd, fail)
        os.close(fd)
        eventually(lambda: len(os.listdir("/proc/self/task")) == 1)
    with pytest.raises(OSError, match="setns"):
        netns.run_inside(0, _own)


@isolated
def test_a_process_of_one_thread_goes_inside_and_comes_back_whatever_fails() -> None:
    before = _own()
    with member() as other:
        fd = netns.open_of(other.pid)
        with netns.being_inside(fd):
            assert _own() == _of(other)
        assert _own() == before
        with pytest.raises(LookupError), netns.being_inside(fd):
            raise LookupError
        os.close(fd)
    assert _own() == before
