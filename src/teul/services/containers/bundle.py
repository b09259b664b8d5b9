"""The bundle of a container, and the files that the engine writes for its processes: the network's three, config.json, launch.json,
endpoints.json."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import Any

import msgspec

from teul.errors import Integrity
from teul.model.container import ContainerEndpoint
from teul.oci.runtime_spec import ExecSpec, Spec
from teul.runtime.messages import CONFIG_FILE, Launch
from teul.services.containers.directories import EngineDirectories
from teul.store.atomic import remove_tree, replace_file, write_new_file

LAUNCH_FILE, ENDPOINTS_FILE = "launch.json", "endpoints.json"
_ENDPOINTS = msgspec.json.Decoder(dict[str, ContainerEndpoint])
# What an engine needs to take a container over; `networks` is missing in the file of an older engine.
_LAUNCH_MEMBERS = frozenset({"kind", "id", "directory", "spill_directory", "terminal", "stdin", "log", "cgroup", "kill_cgroup"})


class DamagedBundle(Integrity):
    """A file of the bundle is there and cannot be read: empty after a power cut, or spoilt."""


def make_bundle(directories: EngineDirectories, container_id: str, files: dict[str, str]) -> str:
    """Make an empty bundle, and write the kept `files` by name; returns the bundle's path. An earlier run's bundle is removed."""
    bundle = directories.bundle(container_id)
    remove_tree(bundle)
    os.mkdir(bundle, 0o711)
    os.mkdir(f"{bundle}/rootfs", 0o755)
    kept = directories.container(container_id)
    for name, text in files.items():
        # The bytes again that `read_host_file` made text of. Every start writes these files anew.
        replace_file(f"{kept}/{name}", text.encode("utf-8", "surrogateescape"), 0o644, durable=False)
    return bundle


def write_bundle_files(bundle: str, spec: Spec, launch: Launch) -> None:
    """Write config.json, the OCI spec, and launch.json, which a later engine needs to take the container over."""
    _write(f"{bundle}/{CONFIG_FILE}", spec)
    _write(f"{bundle}/{LAUNCH_FILE}", launch)


def write_exec_config(directory: str, config: ExecSpec) -> None:
    """Write what an exec's process is to be: an OCI `process` and Teul's extension. In a file, since an environment may be large."""
    _write(f"{directory}/{CONFIG_FILE}", config)


def read_bundle_files(bundle: str) -> tuple[Spec, Launch]:
    """The inverse of `write_bundle_files`. Raises `FileNotFoundError`, `DamagedBundle`."""
    spec: Spec = _read(f"{bundle}/{CONFIG_FILE}", frozenset({"process", "linux"}))
    return spec, read_launch(bundle)


def read_launch(bundle: str) -> Launch:
    """What the container was started from. Raises `FileNotFoundError`, `DamagedBundle`."""
    launch: Launch = _read(f"{bundle}/{LAUNCH_FILE}", _LAUNCH_MEMBERS)
    # Missing in the file of an older engine, whose container has its links already and shares the engine's keyring.
    launch.setdefault("networks", [])
    launch.setdefault("keyring", f"teul.{launch['id']}")
    return launch


def write_endpoints(bundle: str, endpoints: Mapping[str, ContainerEndpoint]) -> None:
    """Note what the container has of its networks, for an engine that finds it running and nothing of that in its record."""
    write_new_file(f"{bundle}/{ENDPOINTS_FILE}", msgspec.json.encode(endpoints), durable=False)


def read_endpoints(bundle: str) -> dict[str, ContainerEndpoint]:
    """The inverse of `write_endpoints`; empty if nothing was noted. Raises `DamagedBundle`."""
    path = f"{bundle}/{ENDPOINTS_FILE}"
    try:
        with open(path, "rb") as file:
            return _ENDPOINTS.decode(file.read())
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError) as error:
        raise DamagedBundle(f"{path} cannot be read: {error}") from error


def read_host_file(path: str) -> str:
    """One of the host's files as text that stands for its very bytes, whatever they are (`make_bundle`); empty if there is none. Blocks."""
    try:
        with open(path, "rb") as file:
            return file.read().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return ""


def remove_bundle(directories: EngineDirectories, container_id: str) -> None:
    """Remove the bundle of a container. Idempotent."""
    try:
        remove_tree(directories.bundle(container_id))
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
        # The monitor of a process that nobody could take over has written its last word meanwhile; there is only one.
        remove_tree(directories.bundle(container_id))


def _write(path: str, document: Mapping[str, object]) -> None:
    write_new_file(path, msgspec.json.encode(document), durable=False)


def _read(path: str, members: frozenset[str]) -> Any:
    try:
        with open(path, "rb") as file:
            document = msgspec.json.decode(file.read())
    except FileNotFoundError:
        raise
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        raise DamagedBundle(f"{path} cannot be read: {error}") from error
    if not isinstance(document, dict) or not members <= document.keys():
        raise DamagedBundle(f"{path} cannot be read: it is not what an engine wrote")
    return document
