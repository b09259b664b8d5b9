"""Options of the `syslog` driver, read. Pure. docker: daemon/logger/syslog/syslog.go."""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Callable, Mapping

from teul.errors import InvalidParameter

NAMES = frozenset(
    {
        "syslog-address",
        "syslog-facility",
        "syslog-format",
        "syslog-tls-ca-cert",
        "syslog-tls-cert",
        "syslog-tls-key",
        "syslog-tls-skip-verify",
    }
)
FORMATS = ("", "rfc3164", "rfc5424", "rfc5424micro")
_PORT = "514"
_SOCKETS = ("unix", "unixgram")
_DAEMON = 3
# syslog(3), by number.
_FACILITIES = (
    *("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"),
    *("", "", "", ""),
    *("local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"),
)
_NUMBER = re.compile(r"[+-]?[0-9]+", re.ASCII)


def check(options: Mapping[str, str], exists: Callable[[str], bool]) -> None:
    """Raises InvalidParameter for values that none of the options has. docker: a socket that is not there is missed at once."""
    network, path = parse_address(options.get("syslog-address", ""))
    if network in _SOCKETS and not exists(path):
        raise InvalidParameter(f"stat {path}: no such file or directory")
    parse_facility(options.get("syslog-facility", ""))
    if options.get("syslog-format", "") not in FORMATS:
        raise InvalidParameter("Invalid syslog format")


def parse_address(text: str) -> tuple[str, str]:
    """The kind of connection (udp, tcp, tcp+tls, unix, unixgram; "" for this machine's own syslog) and the path, or host and port.

    Raises InvalidParameter.
    """
    if not text:
        return "", ""
    try:
        address = urllib.parse.urlsplit(text)
    except ValueError as error:
        raise InvalidParameter(f"parse {json.dumps(text)}: {error}") from None
    if address.scheme in _SOCKETS:
        return address.scheme, address.path
    if address.scheme not in ("udp", "tcp", "tcp+tls"):
        raise InvalidParameter(f"unsupported scheme: '{address.scheme}'")
    return address.scheme, _with_port(address.netloc.rpartition("@")[2])


def split_host(address: str) -> tuple[str, str]:
    """Host, without the brackets of an IPv6 address, and port of what `parse_address` has returned."""
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), port


def parse_facility(text: str) -> int:
    """The number of a facility by its name, or by itself. Raises InvalidParameter."""
    if not text:
        return _DAEMON
    if text in _FACILITIES:
        return _FACILITIES.index(text)
    if _NUMBER.fullmatch(text) and 0 <= int(text[:6]) < len(_FACILITIES):
        return int(text[:6])
    raise InvalidParameter("invalid syslog facility")


def _with_port(host: str) -> str:
    if host.startswith("["):
        inner, bracket, tail = host[1:].partition("]")
        if not bracket:
            raise InvalidParameter(f"address {host}: missing ']' in address")
        return host if tail.startswith(":") else f"[{inner}]:{_PORT}"
    if host.count(":") > 1:
        raise InvalidParameter(f"address {host}: too many colons in address")
    return host if ":" in host else f"{host}:{_PORT}"
