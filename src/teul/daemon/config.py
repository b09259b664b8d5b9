"""The engine's configuration: a command line in, one frozen object out."""

from __future__ import annotations

import argparse
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass

from teul.errors import InvalidParameter

_DEFAULT_ROOT = "/var/lib/teul"
_DEFAULT_RUN = "/run/teul"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """`hosts` are the addresses to listen on; `idle_timeout_seconds` None means never to leave by oneself."""

    root: str
    run_root: str
    hosts: tuple[str, ...]
    idle_timeout_seconds: float | None = None
    debug: bool = False

    @property
    def is_default_root(self) -> bool:
        """Whether names on the host need no suffix."""
        return self.root == _DEFAULT_ROOT

    @property
    def root_key(self) -> str:
        """Eight hex digits that tell engines with different roots apart in names on the host."""
        return hashlib.sha256(self.root.encode()).hexdigest()[:8]

    @property
    def cgroup_parent(self) -> str:
        """Below each cgroup mount."""
        return "/teul" if self.is_default_root else f"/teul-{self.root_key}"


def parse_arguments(arguments: list[str], environment: Mapping[str, str]) -> EngineConfig:
    """Read `teul serve`'s options; `TEUL_ROOT` and `TEUL_RUN_ROOT` stand in for missing ones. Exits with usage on bad ones."""
    parser = argparse.ArgumentParser(prog="teul serve", description="Run the Teul engine.")
    parser.add_argument("-H", "--host", action="append", default=[], metavar="URL", help="listen on unix://PATH or tcp://ADDRESS:PORT")
    parser.add_argument("--root", default=environment.get("TEUL_ROOT") or _DEFAULT_ROOT, help="where images and containers are kept")
    parser.add_argument("--run-root", default=environment.get("TEUL_RUN_ROOT") or _DEFAULT_RUN, help="what lives only while containers run")
    parser.add_argument("--idle-timeout", type=float, default=None, metavar="SECONDS", help="leave when nothing has run for so long")
    parser.add_argument("-D", "--debug", action="store_true", help="log more")
    options = parser.parse_args(arguments)
    run_root = os.path.realpath(options.run_root)
    hosts = tuple(options.host) or (f"unix://{run_root}/docker.sock",)
    for host in hosts:
        check_host(host)
    return EngineConfig(
        root=os.path.realpath(options.root),
        run_root=run_root,
        hosts=hosts,
        idle_timeout_seconds=options.idle_timeout,
        debug=options.debug,
    )


def check_host(host: str) -> None:
    """Raises InvalidParameter for an address that the engine cannot listen on.

    security: an engine's socket is root on its host; plain TCP is refused beyond loopback.
    """
    scheme, separator, rest = host.partition("://")
    if scheme == "unix" and separator and rest.startswith("/"):
        return
    if scheme == "tcp" and separator:
        address, colon, port = rest.rpartition(":")
        if colon and port.isdigit() and address in ("127.0.0.1", "localhost", "[::1]"):
            return
        raise InvalidParameter(
            f"{host!r}: without TLS the engine listens on loopback only",
            hint="use unix://PATH, or tcp://127.0.0.1:PORT, and forward it over ssh",
        )
    raise InvalidParameter(f"{host!r} is not an address to listen on", hint="use unix:///PATH or tcp://127.0.0.1:PORT")
