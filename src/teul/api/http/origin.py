"""Requests over TCP that a web page makes its visitor's browser send.

security: whoever reaches the API is root on the host, and a browser on that host reaches its loopback. A page cannot hide two things: its
own address, which the browser adds as `Origin` to whatever changes something, and the name under which it calls the engine, in `Host`.
The second gives away DNS rebinding, where the page's own name is made to lead here, so that the browser takes the engine for the page's
own server. What is no browser sends no Origin, and as Host the name that its user gave it.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from aiohttp import web

# docker: what its client calls an engine behind `docker system dial-stdio` (cli/connhelper). example.com is nobody's (RFC 2606).
_FORWARDED = "docker.example.com"
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._-]+)(?::[0-9]*)?")


def own_names(hosts: Iterable[str], *, node_name: str) -> frozenset[str]:
    """The names of an engine that listens at `hosts` on the machine `node_name`."""
    given = (host.removeprefix("tcp://").rpartition(":")[0] for host in hosts if host.startswith("tcp://"))
    return frozenset(name.lower() for name in (*given, node_name, _FORWARDED))


def refusal(request: web.Request, names: frozenset[str]) -> str | None:
    """Why `request` is not served, None if it is. Nothing is refused on a unix socket, which no browser opens.

    Over TLS, clients hold the name against the engine's certificate, so that a page's own name does not get here; `Host` is not judged.
    """
    transport = request.transport
    if transport is None:
        return None
    address = transport.get_extra_info("sockname")
    if transport.get_extra_info("socket").family == socket.AF_UNIX or not address:
        return None
    if transport.get_extra_info("sslcontext") is None:
        for host in request.headers.getall("Host", ()):
            if foreign_host(host, names):
                return f'forbidden: "{host}" is not a name of this engine'
    for origin in request.headers.getall("Origin", ()):
        if foreign_origin(origin, request.headers.get("Host", ""), names, address=address[0], port=address[1]):
            return f'forbidden: requests of web pages of "{origin}" are refused'
    return None


def foreign_host(host: str, names: frozenset[str]) -> bool:
    """Whether `host`, a `Host` header, is a name that somebody else may own.

    A literal address is none: nobody can make it lead elsewhere, and behind forwarded ports an engine does not know its addresses.
    """
    if not host or _is_address(host):
        return False
    match = _HOST.fullmatch(host)
    name = match[1].lower().rstrip(".") if match else ""
    return not (_is_address(name) or _is_own(name, names))


def foreign_origin(origin: str, host: str, names: frozenset[str], *, address: str, port: int) -> bool:
    """Whether `origin` is of another page than one that was loaded from this engine, at `address` and `port`, or from `host`."""
    try:
        parts = urlsplit(origin)
        name, its_port = (parts.hostname or "").rstrip("."), parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return True
    if parts.scheme not in ("http", "https") or not name:
        return True
    if parts.netloc.lower() == host.lower():
        return False
    return its_port != port or not (name == address or _is_own(name, names))


def _is_own(name: str, names: frozenset[str]) -> bool:
    # RFC 6761: localhost and all names below it are loopback, whatever a name server says.
    return name in names or name == "localhost" or name.endswith(".localhost")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True
