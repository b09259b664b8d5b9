"""What becomes of a container's output: which file keeps it, in which format, and who else gets it, as the keeper is told."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from teul.errors import InvalidParameter, Refusal
from teul.model.container import Container
from teul.runtime.messages import LogFormat, LogOptions
from teul.services.containers.directories import EngineDirectories
from teul.services.containers.request.log_drivers import JSON_FILE, LOCAL, NONE
from teul.services.containers.request.log_options import json_file_limits, keeps_cache, local_limits, log_attributes
from teul.services.containers.request.log_tag import render_tag


@dataclass(frozen=True, slots=True)
class KeptLog:
    """Where a container's log can be read."""

    path: str
    form: LogFormat


def kept_log(container: Container, directories: EngineDirectories) -> KeptLog | None:
    """The log that is kept here; None where none is."""
    log_config = container.host_config.log_config
    if log_config.type == NONE:
        return None
    if log_config.type in ("", JSON_FILE):
        return KeptLog(directories.log(container.id), "json")
    if log_config.type == LOCAL or keeps_cache(log_config.config or {}):
        return KeptLog(directories.local_log(container.id), "local")
    return None


def plan_log(container: Container, directories: EngineDirectories, hostname: str) -> LogOptions | None:
    """What the keeper is to do with the container's output. Raises `Refusal`, as dockerd does at a start."""
    try:
        return _plan(container, directories, hostname)
    except InvalidParameter as error:
        raise Refusal(f"failed to initialize logging driver: {error.message}") from None


def _plan(container: Container, directories: EngineDirectories, hostname: str) -> LogOptions | None:
    log_config = container.host_config.log_config
    options = log_config.config or {}
    kept = kept_log(container, directories)
    if kept is None:
        return None
    attributes = log_attributes(options, container.config)
    if options.get("tag"):
        attributes["tag"] = render_tag(options["tag"], container, hostname)
    limits = json_file_limits(options) if kept.form == "json" else local_limits(options, "" if log_config.type == LOCAL else "cache-")
    return {
        "path": kept.path,
        "max_bytes": limits.max_bytes,
        "max_files": limits.max_files,
        "attrs": msgspec.json.encode(attributes, order="sorted").decode() if attributes else "",
        "format": kept.form,
        "compress": limits.compress,
    }
