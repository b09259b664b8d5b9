"""One of the two engines in the race: the engine, a keep-alive connection to its API, and the few calls that the rows are made of."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from support.docker_host import DockerHost
from support.unix_http import Client, Response, StatusError

IMAGE = "busybox"


class NotYet(Exception):
    """The engine says that it cannot do this (501); the row is printed as such, with the engine's own words."""


class Contender:
    """Every call raises `NotYet` for a 501 and `StatusError` for any other refusal."""

    def __init__(self, name: str, host: DockerHost, engine_processes: Callable[[], list[int]], own_cli: Callable[..., Any]) -> None:
        self.name = name
        self.host = host
        self.engine_processes = engine_processes
        self.own_cli = own_cli
        self.api = host.api(timeout_seconds=600.0)

    def connect(self) -> Client:
        return self.host.api(timeout_seconds=600.0)

    def call(self, status: int, method: str, path: str, body: Any = None, *, client: Client | None = None) -> Response:
        return accept(status, f"{method} {path}", (client or self.api).request(method, path, body))

    def create(self, *command: str, network: str = "default", client: Client | None = None, **config: Any) -> str:
        body = {"Image": IMAGE, "Cmd": list(command), "HostConfig": {"NetworkMode": network}, **config}
        return str(self.call(201, "POST", "/containers/create", body, client=client).json()["Id"])

    def start(self, container: str, *, client: Client | None = None) -> None:
        self.call(204, "POST", f"/containers/{container}/start", client=client)

    def wait(self, container: str, *, client: Client | None = None) -> int:
        return int(self.call(200, "POST", f"/containers/{container}/wait", client=client).json()["StatusCode"])

    def remove(self, container: str, *, client: Client | None = None) -> None:
        self.call(204, "DELETE", f"/containers/{container}?force=1&v=1", client=client)

    def run(self, *command: str, network: str = "default", client: Client | None = None, **config: Any) -> None:
        """Create, start, wait, remove: what `docker run --rm` asks of an engine."""
        container = self.create(*command, network=network, client=client, **config)
        self.start(container, client=client)
        code = self.wait(container, client=client)
        self.remove(container, client=client)
        if code:
            raise RuntimeError(f"{self.name}: {command} ended with {code}")

    def upload(self, path: str, archive: str) -> Response:
        with open(archive, "rb") as source:
            return accept(200, f"POST {path}", self.api.upload(path, source))

    def remove_image(self, reference: str) -> None:
        response = self.api.request("DELETE", f"/images/{reference}?force=1")
        if response.status not in {200, 404}:
            raise StatusError(f"DELETE /images/{reference}", response)

    def clean(self) -> None:
        self.host.remove_containers()
        self.api.request("POST", "/networks/prune")
        # What the last measurement left to be written must not be paid for by the next one.
        os.sync()


def accept(status: int, request: str, response: Response) -> Response:
    if response.status == 501:
        raise NotYet(response.message)
    if response.status != status:
        raise StatusError(request, response)
    # Streams of JSON report their errors inside a 200.
    if b'"errorDetail"' in response.body[-4096:]:
        raise RuntimeError(f"{request}: {response.body[-400:].decode(errors='replace')}")
    return response
