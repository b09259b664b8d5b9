"""What TLS demands of a registry and shows to it: the system's authorities, and those of `certs.d/<host[:port]>/`.

docker: registry/registry.go, loadTLSConfig. `*.crt` are further authorities; `NAME.cert` and `NAME.key` are a certificate to show.
Everything here reads files: call it off the event loop.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Iterable

from teul.registry.errors import InvalidRegistryConfig

log = logging.getLogger(__name__)

Stamp = tuple[tuple[str, int, int], ...]


def load_client_context(host: str, directories: Iterable[str] = (), *, verify: bool = True) -> ssl.SSLContext:
    """The TLS settings for a registry at `host` (`name[:port]`). Blocks. Raises `InvalidRegistryConfig`.

    `directories` are places like `/etc/docker/certs.d`. docker: a registry that is not verified is shown no certificate either.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    context.load_default_certs()
    for directory in _directories_of(host, directories):
        _load_directory(context, directory)
    return context


def files_stamp(host: str, directories: Iterable[str]) -> Stamp:
    """Something that changes with the files that `load_client_context` would read below `directories`. Blocks."""
    found = []
    for directory in _directories_of(host, directories):
        try:
            with os.scandir(directory) as entries:
                found += [(entry.path, entry.stat().st_mtime_ns, entry.stat().st_size) for entry in entries]
        except FileNotFoundError:
            continue  # no directory, or a file of it that has gone by now: that is how it looks at present
        except OSError as error:
            raise InvalidRegistryConfig(f"open {directory}: {(error.strerror or str(error)).lower()}") from error
    return tuple(sorted(found))


def _directories_of(host: str, directories: Iterable[str]) -> list[str]:
    # security: a reference's domain has no slash and is not `..`; a mirror's and a login's are checked too. This holds whatever comes.
    safe = "/" not in host and host not in {"", ".", ".."}
    return [os.path.join(directory, host) for directory in directories] if safe else []


def _load_directory(context: ssl.SSLContext, directory: str) -> None:
    try:
        names = sorted(os.listdir(directory))
    except FileNotFoundError:
        return
    except OSError as error:
        raise InvalidRegistryConfig(f"open {directory}: {(error.strerror or str(error)).lower()}") from error
    for name in names:
        stem, extension = os.path.splitext(name)
        if extension == ".crt":
            _load_authority(context, os.path.join(directory, name))
        elif extension == ".cert":
            if f"{stem}.key" not in names:
                raise InvalidRegistryConfig(
                    f"missing key {stem}.key for client certificate {name}. CA certificates must use the extension .crt"
                )
            _load_pair(context, os.path.join(directory, name), os.path.join(directory, f"{stem}.key"))
        elif extension == ".key" and f"{stem}.cert" not in names:
            raise InvalidRegistryConfig(f"missing client certificate {stem}.cert for key {name}")


def _load_authority(context: ssl.SSLContext, path: str) -> None:
    try:
        with open(path, encoding="latin-1") as file:
            text = file.read()
    except OSError as error:
        raise InvalidRegistryConfig(f"open {path}: {(error.strerror or str(error)).lower()}") from error
    try:
        context.load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError):
        # docker: a file without a certificate that can be read adds none, and is no error.
        log.warning("no certificate can be read from %s", path)


def _load_pair(context: ssl.SSLContext, certificate: str, key: str) -> None:
    def refuse_to_ask() -> str:
        raise InvalidRegistryConfig("tls: failed to parse private key")

    try:
        context.load_cert_chain(certificate, key, password=refuse_to_ask)
    except ssl.SSLError as error:
        said = (
            "private key does not match public key"
            if error.reason == "KEY_VALUES_MISMATCH"
            else "failed to find any PEM data in certificate input"
        )
        raise InvalidRegistryConfig(f"tls: {said}") from error
    except OSError as error:
        raise InvalidRegistryConfig(f"open {error.filename or certificate}: {(error.strerror or str(error)).lower()}") from error
