"""Who the user is to a registry: a value, how `config.json` spells it, and how the engine is told. Pure.

docker: cli/config/types and cli/config/configfile. `auth` in the file is the name and the password, in base64.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, replace

from teul.wire.jsontext import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# docker: the key of Docker Hub's credentials, which was the address of its first registry.
INDEX_SERVER = "https://index.docker.io/v1/"
_HUB = ("docker.io", "index.docker.io")
# docker: the user name under which a helper keeps a token instead of a password.
TOKEN_USER = "<token>"
_MEMBERS = {
    "username": "username",
    "password": "password",
    "email": "email",
    "serveraddress": "server",
    "identitytoken": "identity_token",
    "registrytoken": "registry_token",
}


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a registry wants to know of its user; all of it may be empty. `server` is the key under which it is kept."""

    username: str = ""
    password: str = ""
    server: str = ""
    identity_token: str = ""
    registry_token: str = ""
    email: str = ""

    def document(self) -> dict[str, str]:
        """As the API takes it (`AuthConfig`); what is empty is left out."""
        return {name: getattr(self, attribute) for name, attribute in _MEMBERS.items() if getattr(self, attribute)}

    def header(self) -> tuple[str, str]:
        """The request header that shows them to the engine. docker: it is sent even if there is nothing in it."""
        return "X-Registry-Auth", base64.urlsafe_b64encode(encode(self.document())).decode("ascii")

    def with_token(self, token: str) -> Credentials:
        """These, with `token` instead of the password, if there is a token."""
        return replace(self, password="", identity_token=token) if token else self


def server_key(domain: str) -> str:
    """The key of the credentials for the registry of an image's name."""
    return INDEX_SERVER if domain in _HUB else domain


def host_name(server: str) -> str:
    """`host[:port]` of an address that may be a URL."""
    return server.partition("://")[2].partition("/")[0] or server if "://" in server else server.partition("/")[0]


def from_config(server: str, entry: dict[str, Any]) -> Credentials:
    """What `config.json` says in `auths`. Raises `ValueError` for an `auth` that is none."""
    username, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if entry.get("auth"):
        username, password = _decode(str(entry["auth"]))
    return Credentials(
        username=username,
        password=password,
        server=server,
        identity_token=str(entry.get("identitytoken") or ""),
        registry_token=str(entry.get("registrytoken") or ""),
        email=str(entry.get("email") or ""),
    )


def to_config(credentials: Credentials) -> dict[str, str]:
    """What goes into `auths`."""
    entry = {}
    if credentials.username or credentials.password:
        entry["auth"] = base64.b64encode(f"{credentials.username}:{credentials.password}".encode("utf-8", "surrogateescape")).decode(
            "ascii"
        )
    return entry | {name: text for name, text in credentials.document().items() if name in ("email", "identitytoken", "registrytoken")}


def _decode(auth: str) -> tuple[str, str]:
    try:
        username, colon, password = base64.b64decode(auth, validate=True).decode("utf-8", "surrogateescape").partition(":")
    except binascii.Error as error:
        raise ValueError(f"illegal base64 data: {error}") from None
    if not colon or not username:
        raise ValueError("Invalid auth configuration file")
    return username, password.strip("\0")
