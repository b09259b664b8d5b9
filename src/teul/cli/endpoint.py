"""Which engine a command speaks to: `-H`, `TEUL_HOST`, `DOCKER_HOST`, the chosen docker context, or our own socket.

The decision is a pure function of the environment and docker's settings, which are read only when nothing else decides.
"""

from __future__ import annotations

import os

from teul.cli.errors import CliError
from teul.client.address import Address, InvalidAddress, parse_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

DEFAULT_CONTEXT = "default"


class Endpoint:
    """An engine's address. `startable` says that it is our own, with these roots, and may be started when nobody listens."""

    __slots__ = ("address", "context_name", "root", "run_root", "startable")

    def __init__(self, address: Address, *, startable: bool, root: str = "", run_root: str = "", context_name: str = "default") -> None:
        self.address = address
        self.startable = startable
        self.root = root
        self.run_root = run_root
        self.context_name = context_name


def default_run_root(environment: Mapping[str, str], user_id: int) -> str:
    """`/run/teul`, or the user's own directory when not root."""
    if user_id == 0:
        return "/run/teul"
    return os.path.join(environment.get("XDG_RUNTIME_DIR") or f"/run/user/{user_id}", "teul")


def load_config(config_directory: str) -> dict[str, Any]:
    """Docker's `config.json`. Raises `CliError` when there is one that cannot be used."""
    path = os.path.join(config_directory, "config.json")
    try:
        with open(path, "rb") as file:
            text = file.read()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return {}
    from teul.wire.jsontext import InvalidJson, decode

    try:
        config = decode(text)
    except InvalidJson as error:
        raise CliError(f"error parsing config file ({path}): {error}") from None
    return config if isinstance(config, dict) else {}


def choose_endpoint(
    environment: Mapping[str, str],
    config: Callable[[], dict[str, Any]],
    *,
    host: str = "",
    context_name: str = "",
    config_directory: str = "",
    user_id: int | None = None,
) -> Endpoint:
    """The engine to speak to. Raises `CliError` for an address or a context that cannot be used."""
    if host and context_name:
        raise CliError("conflicting options: cannot specify both --host and --context")
    root, run_root = environment.get("TEUL_ROOT", ""), environment.get("TEUL_RUN_ROOT", "")
    socket_root = run_root or default_run_root(environment, os.geteuid() if user_id is None else user_id)
    own = Address(path=os.path.join(os.path.abspath(socket_root), "docker.sock"))
    chosen = host
    if not chosen and not context_name:
        chosen = environment.get("TEUL_HOST") or environment.get("DOCKER_HOST") or ""
    name = DEFAULT_CONTEXT
    if not chosen:
        name = context_name or environment.get("DOCKER_CONTEXT") or str(config().get("currentContext") or DEFAULT_CONTEXT)
        chosen = "" if name == DEFAULT_CONTEXT else _context_host(name, config_directory)
    address = _parse(chosen) if chosen else own
    if not address.path and environment.get("DOCKER_TLS_VERIFY"):
        raise CliError(f"DOCKER_TLS_VERIFY asks for TLS, which {address} cannot be spoken to with yet; use a unix socket")
    return Endpoint(address, startable=address == own, root=root, run_root=run_root, context_name=name)


def _parse(text: str) -> Address:
    try:
        return parse_address(text)
    except InvalidAddress as error:
        raise CliError(f"Failed to initialize: unable to resolve docker endpoint: {error}") from None


def _context_host(name: str, config_directory: str) -> str:
    """The address that the docker context `name` stands for (docker/cli cli/context/store: a directory named by the name's digest)."""
    from hashlib import sha256

    from teul.wire.jsontext import InvalidJson, decode

    path = os.path.join(config_directory, "contexts", "meta", sha256(name.encode()).hexdigest(), "meta.json")
    try:
        with open(path, "rb") as file:
            return str(decode(file.read())["Endpoints"]["docker"]["Host"])
    except FileNotFoundError:
        raise CliError(
            f'Failed to initialize: unable to resolve docker endpoint: context "{name}": context not found: open {path}: '
            "no such file or directory"
        ) from None
    except (OSError, InvalidJson, KeyError, TypeError) as error:
        raise CliError(f'Failed to initialize: unable to resolve docker endpoint: context "{name}": {error}') from None
