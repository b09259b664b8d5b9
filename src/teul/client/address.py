"""Where an engine listens: the forms of `DOCKER_HOST`.

Pure. `unix:///path` and `tcp://host:port` are understood; the other schemes that Docker knows are refused by name.
"""

from __future__ import annotations

DEFAULT_TCP_PORT = 2375
DEFAULT_TLS_PORT = 2376


class InvalidAddress(ValueError):
    """Not an address of an engine, or an address of a kind that is not supported."""


class TlsOptions:
    """How to speak TLS to an engine: files by path, empty for none. Without `verify` any engine will do."""

    __slots__ = ("ca", "cert", "key", "verify")

    def __init__(self, *, ca: str = "", cert: str = "", key: str = "", verify: bool = True) -> None:
        self.ca = ca
        self.cert = cert
        self.key = key
        self.verify = verify


class Address:
    """A unix socket (`path`) or a TCP endpoint (`host`, `port`); the members of the other kind are empty."""

    __slots__ = ("host", "path", "port")

    def __init__(self, *, path: str = "", host: str = "", port: int = 0) -> None:
        self.path = path
        self.host = host
        self.port = port

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Address) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __str__(self) -> str:
        if self.path:
            return f"unix://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp://{host}:{self.port}"

    def __repr__(self) -> str:
        return f"Address({str(self)!r})"

    @property
    def authority(self) -> str:
        """The `Host` header of a request. Docker's client sends a fixed name over a unix socket."""
        return "api.moby.localhost" if self.path else str(self).removeprefix("tcp://")


def parse_address(text: str, default_port: int = DEFAULT_TCP_PORT) -> Address:
    """Parse `text`. A bare path is a unix socket and a bare `host:port` is TCP, as in Docker. Raises `InvalidAddress`."""
    text = text.strip()
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = ("unix", text) if text.startswith("/") else ("tcp", text)
    if scheme == "unix":
        if not rest.startswith("/"):
            raise InvalidAddress(f"invalid bind address format: {text}")
        return Address(path=rest)
    if scheme in ("tcp", "http"):
        return _parse_tcp(rest.rstrip("/"), text, default_port)
    if scheme in ("ssh", "fd", "npipe", "https"):
        raise InvalidAddress(f"addresses of the kind {scheme}:// are not supported: {text}")
    raise InvalidAddress(f"invalid bind address format: {text}")


def _parse_tcp(rest: str, text: str, default_port: int) -> Address:
    if rest.startswith("["):
        host, bracket, tail = rest[1:].partition("]")
        port = tail.removeprefix(":") if tail.startswith(":") else ("" if bracket and not tail else "?")
    else:
        host, _, port = rest.rpartition(":") if ":" in rest else (rest, "", "")
    host = host or "localhost"
    if port and not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536):
        raise InvalidAddress(f"invalid bind address format: {text}")
    if "/" in host or (":" in host and not rest.startswith("[")):
        raise InvalidAddress(f"invalid bind address format: {text}")
    return Address(host=host, port=int(port) if port else default_port)
