"""The sockets that the engine listens on, and what TLS on them asks of clients."""

from __future__ import annotations

import grp
import os
import socket
import ssl
import stat

from aiohttp import web

from teul.api.http.connection import Runner
from teul.api.http.tls import TlsSite
from teul.daemon.config import TlsFiles
from teul.errors import Conflict, InvalidParameter, System
from teul.linux.syscalls import os_error

# docker: Go listens with the host's net.core.somaxconn, which is 4096 since Linux 5.4. The kernel cuts what is above that.
_BACKLOG = 4096


def open_listener(host: str) -> socket.socket:
    """A bound and listening socket for `unix://PATH` or `tcp://ADDRESS:PORT`. Raises `System`, `Conflict`."""
    scheme, _, rest = host.partition("://")
    if scheme == "unix":
        return _open_unix(rest)
    address, _, port = rest.rpartition(":")
    family = socket.AF_INET6 if address.startswith("[") else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address.strip("[]"), int(port)))
    except OSError as error:
        listener.close()
        raise System(f"cannot listen on {host}: {error.strerror}") from error
    listener.listen(_BACKLOG)
    return listener


async def serve_at(listener: socket.socket, runner: Runner, tls: ssl.SSLContext | None) -> None:
    """Have `runner`, which ends it, serve whoever connects to `listener`."""
    # With the backlog once more: asyncio calls listen(2) again, and aiohttp would have it say 128.
    site = web.SockSite(runner, listener, backlog=_BACKLOG) if tls is None else TlsSite(runner, listener, tls, backlog=_BACKLOG)
    await site.start()


def load_tls(files: TlsFiles) -> ssl.SSLContext:
    """The engine's side of TLS: its certificate, TLS 1.2 or newer, and with `verify` a demand for the client's. Raises `InvalidParameter`.

    security: clients are checked against this one CA and never against the host's list of public ones.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(files.cert, files.key, password=_refuse_password)
    except OSError as error:
        raise InvalidParameter(
            f"could not load X509 key pair (cert: {files.cert!r}, key: {files.key!r}): {_why(error)}",
            hint="give --tlscert and --tlskey as PEM files",
        ) from error
    if files.verify:
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(cafile=files.ca)
        except OSError as error:
            raise InvalidParameter(
                f"could not read CA certificate {files.ca!r}: {_why(error)}", hint="give --tlscacert as a PEM file"
            ) from error
    return context


def _why(error: OSError) -> str:
    """The reason in words. `ssl.SSLError` is an OSError too, but its number is none of the kernel's."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    return (error.strerror or str(error)).lower()


def _refuse_password() -> str:
    """Stands in for OpenSSL's question for a passphrase on the terminal, which a service does not have."""
    raise InvalidParameter("the TLS key is encrypted", hint="give --tlskey as a PEM file without a passphrase")


def _open_unix(path: str) -> socket.socket:
    """A listening socket at `path`, 0660 root:docker. Nobody sees it with another mode: it is bound under another name, then renamed."""
    directory, name = os.path.split(path)
    os.makedirs(directory, exist_ok=True)
    _check_free(path)
    directory_fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    temporary = f"{directory}/.{name}.{os.getpid()}"
    try:
        # By way of a descriptor: a socket's path may have 107 bytes only.
        listener.bind(f"/proc/self/fd/{directory_fd}/{os.path.basename(temporary)}")
        os.chmod(temporary, 0o660)
        try:
            os.chown(temporary, 0, grp.getgrnam("docker").gr_gid)
        except KeyError:
            pass  # no group "docker" on this host: the socket stays root's
        listener.listen(_BACKLOG)
        os.rename(temporary, path)
    except OSError as error:
        listener.close()
        raise System(f"cannot listen on unix://{path}: {error.strerror}") from error
    finally:
        os.close(directory_fd)
    return listener


def _check_free(path: str) -> None:
    """Raise `Conflict` unless `path` is free, or a socket that a killed engine left: one that nobody answers. The rest is not ours."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise Conflict(f"{path} exists and is no socket")
    directory_fd = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        probe.connect(f"/proc/self/fd/{directory_fd}/{os.path.basename(path)}")
    except ConnectionRefusedError:
        return
    except OSError as error:
        raise System(str(os_error(error.errno or 0, "connect", path))) from error
    finally:
        probe.close()
        os.close(directory_fd)
    raise Conflict(f"somebody else answers at unix://{path}")
