"""A connection to a log server. Blocking, in a process or a thread that has nothing else to do. stdlib only.

docker: srslog/dialer.go, journald/journald.go. Errors are worded as Go words them, since a client sees them when a container starts.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from teul.runtime.messages import LogServer, LogTls

_PATIENCE_SECONDS = 10.0
_LOCAL_PATHS = ("/dev/log", "/var/run/syslog", "/var/run/log")


class NoServer(Exception):
    """There is nobody to send lines to."""


def connect(server: LogServer) -> socket.socket:
    """A socket to send messages by. Raises `NoServer`."""
    network, address = server["network"], server["address"]
    if network == "journal":
        try:
            return _connect_unix(address, socket.SOCK_DGRAM)
        except OSError:
            raise NoServer("journald is not enabled on this host") from None
    if not network:
        return _connect_local()
    try:
        if network == "unix":
            return _connect_unix(address, socket.SOCK_STREAM)
        if network == "unixgram":
            return _connect_unix(address, socket.SOCK_DGRAM)
        if network == "udp":
            return _connect_udp(server["host"], server["port"])
        connection = socket.create_connection((server["host"], server["port"]), _PATIENCE_SECONDS)
    except OSError as error:
        raise NoServer(_describe(server, error)) from None
    tls = server["tls"]
    return connection if tls is None else _secure(connection, server["host"], tls)


def _connect_unix(path: str, kind: int) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, kind)
    connection.settimeout(_PATIENCE_SECONDS)
    try:
        connection.connect(path)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect_local() -> socket.socket:
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        for path in _LOCAL_PATHS:
            try:
                return _connect_unix(path, kind)
            except OSError:
                continue  # the next one is tried
    raise NoServer("Unix syslog delivery error")


def _connect_udp(host: str, port: str) -> socket.socket:
    family, kind, protocol, _name, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    connection = socket.socket(family, kind, protocol)
    connection.settimeout(_PATIENCE_SECONDS)
    try:
        connection.connect(address)
    except BaseException:
        connection.close()
        raise
    return connection


def _secure(connection: socket.socket, host: str, tls: LogTls) -> socket.socket:
    import ssl  # noqa: PLC0415 (the library is large, and seldom needed)

    try:
        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if tls["skip_verify"]:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if tls["ca"]:
            context.load_verify_locations(tls["ca"])
        if tls["cert"] or tls["key"]:
            context.load_cert_chain(tls["cert"], tls["key"] or None)
        return context.wrap_socket(connection, server_hostname=host)
    except (OSError, ValueError) as error:
        connection.close()
        raise NoServer(f"tls: {error}") from None


def _describe(server: LogServer, error: OSError) -> str:
    network = server["network"].removesuffix("+tls")
    kind = "unix" if network == "unix" else network
    if isinstance(error, socket.gaierror):
        return f"dial {kind}: lookup {server['host']}: no such host"
    if isinstance(error, TimeoutError):
        return f"dial {kind} {server['address']}: i/o timeout"
    reason = os.strerror(error.errno).lower() if error.errno else str(error)
    return f"dial {kind} {server['address']}: connect: {reason}"
