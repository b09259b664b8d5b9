"""What becomes of a container's output: which file keeps it, in which format, and who else gets it, as the keeper is told."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from teul.errors import InvalidParameter, Refusal
from teul.model.container import Container
from teul.runtime.forwarder.connection import NoServer, connect
from teul.runtime.messages import Forwarding, LogFormat, LogOptions, LogServer, LogTls
from teul.services.containers.directories import EngineDirectories
from teul.services.containers.request import syslog_options
from teul.services.containers.request.log_drivers import FORWARDING, JSON_FILE, LOCAL, NONE, SYSLOG, buffer_bytes
from teul.services.containers.request.log_options import json_file_limits, keeps_cache, local_limits, log_attributes
from teul.services.containers.request.log_tag import DEFAULT_TAG, render_tag
from teul.wire.journal import field_name

_JOURNAL: LogServer = {"network": "journal", "address": "/run/systemd/journal/socket", "host": "", "port": "", "tls": None}


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
    if log_config.type == NONE:
        return None
    kept = kept_log(container, directories)
    attributes = log_attributes(options, container.config)
    forward = _forwarding(container, attributes, hostname) if log_config.type in FORWARDING else None
    if options.get("tag"):
        attributes["tag"] = render_tag(options["tag"], container, hostname)
    if log_config.type in ("", JSON_FILE):
        limits = json_file_limits(options)
    else:
        limits = local_limits(options, "" if log_config.type == LOCAL else "cache-")
    return {
        "path": kept.path if kept is not None else "",
        "max_bytes": limits.max_bytes,
        "max_files": limits.max_files,
        "attrs": msgspec.json.encode(attributes, order="sorted").decode() if attributes else "",
        "format": kept.form if kept is not None else "local",
        "compress": limits.compress,
        "forward": forward,
    }


def _forwarding(container: Container, attributes: dict[str, str], hostname: str) -> Forwarding:
    log_config = container.host_config.log_config
    options = log_config.config or {}
    tag = render_tag(options.get("tag") or DEFAULT_TAG, container, hostname)
    is_syslog = log_config.type == SYSLOG
    return {
        "id": container.id,
        "server": _syslog_server(options) if is_syslog else _JOURNAL,
        "buffer_bytes": buffer_bytes(options),
        "format": options.get("syslog-format", ""),
        "facility": syslog_options.parse_facility(options.get("syslog-facility", "")),
        "tag": tag,
        "hostname": hostname,
        "fields": {} if is_syslog else _journal_fields(container, tag, attributes),
    }


def _syslog_server(options: Mapping[str, str]) -> LogServer:
    network, address = syslog_options.parse_address(options.get("syslog-address", ""))
    host, port = syslog_options.split_host(address) if network in ("udp", "tcp", "tcp+tls") else ("", "")
    tls: LogTls | None = None
    if network == "tcp+tls":
        tls = {
            "ca": options.get("syslog-tls-ca-cert", ""),
            "cert": options.get("syslog-tls-cert", ""),
            "key": options.get("syslog-tls-key", ""),
            "skip_verify": "syslog-tls-skip-verify" in options,  # docker: whatever it says
        }
    return {"network": network, "address": address, "host": host, "port": port, "tls": tls}


def _journal_fields(container: Container, tag: str, attributes: Mapping[str, str]) -> dict[str, str]:
    return {
        "CONTAINER_ID": container.id[:12],
        "CONTAINER_ID_FULL": container.id,
        "CONTAINER_NAME": container.name,
        "CONTAINER_TAG": tag,
        "IMAGE_NAME": container.image_reference,
        "SYSLOG_IDENTIFIER": tag,
        "CONTAINER_LOG_EPOCH": secrets.token_hex(32),
        **{name: value for text, value in attributes.items() if (name := field_name(text))},
    }


def check_server(options: LogOptions | None) -> None:
    """Look whether there is somebody to send lines to. Blocking. Raises `Refusal`, as dockerd does at a start."""
    forward = options.get("forward") if options is not None else None
    if forward is None:
        return
    try:
        connect(forward["server"]).close()
    except NoServer as error:
        raise Refusal(f"failed to initialize logging driver: {error}") from None
