"""Who the engine is to a registry: what a client of the API sends along in `X-Registry-Auth` (moby api/types/registry/authconfig.go)."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field

import msgspec

from teul.registry.errors import InvalidRegistryAuth


@dataclass(frozen=True, slots=True)
class Credentials:
    """What to show to a registry; all empty is anonymous. Secrets are kept out of `repr`, hence out of logs.

    `identity_token` is an OAuth2 refresh token and counts more than the password; `registry_token` is a bearer token, sent as it is.
    `server_address` is where a login goes; nothing else reads it.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)
    server_address: str = ""

    @property
    def has_password(self) -> bool:
        """docker: a name without a password, or the other way round, counts as none."""
        return bool(self.username and self.password)


ANONYMOUS = Credentials()


class _AuthConfig(msgspec.Struct):
    """The JSON document, whose other members (`auth`, `email`) dockerd ignores too."""

    username: str | None = None
    password: str | None = None
    identitytoken: str | None = None
    registrytoken: str | None = None
    serveraddress: str | None = None


def decode_registry_auth(header: str) -> Credentials:
    """The credentials in an `X-Registry-Auth` header: JSON in base64url. An empty header is anonymous. Raises `InvalidRegistryAuth`.

    docker: the push route takes an unreadable header for an empty one; that is for its caller to decide.
    """
    if not header:
        return ANONYMOUS
    # docker: Go's decoder reads padded base64url, skips line ends, and reads the first JSON value of what comes out.
    text = header.replace("\r", "").replace("\n", "")
    try:
        data = base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError):
        offset = _illegal_at(text)
        problem = "unexpected EOF" if offset is None else f"illegal base64 data at input byte {offset}"
        raise InvalidRegistryAuth(f"invalid X-Registry-Auth header: {problem}") from None
    return decode_auth_config(data)


def decode_auth_config(data: bytes) -> Credentials:
    """The credentials in a JSON document, such as the body of `POST /auth`. Raises `InvalidRegistryAuth`."""
    if not data.strip():
        raise InvalidRegistryAuth("invalid X-Registry-Auth header: EOF")
    try:
        config = msgspec.json.decode(data, type=_AuthConfig | None)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRegistryAuth(f"invalid X-Registry-Auth header: {error}") from None
    if config is None:
        return ANONYMOUS
    return Credentials(
        username=config.username or "",
        password=config.password or "",
        identity_token=config.identitytoken or "",
        registry_token=config.registrytoken or "",
        server_address=config.serveraddress or "",
    )


def _illegal_at(text: str) -> int | None:
    """Where Go's base64 decoder would stop; None where it misses the padding at the end."""
    alphabet = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    body = text.rstrip("=")
    for index, character in enumerate(body):
        if character not in alphabet:
            return index
    padding = len(text) - len(body)
    return None if (len(body) + padding) % 4 else len(body)
