"""Through a proxy to a registry over TLS: a tunnel, which the proxy cannot look into, and whose password the registry does not see."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from support.certificates import Authority
from support.needs import needs
from support.registry import FakeRegistry
from teul.oci.descriptor import OCI_MANIFEST
from teul.oci.reference import parse_reference
from teul.registry.client.registry_client import RegistryClient
from teul.registry.endpoints import Registries
from teul.registry.errors import Unreachable
from teul.registry.proxies import Proxies
from teul.registry.transport import Options

HOST = "registry.example:5000"
REGISTRIES = Registries(insecure_hosts=frozenset({HOST}))


@asynccontextmanager
async def proxy(target: str, heads: list[str], *, status: str = "200 Connection established") -> AsyncIterator[str]:
    """A proxy whose tunnels all lead to `target`; `heads` are the requests for one."""
    name, port = target.split(":")
    tunnels: list[asyncio.Task[None]] = []

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
        writer.close()

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tunnels.append(task)
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(f"HTTP/1.1 {status}\r\n\r\n".encode())
        there, back = await asyncio.open_connection(name, int(port))
        try:
            if status.startswith("200"):
                await asyncio.gather(pass_on(reader, back), pass_on(there, writer), return_exceptions=True)
        finally:
            for each in (writer, back):
                each.close()
                await asyncio.gather(each.wait_closed(), return_exceptions=True)

    async with await asyncio.start_server(tunnel, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await asyncio.gather(*tunnels)


@needs("openssl")
async def test_a_registry_is_spoken_to_through_a_tunnel(tmp_path: Path) -> None:
    issued = Authority(tmp_path, "authority").issue("server", server=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued / "cert.pem", issued / "key.pem")
    heads: list[str] = []
    async with FakeRegistry(tls=context) as registry, proxy(registry.host, heads) as address:
        stored = registry.add_manifest("x", b"{}", OCI_MANIFEST, "latest")
        options = Options(REGISTRIES, certificate_directories=(), proxies=Proxies(https=f"http://user:sesame@{address}"))
        async with RegistryClient(options) as client:
            assert await (await client.repository(parse_reference(f"{HOST}/x"))).resolve() == stored
        assert registry.seen[0].headers["Host"] == HOST
        assert not any("Proxy-Authorization" in seen.headers for seen in registry.seen)
    assert heads[0].startswith(f"CONNECT {HOST} HTTP/1.1\r\n")
    assert f"Proxy-Authorization: Basic {base64.b64encode(b'user:sesame').decode()}\r\n" in heads[0]


async def test_a_proxy_that_refuses_is_told(tmp_path: Path) -> None:
    heads: list[str] = []
    async with FakeRegistry() as registry, proxy(registry.host, heads, status="403 Forbidden") as address:
        options = Options(Registries(), certificate_directories=(), proxies=Proxies(https=f"http://{address}"))
        async with RegistryClient(options) as client:
            repository = await client.repository(parse_reference("10.0.0.1:5000/x"))
            with pytest.raises(Unreachable) as caught:
                await repository.resolve()
    assert caught.value.message == 'Get "https://10.0.0.1:5000/v2/": Forbidden'
