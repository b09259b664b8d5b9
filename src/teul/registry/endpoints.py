"""Where a repository is to be found: the URLs that are tried for a reference, in their order. Pure.

The rules are dockerd's (moby registry/service_v2.go and config.go, v28): Docker Hub has a registry of another name, and mirrors for pulls;
an insecure registry is asked over TLS without verification first and in the clear then; everything else is asked over verified TLS.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

from teul.oci.reference import DEFAULT_DOMAIN, Reference
from teul.registry.errors import InvalidRegistryConfig

# docker: registry/config.go; the reference grammar knows Docker Hub as docker.io, and old logins as the index.
HUB_HOST = "registry-1.docker.io"
# What is searched, and where old logins go.
INDEX_HOST = "index.docker.io"
_HUB_NAMES = frozenset({DEFAULT_DOMAIN, INDEX_HOST})
# docker: always insecure, as a stop-gap for registries on this machine.
_LOOPBACK = ("::1/128", "127.0.0.0/8")
_HOST = re.compile(
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
)

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One place to try. `host` is `name[:port]`, `path` is what a mirror has before `/v2/`: "" or `/prefix`.

    `verify` says whether TLS certificates are verified; it means nothing to http. A mirror is given no credentials of the user's.
    """

    scheme: str
    host: str
    path: str = ""
    verify: bool = True
    is_mirror: bool = False

    @property
    def url(self) -> str:
        """`https://host/v2/`, without what is below it."""
        return f"{self.scheme}://{self.host}{self.path}/v2/"


INDEX = Endpoint("https", INDEX_HOST)


@dataclass(frozen=True, slots=True)
class Registries:
    """What the engine's configuration says of registries. Made by `parse_registries`."""

    mirrors: tuple[Endpoint, ...] = ()
    insecure_hosts: frozenset[str] = frozenset()
    insecure_networks: tuple[Network, ...] = tuple(ip_network(network) for network in _LOOPBACK)

    def is_insecure(self, host: str, addresses: Iterable[Address] = ()) -> bool:
        """Whether `host` (`name[:port]`) is insecure by its name or by one of the `addresses` that the name stands for."""
        if host in self.insecure_hosts:
            return True
        address = literal_address(host)
        candidates = (address,) if address is not None else tuple(addresses)
        return any(candidate in network for candidate in candidates for network in self.insecure_networks)

    def asks_addresses(self, host: str) -> bool:
        """Whether it takes the addresses of `host` to tell if it is insecure. docker: Docker Hub never is."""
        return host not in _HUB_NAMES and host not in self.insecure_hosts

    def endpoints(self, reference: Reference, *, addresses: Iterable[Address] = (), with_mirrors: bool = True) -> list[Endpoint]:
        """Where to look for `reference`, first choice first. `addresses` are those of its domain, if that is a name (`literal_address`).

        Pushes and logins go without mirrors. docker: mirrors are Docker Hub's only.
        """
        return self.endpoints_of_host(reference.domain, addresses=addresses, with_mirrors=with_mirrors)

    def endpoints_of_host(self, host: str, *, addresses: Iterable[Address] = (), with_mirrors: bool = False) -> list[Endpoint]:
        if host in _HUB_NAMES:
            return [*(self.mirrors if with_mirrors else ()), Endpoint("https", HUB_HOST)]
        if not self.is_insecure(host, addresses):
            return [Endpoint("https", host)]
        return [Endpoint("https", host, verify=False), Endpoint("http", host, verify=False)]


def literal_address(host: str) -> Address | None:
    """The address that `host` (`name[:port]`) spells, or None if it is a name, to be looked up."""
    name = split_port(host)[0]
    try:
        return ip_address(name)
    except ValueError:
        return None


def split_port(host: str) -> tuple[str, str]:
    """The name, without the brackets of IPv6, and the port or ""."""
    if host.startswith("["):
        name, _, rest = host[1:].partition("]")
        return name, rest.removeprefix(":")
    if host.count(":") == 1:
        name, _, port = host.partition(":")
        return name, port
    return host, ""


def is_host(text: str) -> bool:
    """Whether `text` is `name[:port]` that may stand in an URL."""
    port = split_port(text)[1]
    return _HOST.fullmatch(text) is not None and (not port or int(port) <= 65535)


def login_host(server_address: str) -> str:
    """The host that a login to `server_address` means: a host or an URL in any of the spellings of old clients; "" is Docker Hub."""
    if not server_address:
        return DEFAULT_DOMAIN
    url = server_address if server_address.startswith(("http://", "https://")) else f"https://{server_address}"
    host = _split(url, "unable to parse server address").netloc.rpartition("@")[2]
    if _HOST.fullmatch(host) is None:
        raise InvalidRegistryConfig(f'unable to parse server address: parse "{url}": invalid host')
    return host


def parse_registries(*, mirrors: Iterable[str] = (), insecure: Iterable[str] = ()) -> Registries:
    """Read dockerd's settings `registry-mirrors` and `insecure-registries`. Raises `InvalidRegistryConfig`, in dockerd's words."""
    hosts: set[str] = set()
    networks: list[Network] = []
    for entry in (*insecure, *_LOOPBACK):
        parsed = _parse_insecure(entry)
        if isinstance(parsed, str):
            hosts.add(parsed)
        elif parsed not in networks:
            networks.append(parsed)
    registries = Registries(insecure_hosts=frozenset(hosts - {DEFAULT_DOMAIN}), insecure_networks=tuple(networks))
    # A mirror in the list of insecure registries is not verified; it has its scheme, so nothing is tried in its place.
    endpoints = dict.fromkeys(_parse_mirror(mirror, registries) for mirror in mirrors)
    return Registries(tuple(endpoints), registries.insecure_hosts, registries.insecure_networks)


def _parse_insecure(entry: str) -> str | Network:
    name = DEFAULT_DOMAIN if entry == INDEX_HOST else entry
    if name.startswith("-") or name.endswith("-"):
        raise InvalidRegistryConfig(f"invalid index name ({name}). Cannot begin or end with a hyphen")
    for scheme in ("http://", "https://"):
        # docker: warned of and dropped.
        if name.lower().startswith(scheme):
            name = name[len(scheme) :]
            break
    if "://" in name:
        raise InvalidRegistryConfig(f"insecure registry {entry} should not contain '://'")
    if "/" in name:
        try:
            return ip_network(name, strict=False)
        except ValueError:
            pass  # no network, and no host either, as the next check says
    host, port = split_port(name)
    if _HOST.fullmatch(name) is None and literal_address(name) is None:
        raise InvalidRegistryConfig(f'insecure registry {name} is not valid: invalid host "{host}"')
    if port and int(port) > 65535:
        raise InvalidRegistryConfig(f'insecure registry {name} is not valid: invalid port "{port}"')
    return name


def _parse_mirror(text: str, registries: Registries) -> Endpoint:
    if not text.partition("://")[1] or text.startswith("://"):
        raise InvalidRegistryConfig(f"""invalid mirror: no scheme specified for "{text}": must use either 'https://' or 'http://'""")
    parts = _split(text, f'invalid mirror: "{text}" is not a valid URI')
    if parts.scheme not in {"http", "https"}:
        raise InvalidRegistryConfig(
            f"""invalid mirror: unsupported scheme "{parts.scheme}" in "{text}": must use either 'https://' or 'http://'"""
        )
    if parts.query or parts.fragment:
        raise InvalidRegistryConfig(f'invalid mirror: query or fragment at end of the URI "{text}"')
    if "@" in parts.netloc:
        hidden = f"{parts.scheme}://{parts.username or ''}:xxxxx@{parts.netloc.rpartition('@')[2]}{parts.path}"
        raise InvalidRegistryConfig(f'invalid mirror: username/password not allowed in URI "{hidden}"')
    if _HOST.fullmatch(parts.netloc) is None:
        raise InvalidRegistryConfig(f'invalid mirror: "{text}" is not a valid URI')
    insecure = registries.is_insecure(parts.netloc)
    return Endpoint(parts.scheme, parts.netloc, parts.path.rstrip("/"), verify=not insecure, is_mirror=True)


def _split(url: str, problem: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as error:
        raise InvalidRegistryConfig(f"{problem}: {error}") from None
