"""The API over fake services, and that of a real engine: spoken to in the same way, by what it shows.

A container's program is `sh` with its input open; what the test has it do, the real one is told through its input.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from contract.witness import Witness
from support.engine import Engine
from teul.api.app import create_app
from teul.api.http.connection import Runner
from teul.api.http.hijack import RAW
from teul.model.log import LogEntry
from teul.wire.stdcopy import Demultiplexer
from unit.api.fake_services import NOW_NS, FakeServices

SECONDS = 10.0
SHELL = {"Image": "busybox", "Cmd": ["sh"], "OpenStdin": True}
_UPGRADE = "Connection: Upgrade\r\nUpgrade: tcp\r\n"


class Stream:
    """A hijacked connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: str) -> None:
        self._reader = reader
        self.writer = writer
        self.head = head

    async def read(self) -> bytes:
        """What comes next, b"" at the end."""
        return await asyncio.wait_for(self._reader.read(65536), SECONDS)

    async def read_all(self) -> bytes:
        return await asyncio.wait_for(self._reader.read(), SECONDS)

    async def read_frames(self) -> dict[int, bytes]:
        """All output to its end, by stream."""
        found: dict[int, bytes] = {}
        for number, data in Demultiplexer().feed(await self.read_all()):
            found[number] = found.get(number, b"") + data
        return found

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


class Served:
    """An engine's API on a socket."""

    def __init__(self, socket_path: str, session: aiohttp.ClientSession) -> None:
        self.socket_path = socket_path
        self.session = session

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Status, and the document; None if there is none. Plain text is made the message of one."""
        async with asyncio.timeout(SECONDS), self.session.request(method, f"http://docker/v1.51{path}", **options) as response:
            body = await response.read()
            if response.content_type == RAW:
                return response.status, {"message": body.decode().removesuffix("\r\n")}
            return response.status, json.loads(body) if body else None

    async def refusal(self, method: str, path: str, **options: Any) -> tuple[int, str]:
        """Status and text of what is not done."""
        status, document = await self.ask(method, path, **options)
        assert list(document or {}) == ["message"], (status, document)
        return status, document["message"]

    async def create(self, name: str, **config: Any) -> str:
        """A container with `sh` as its program, unless `config` says otherwise; its id."""
        status, document = await self.ask("POST", f"/containers/create?name={name}", json=SHELL | config)
        assert status == 201, document
        assert isinstance(document["Warnings"], list)
        return str(document["Id"])

    async def run(self, name: str, **config: Any) -> str:
        """`create` and start."""
        container_id = await self.create(name, **config)
        assert await self.ask("POST", f"/containers/{name}/start") == (204, None)
        return container_id

    async def state(self, reference: str) -> dict[str, Any]:
        _, document = await self.ask("GET", f"/containers/{reference}/json")
        state: dict[str, Any] = document["State"]
        return state

    async def open(self, path: str, body: dict[str, Any] | None = None, *, headers: str = _UPGRADE) -> Stream:
        """A hijacked connection, once its head has come."""
        reader, writer = await asyncio.open_unix_connection(self.socket_path)
        data = b"" if body is None else json.dumps(body).encode()
        length = f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
        writer.write(f"POST /v1.51{path} HTTP/1.1\r\nHost: docker\r\n{headers}{length}\r\n".encode() + data)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), SECONDS)
        return Stream(reader, writer, head.decode())

    # -- what programs do

    async def writes(self, name: str, stream: int, text: str) -> None:
        """The container's program writes a line to its stdout (1) or stderr (2); it is in the log when this returns."""
        raise NotImplementedError

    async def ends(self, name: str, code: int) -> None:
        """The container's program ends by itself; that is recorded when this returns."""
        raise NotImplementedError

    async def exec_ran(self, exec_id: str, output: str, code: int) -> None:
        """The exec's program wrote `output` and ended, which the real one has done by itself."""
        raise NotImplementedError


class Fake(Served):
    """The API over fake services: the test is the programs."""

    services: FakeServices

    async def writes(self, name: str, stream: int, text: str) -> None:
        containers, data = self.services.containers, f"{text}\n".encode()
        if (attachment := containers.attachments.get(containers.get(name).id)) is not None:
            attachment.feed((stream, data))
        containers.log(LogEntry(stream, NOW_NS, data))

    async def ends(self, name: str, code: int) -> None:
        self.services.containers.exit(name, code)

    async def exec_ran(self, exec_id: str, output: str, code: int) -> None:
        self.services.execs.attachments[exec_id].feed((1, output.encode()))
        self.services.execs.exit(exec_id, code)


class Real(Served):
    """A real engine."""

    async def writes(self, name: str, stream: int, text: str) -> None:
        await self._tell(name, f"echo '{text}' >&{stream}")
        async with asyncio.timeout(SECONDS):
            while text.encode() not in await self._log(name):
                await asyncio.sleep(0.01)

    async def ends(self, name: str, code: int) -> None:
        waiting = asyncio.ensure_future(self.ask("POST", f"/containers/{name}/wait"))
        await self._tell(name, f"exit {code}")
        assert await waiting == (200, {"StatusCode": code})

    async def exec_ran(self, exec_id: str, output: str, code: int) -> None:
        async with asyncio.timeout(SECONDS):
            while (await self.ask("GET", f"/exec/{exec_id}/json"))[1]["Running"]:
                await asyncio.sleep(0.01)

    async def _tell(self, name: str, command: str) -> None:
        stream = await self.open(f"/containers/{name}/attach?stream=1&stdin=1")
        stream.writer.write(f"{command}\n".encode())
        stream.writer.write_eof()
        await stream.read_all()
        await stream.close()

    async def _log(self, name: str) -> bytes:
        async with self.session.get(f"http://docker/containers/{name}/logs?stdout=1&stderr=1") as response:
            return await response.read()


@contextlib.asynccontextmanager
async def serve_fake(directory: Path, witness: Witness) -> AsyncIterator[Fake]:
    """The application over fake services that `witness` watches."""
    services = FakeServices()
    for fake in (services.containers, services.execs, services.images):
        witness.watch(fake)
    runner = Runner(create_app(services), shutdown_timeout_seconds=0.5)  # type: ignore[arg-type]  # the fakes' own promise
    await runner.setup()
    socket_path = str(directory / "api.sock")
    await web.UnixSite(runner, socket_path).start()
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(socket_path)) as session:
        served = Fake(socket_path, session)
        served.services = services
        yield served
    await runner.cleanup()


@contextlib.asynccontextmanager
async def serve_real(engine: Engine) -> AsyncIterator[Real]:
    """The engine's own socket; its containers are removed afterwards."""
    socket_path = str(engine.socket_path)
    try:
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(socket_path)) as session:
            yield Real(socket_path, session)
    finally:
        await asyncio.to_thread(engine.remove_containers)
