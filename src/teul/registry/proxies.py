"""Which proxy a request goes through: Go's rules (golang.org/x/net/http/httpproxy), which are dockerd's. Pure.

The settings are handed in: of dockerd's configuration (`http-proxy`, `https-proxy`, `no-proxy`), or of the environment, which the daemon
reads. aiohttp's own look at the environment would also send what stands in a `.netrc` to whatever host a registry redirects to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from teul.registry.endpoints import literal_address
from teul.registry.errors import InvalidRegistryConfig


@dataclass(frozen=True, slots=True)
class Proxies:
    """`http` and `https` are the proxies' URLs for requests of these schemes, "" for none; `exceptions` is the text of `NO_PROXY`.

    URLs may hold a password, so they are kept out of `repr`.
    """

    http: str = field(default="", repr=False)
    https: str = field(default="", repr=False)
    exceptions: str = ""

    @classmethod
    def of_environment(cls, environment: Mapping[str, str]) -> Proxies:
        """The settings in `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`; capitals first, as in Go. Raises `InvalidRegistryConfig`."""

        def value(name: str) -> str:
            return environment.get(name) or environment.get(name.lower()) or ""

        return cls(_proxy_url(value("HTTP_PROXY")), _proxy_url(value("HTTPS_PROXY")), value("NO_PROXY"))

    def proxy_for(self, scheme: str, host: str, port: int) -> str | None:
        """The URL of the proxy for a request to `host` (a name or an address, without brackets), or None to go there directly."""
        proxy = self.https if scheme == "https" else self.http
        if not proxy or self._is_excepted(host.lower().rstrip("."), port):
            return None
        return proxy

    def _is_excepted(self, host: str, port: int) -> bool:
        address = literal_address(f"[{host}]" if ":" in host else host)
        if host == "localhost" or (address is not None and address.is_loopback):
            return True
        entries = [entry.strip().lower() for entry in self.exceptions.split(",")]
        return any(entry and _matches(entry, host, port) for entry in entries)


def _matches(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    name, wanted_port = _entry_port(entry)
    if wanted_port and wanted_port != str(port):
        return False
    try:
        address = ip_address(host)
    except ValueError:
        suffix = name.removeprefix("*") if name.startswith("*.") else name
        # `.example` is the names below it, `example` the name itself too.
        return host.endswith(suffix) if suffix.startswith(".") else host == suffix or host.endswith(f".{suffix}")
    try:
        return address in ip_network(name, strict=False)
    except ValueError:
        return False


def _entry_port(entry: str) -> tuple[str, str]:
    if entry.startswith("["):
        name, _, rest = entry[1:].partition("]")
        return name, rest.removeprefix(":")
    name, colon, port = entry.rpartition(":")
    return (name, port) if colon and ":" not in name and port.isdigit() else (entry, "")


def _proxy_url(text: str) -> str:
    """`text` as a URL; one without a scheme is http's, as in Go."""
    if not text:
        return ""
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
        parts = urlsplit("")
    if not usable:
        raise InvalidRegistryConfig("invalid proxy address: it is no URL")
    if parts.scheme not in {"http", "https"}:
        raise InvalidRegistryConfig(
            f"invalid proxy address: unsupported scheme \"{parts.scheme}\": must use either 'https://' or 'http://'"
        )
    return url
