"""Where plug-ins are: by their names, in directories that belong to the administrator.

A plug-in is a socket, `NAME.sock` or `NAME/NAME.sock`, or a file that says where it listens, `NAME.spec` (an address) or `NAME.json`.
docker: pkg/plugins/discovery.go.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from teul.errors import InvalidParameter
from teul.model.document import Document, decode
from teul.plugins.errors import PluginNotFound, PluginUnusable

_SCHEMES = ("unix", "tcp", "http", "https")
_SPEC_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class PluginDirectories:
    """Where sockets are looked for, and where the files are that tell of others; earlier ones win."""

    sockets: tuple[str, ...] = ("/run/docker/plugins",)
    specs: tuple[str, ...] = ("/etc/docker/plugins", "/usr/lib/docker/plugins")


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSettings:
    """Of a plug-in at https. Paths of PEM files, empty for none; `verify`: the plug-in must show a certificate that counts."""

    ca: str = ""
    certificate: str = ""
    key: str = ""
    verify: bool = True


@dataclass(frozen=True, slots=True)
class Address:
    """Where a plug-in listens: `unix` with a path, else `tcp` (HTTP in the clear) or `https` with `HOST:PORT`."""

    scheme: str
    place: str
    tls: TlsSettings = TlsSettings(verify=False)


class _TlsConfig(Document):
    insecure_skip_verify: bool = False
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""


class _PluginFile(Document):
    addr: str = ""
    tls_config: _TlsConfig | None = None


def scan(directories: PluginDirectories) -> list[str]:
    """The names of all that is there, each once, in no order. Blocking. Raises PluginUnusable for a directory that cannot be read."""
    names: dict[str, None] = {}
    for directory in directories.sockets:
        for entry in _entries(directory):
            path = f"{entry.path}/{entry.name}.sock" if entry.is_dir(follow_symlinks=False) else entry.path
            if _is_socket(path, follow_symlinks=path != entry.path):
                names[os.path.splitext(os.path.basename(path))[0]] = None
    for directory in directories.specs:
        for entry in _entries(directory):
            path = entry.path
            if entry.is_dir():
                inside = [other for other in _entries(path) if os.path.splitext(other.name)[0] == entry.name]
                path = min((other.path for other in inside), default="")
            name, kind = os.path.splitext(os.path.basename(path))
            if kind in (".spec", ".json"):
                names[name] = None
    return list(names)


def find(directories: PluginDirectories, name: str) -> Address:
    """Where the plug-in of this name listens. Blocking. Raises PluginNotFound, PluginUnusable for a file that does not say it."""
    if not name or name in (".", "..") or "/" in name or "\0" in name:
        raise PluginNotFound(name)  # security: a name leads to nothing outside of the directories
    for directory in directories.sockets:
        for path in _places(directory, name, ".sock"):
            if _is_socket(path):
                return Address("unix", path)
    for directory in directories.specs:
        for path in (*_places(directory, name, ".spec"), *_places(directory, name, ".json")):
            if os.path.exists(path):
                return _read(path)
    raise PluginNotFound(name)


def _entries(directory: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            yield from entries
    except FileNotFoundError:
        return
    except OSError as error:
        raise PluginUnusable(f"error reading dir entries: open {directory}: {os.strerror(error.errno or 0).lower()}") from error


def _places(directory: str, name: str, kind: str) -> tuple[str, str]:
    return f"{directory}/{name}{kind}", f"{directory}/{name}/{name}{kind}"


def _is_socket(path: str, *, follow_symlinks: bool = True) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path, follow_symlinks=follow_symlinks).st_mode)
    except OSError:
        return False


def _read(path: str) -> Address:
    try:
        with open(path, "rb") as file:
            content = file.read(_SPEC_BYTES)
    except OSError as error:
        raise PluginUnusable(f"open {path}: {os.strerror(error.errno or 0).lower()}") from error
    if not path.endswith(".json"):
        # docker: such a file has no place for an authority, and whoever answers there is believed.
        return _parse(content.decode(errors="replace").strip(), TlsSettings(verify=False))
    try:
        found = decode(_PluginFile, content)
    except InvalidParameter as error:
        raise PluginUnusable(f"{path}: {error.message}") from error
    config = found.tls_config
    if config is None:
        return _parse(found.addr, TlsSettings())
    verify = bool(config.ca_file) and not config.insecure_skip_verify
    return _parse(found.addr, TlsSettings(ca=config.ca_file, certificate=config.cert_file, key=config.key_file, verify=verify))


def _parse(text: str, tls: TlsSettings) -> Address:
    try:
        parts = urlsplit(text)
        place = parts.path if parts.scheme == "unix" and not parts.netloc else parts.netloc
        _ = parts.port  # raises for one that is none
    except ValueError as error:
        raise PluginUnusable(f"parse {text!r}: {error}") from error
    if parts.scheme not in _SCHEMES or not place or (parts.scheme == "unix" and not place.startswith("/")):
        raise PluginUnusable("Unknown protocol")
    scheme = parts.scheme if parts.scheme in ("unix", "https") else "tcp"
    return Address(scheme, place, tls)
