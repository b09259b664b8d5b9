"""The engine's sockets."""

from __future__ import annotations

import grp
import os
import socket
import stat

from teul.errors import Conflict, System
from teul.linux.syscalls import os_error


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
    listener.listen(1024)
    return listener


def _open_unix(path: str) -> socket.socket:
    """0660 root:docker, and never seen with any other mode: bound under another name, then renamed."""
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
            pass  # no such group here: root's socket it stays
        listener.listen(1024)
        os.rename(temporary, path)
    except OSError as error:
        listener.close()
        raise System(f"cannot listen on unix://{path}: {error.strerror}") from error
    finally:
        os.close(directory_fd)
    return listener


def _check_free(path: str) -> None:
    """A socket that nobody answers is left over from a killed engine; anything else is not ours to replace."""
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
