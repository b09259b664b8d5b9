"""Devices of the Container Device Interface: found in the documents of the host, looked up when a container starts.

Documents are an administrator's, as a unit of systemd is. Those in a later directory win over those in an earlier one; two of the same
directory that name the same device cancel each other, as in Docker.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence

import msgspec

from teul.errors import InvalidParameter, System
from teul.model.host_config import DeviceRequest
from teul.services.containers.spec.cdi import DeviceNode, Edits

DRIVER = "cdi"
_LARGEST_BYTES = 16 << 20
_KINDS = {stat.S_IFCHR: "c", stat.S_IFBLK: "b", stat.S_IFIFO: "p"}


class _Device(msgspec.Struct):
    name: str
    edits: Edits = msgspec.field(default_factory=Edits, name="containerEdits")


class _Document(msgspec.Struct):
    version: str = msgspec.field(name="cdiVersion")
    kind: str
    devices: list[_Device]
    edits: Edits = msgspec.field(default_factory=Edits, name="containerEdits")


class CdiDevices:
    """What the documents of some directories say at one moment. `problems` are the documents that say nothing, and why."""

    def __init__(self, directories: Sequence[str]) -> None:
        """Blocking."""
        self.problems: list[str] = []
        self._found: dict[str, tuple[str, Edits, Edits]] = {}  # by name: document, its own edits, the device's
        for directory in directories:
            self._read(directory)

    def names(self) -> list[str]:
        """`vendor/class=name` of all devices, sorted."""
        return sorted(self._found)

    def edits(self, names: Sequence[str]) -> list[Edits]:
        """What these devices add, each document's own edits once and first. Raises System, in Docker's words."""
        if unresolved := [name for name in names if name not in self._found]:
            raise System(f"CDI device injection failed: unresolvable CDI devices {', '.join(unresolved)}")
        wanted: list[Edits] = []
        seen: set[str] = set()
        for path, common, own in (self._found[name] for name in names):
            if path not in seen:
                seen.add(path)
                wanted.append(common)
            wanted.append(own)
        for edits in wanted:
            if (what := edits.unsupported()) is not None:
                raise System(f"CDI device injection failed: failed to inject devices: {what} are not supported")
            for node in edits.device_nodes:
                _complete(node)
        return wanted

    def _read(self, directory: str) -> None:
        found: dict[str, tuple[str, Edits, Edits]] = {}
        twice: set[str] = set()
        for path in _documents(directory):
            try:
                document = _load(path)
            except (OSError, ValueError) as error:
                self.problems.append(f"CDI: Error associated with spec file {path}: {error}")
                continue
            for device in document.devices:
                name = f"{document.kind}={device.name}"
                if name in found:
                    twice.add(name)
                    self.problems.append(f'CDI: Error associated with spec file {path}: conflicting device "{name}"')
                found[name] = path, document.edits, device.edits
        self._found |= {name: entry for name, entry in found.items() if name not in twice}


def edits_of(requests: Sequence[DeviceRequest], directories: Sequence[str]) -> list[Edits]:
    """What the requests add, all of which are for this driver. Blocking. Raises System, InvalidParameter."""
    for request in requests:
        if request.count:
            raise InvalidParameter("unexpected count in CDI device request")
        if request.options:
            raise InvalidParameter("unexpected options in CDI device request")
    names = [name for request in requests for name in request.device_ids or ()]
    return CdiDevices(directories).edits(names) if names else []


def _documents(directory: str) -> Iterator[str]:
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return  # most hosts have none
    for name in names:
        if name.endswith((".json", ".yaml")) and not os.path.isdir(f"{directory}/{name}"):
            yield f"{directory}/{name}"


def _load(path: str) -> _Document:
    """Raises `OSError`, `ValueError`."""
    with open(path, "rb") as file:
        data = file.read(_LARGEST_BYTES)
    if path.endswith(".json"):
        return msgspec.json.decode(data, type=_Document)
    import yaml  # noqa: PLC0415 - 20 ms that only hosts with such documents are to wait for

    try:
        return msgspec.convert(yaml.safe_load(data), type=_Document)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _complete(node: DeviceNode) -> None:
    """Fill in what the host's node says. docker: pkg/cdi, DeviceNode.fillMissingInfo."""
    node.host_path = node.host_path or node.path
    if node.kind and (node.major or node.kind == "p"):
        return
    try:
        status = os.lstat(node.host_path)
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise System(
            f"CDI device injection failed: failed to inject devices: failed to stat CDI host device {node.host_path!r}: {reason}"
        ) from error
    kind = _KINDS.get(stat.S_IFMT(status.st_mode))
    if kind is None or (node.kind and node.kind != kind):
        raise System(
            f'CDI device injection failed: failed to inject devices: CDI device ("{node.path}", "{node.host_path}"), not a device node'
        )
    node.kind = kind
    if not node.major and kind != "p":
        node.major, node.minor = os.major(status.st_rdev), os.minor(status.st_rdev)
    if node.file_mode is None:
        node.file_mode = stat.S_IMODE(status.st_mode)
