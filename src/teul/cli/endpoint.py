"""Which engine a command speaks to: `-H`, `TEUL_HOST`, `DOCKER_HOST`, the chosen docker context, or the socket of Teul's own engine.

The decision is a pure function of the environment and docker's settings, which are read only when nothing else decides.
"""

from __future__ import annotations

import os

from teul.cli.errors import CliError
from teul.client.address import DEFAULT_TCP_PORT, DEFAULT_TLS_PORT, Address, InvalidAddress, TlsOptions, parse_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from teul.cli.options.parser import Options

DEFAULT_CONTEXT = "default"


class Endpoint:
    """An engine's address, and how TLS is spoken there.

    `own` says that it is Teul's own engine, with these roots, and `startable` that this user may start it when nobody listens. `second` is
    tried when the first is not to be had. `chosen_by` names the setting of docker's that leads away from Teul's own engine, if one does.
    """

    __slots__ = ("address", "chosen_by", "context_name", "own", "root", "run_root", "second", "startable", "tls")

    def __init__(
        self,
        address: Address,
        *,
        startable: bool,
        root: str = "",
        run_root: str = "",
        context_name: str = "default",
        tls: TlsOptions | None = None,
        own: bool = False,
        second: Address | None = None,
        chosen_by: str = "",
    ) -> None:
        self.address = address
        self.own = own or startable
        self.second = second
        self.chosen_by = chosen_by
        self.tls = tls
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
    """Docker's `config.json`; empty when there is none to be read. Raises `CliError` when it is malformed."""
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
    options: Options | None = None,
) -> Endpoint:
    """The engine to speak to. Raises `CliError` for an address or a context that cannot be used."""
    if host and context_name:
        raise CliError("conflicting options: cannot specify both --host and --context")
    root, run_root = environment.get("TEUL_ROOT", ""), environment.get("TEUL_RUN_ROOT", "")
    user = os.geteuid() if user_id is None else user_id
    # Root's engine serves the members of the socket's group as well. An engine of the user's own is the second choice.
    own = _socket_in(run_root or default_run_root(environment, 0))
    second = _socket_in(default_run_root(environment, user)) if user and not run_root else None
    chosen, chosen_by = host, ""
    if not chosen and not context_name:
        chosen = environment.get("TEUL_HOST") or environment.get("DOCKER_HOST") or ""
        chosen_by = "" if environment.get("TEUL_HOST") else "DOCKER_HOST"
    name = DEFAULT_CONTEXT
    if not chosen:
        name = context_name or environment.get("DOCKER_CONTEXT") or str(config().get("currentContext") or DEFAULT_CONTEXT)
    if name == DEFAULT_CONTEXT:
        tls = choose_tls(environment, config_directory, options)
    else:
        chosen, tls = _load_context(name, config_directory)
        chosen_by = "" if context_name else f'the docker context "{name}"'
    address = _parse(chosen, DEFAULT_TCP_PORT if tls is None else DEFAULT_TLS_PORT) if chosen else own
    return Endpoint(
        address,
        startable=address == own and user == 0,
        root=root,
        run_root=run_root,
        context_name=name,
        tls=None if address.path else tls,
        own=address == own,
        second=None if chosen else second,
        chosen_by="" if address == own else chosen_by,
    )


def _socket_in(run_root: str) -> Address:
    return Address(path=os.path.join(os.path.abspath(run_root), "docker.sock"))


def choose_tls(environment: Mapping[str, str], config_directory: str, options: Options | None) -> TlsOptions | None:
    """What `--tls…`, `DOCKER_TLS`, `DOCKER_TLS_VERIFY` and `DOCKER_CERT_PATH` ask for; None for no TLS.

    docker: --tlsverify=false still means TLS, with any engine; a certificate that nobody named may be missing, the CA may not.
    """
    named = {name for name in ("tls", "tlsverify", "tlscacert", "tlscert", "tlskey") if options is not None and options.given(name)}
    verify = options.flag("tlsverify") if options is not None and "tlsverify" in named else bool(environment.get("DOCKER_TLS_VERIFY"))
    wanted = options.flag("tls") if options is not None and "tls" in named else bool(environment.get("DOCKER_TLS"))
    if not (wanted or verify or "tlsverify" in named):
        return None
    directory = environment.get("DOCKER_CERT_PATH") or config_directory
    paths = {}
    for name, file in (("tlscacert", "ca.pem"), ("tlscert", "cert.pem"), ("tlskey", "key.pem")):
        if options is not None and name in named:
            paths[name] = options.text(name)
        else:
            path = os.path.join(directory, file)
            paths[name] = path if name == "tlscacert" or os.path.exists(path) else ""
    return TlsOptions(ca=paths["tlscacert"] if verify else "", cert=paths["tlscert"], key=paths["tlskey"], verify=verify)


def _parse(text: str, default_port: int) -> Address:
    try:
        return parse_address(text, default_port)
    except InvalidAddress as error:
        raise CliError(f"Failed to initialize: unable to resolve docker endpoint: {error}") from None


def _load_context(name: str, config_directory: str) -> tuple[str, TlsOptions | None]:
    """What the docker context `name` stands for (docker/cli cli/context/store: directories named by the name's digest)."""
    from hashlib import sha256

    from teul.wire.jsontext import InvalidJson, decode

    key = sha256(name.encode()).hexdigest()
    path = os.path.join(config_directory, "contexts", "meta", key, "meta.json")
    try:
        with open(path, "rb") as file:
            endpoint = decode(file.read())["Endpoints"]["docker"]
        host, verify = str(endpoint["Host"]), not endpoint.get("SkipTLSVerify")
    except FileNotFoundError:
        raise CliError(
            f'Failed to initialize: unable to resolve docker endpoint: context "{name}": context not found: open {path}: '
            "no such file or directory"
        ) from None
    except (OSError, InvalidJson, KeyError, TypeError) as error:
        raise CliError(f'Failed to initialize: unable to resolve docker endpoint: context "{name}": {error}') from None
    directory = os.path.join(config_directory, "contexts", "tls", key, "docker")
    ca, cert, private = (
        path if os.path.exists(path := os.path.join(directory, file)) else "" for file in ("ca.pem", "cert.pem", "key.pem")
    )
    return host, TlsOptions(ca=ca, cert=cert, key=private, verify=verify) if ca or cert or private else None
