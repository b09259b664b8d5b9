"""The engine's sockets: how many clients may wait at them."""

from __future__ import annotations

import contextlib
import resource
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiohttp import web

from teul.aio import run_blocking
from teul.api.http.connection import Runner
from teul.daemon.listeners import open_listener, serve_at

BACKLOG = min(4096, int(Path("/proc/sys/net/core/somaxconn").read_text()))  # the kernel's limit to every backlog


@pytest.fixture
async def runner() -> AsyncIterator[Runner]:
    runner = Runner(web.Application())
    await runner.setup()
    yield runner
    await runner.cleanup()


@pytest.fixture
def descriptors() -> Iterator[None]:
    """Leave to open one for every client that may wait."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, BACKLOG + 1024), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("tls", [None, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)], ids=["plain", "tls"])
async def test_as_many_clients_may_wait_at_tcp_as_with_docker(runner: Runner, tls: ssl.SSLContext | None) -> None:
    """Also after asyncio has called listen(2) for itself."""
    listener = await run_blocking(open_listener, "tcp://127.0.0.1:0")
    assert backlog_of(listener) == BACKLOG
    await serve_at(listener, runner, tls)
    assert backlog_of(listener) == BACKLOG


@pytest.mark.usefixtures("descriptors")
async def test_as_many_clients_may_wait_at_the_socket_as_with_docker(runner: Runner, tmp_path: Path) -> None:
    path = str(tmp_path / "s.sock")
    await serve_at(await run_blocking(open_listener, f"unix://{path}"), runner, None)
    with contextlib.ExitStack() as stack:
        waiting = 0
        with contextlib.suppress(BlockingIOError):  # unix(7): EAGAIN, the backlog is full
            while waiting < 2 * BACKLOG:
                client = stack.enter_context(socket.socket(socket.AF_UNIX))
                client.setblocking(False)
                client.connect(path)
                waiting += 1
        assert waiting == BACKLOG + 1  # kernel: net/unix/af_unix.c, unix_recvq_full()


def backlog_of(listener: socket.socket) -> int:
    """kernel: tcp_get_info() in net/ipv4/tcp.c has a listening socket's backlog in tcpi_sacked."""
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    backlog: int = struct.unpack_from("=I", info, 28)[0]
    return backlog
