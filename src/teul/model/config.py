"""What a container runs, in Docker's words: the part of a request that does not depend on the host (API v1.51 ContainerConfig)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from teul.errors import InvalidParameter
from teul.model.document import Document, Empty, build, check_types, convert, decode_object
from teul.model.host_config import HostConfig
from teul.model.network_config import NetworkingConfig


class HealthConfig(Document):
    """How health is probed. `test` is `["NONE"]`, `["CMD", …]`, `["CMD-SHELL", "…"]` or empty (inherit); times in nanoseconds."""

    OMIT_EMPTY: ClassVar[frozenset[str]] = frozenset({"test", "interval", "timeout", "start_period", "start_interval", "retries"})

    test: list[str] | None = None
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class ContainerConfig(Document):
    """Docker's ContainerConfig. None in a list or map is Go's nil: printed as null, and for the merge with the image "not said"."""

    OMIT_EMPTY: ClassVar[frozenset[str]] = frozenset(
        {"exposed_ports", "healthcheck", "args_escaped", "network_disabled", "mac_address", "stop_signal", "stop_timeout", "shell"}
    )
    STRING_OR_LIST: ClassVar[frozenset[str]] = frozenset({"cmd", "entrypoint", "shell"})

    hostname: str = ""
    domainname: str = ""
    user: str = ""
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    exposed_ports: dict[str, Empty] | None = None
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: list[str] | None = None
    cmd: list[str] | None = None
    healthcheck: HealthConfig | None = None
    args_escaped: bool = False
    image: str = ""
    volumes: dict[str, Empty] | None = None
    working_dir: str = ""
    entrypoint: list[str] | None = None
    network_disabled: bool = False
    mac_address: str = ""
    on_build: list[str] | None = None
    labels: dict[str, str] | None = None
    stop_signal: str = ""
    stop_timeout: int | None = None
    shell: list[str] | None = None


_BESIDES_CONFIG: dict[str, type[Document]] = {"hostconfig": HostConfig, "networkingconfig": NetworkingConfig}


def decode_create_body(data: bytes) -> tuple[ContainerConfig, HostConfig, NetworkingConfig | None]:
    """Read the body of `POST /containers/create`: a ContainerConfig with two more keys. Raises InvalidParameter."""
    if not data.strip():
        # docker: runconfig's loadJSON, which knows of no other words for a body that is none.
        raise InvalidParameter("invalid JSON: EOF")
    body = decode_object(data, ContainerConfig)
    check_types(ContainerConfig, body, _BESIDES_CONFIG)
    config = find_config(body)
    if config is None:
        raise InvalidParameter("config cannot be empty in order to create a container")
    lower = {key.lower(): value for key, value in body.items()}
    host = lower.get("hostconfig")
    networking = lower.get("networkingconfig")
    return (
        config,
        HostConfig() if host is None else build(HostConfig, host),
        None if networking is None else build(NetworkingConfig, networking),
    )


def find_config(body: Mapping[str, Any]) -> ContainerConfig | None:
    """The config among the members of `body`, which may have others; None if no member is one of a config, by whatever case of letters.

    Raises InvalidParameter.
    """
    known = {field.encode_name.lower() for field in msgspec.structs.fields(ContainerConfig)}
    return convert(ContainerConfig, body) if any(name.lower() in known for name in body) else None
