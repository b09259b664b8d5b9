"""Where a user's credentials are kept: in `config.json` itself, or with the helpers that it names (`credsStore`, `credHelpers`)."""

from __future__ import annotations

import os
from dataclasses import replace

from teul.cli.errors import CliError
from teul.cli.files import reason, replacing
from teul.cli.registry.credentials import Credentials, from_config, host_name, to_config
from teul.cli.registry.password_program import PREFIX, Helper
from teul.wire.jsontext import render

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from teul.cli.registry.password_program import RunHelper

_STORE = "credsStore"


class Keychain:
    """The credentials in the directory `directory`. `load` reads its `config.json`; `run` runs helpers.

    Members of the file that this class does not know are kept. Another program that writes the file at the same time may win.
    """

    def __init__(self, directory: str, load: Callable[[], dict[str, Any]], run: RunHelper) -> None:
        self.path = os.path.join(directory, "config.json")
        self._load = load
        self._run = run

    def get(self, server: str) -> Credentials:
        """The credentials for `server`, or empty ones. Raises `CliError`, for a helper `HelperFailed`."""
        config = self._load()
        kept = self._find(config, server)
        helper = self._helper(config, server)
        if helper is None:
            return kept
        found = helper.get(server) or Credentials(server="")
        return replace(found, email=kept.email, registry_token=kept.registry_token)

    def store(self, credentials: Credentials, *, default_store: str = "") -> bool:
        """Keep `credentials`; tells whether a password stands in the file now that did not before.

        `default_store` is the helper to be chosen for a user who keeps no credentials yet. Raises `CliError`, for a helper `HelperFailed`.
        """
        config = self._load()
        if default_store and not any(config.get(name) for name in ("auths", "credHelpers", _STORE)):
            config[_STORE] = default_store
        helper = self._helper(config, credentials.server)
        if helper is not None:
            helper.store(credentials)
            # docker: the file holds no secret then, but tells which servers there are credentials for.
            credentials = replace(credentials, username="", password="", identity_token="")
        auths = self._auths(config)
        if auths.get(credentials.server) == to_config(credentials):
            return False
        auths[credentials.server] = to_config(credentials)
        self._save(config)
        return bool(credentials.password)

    def erase(self, server: str) -> None:
        """Forget `server`, which may be unknown. Raises `CliError`, for a helper `HelperFailed`."""
        config = self._load()
        helper = self._helper(config, server)
        if helper is not None:
            helper.erase(server)
        if self._auths(config).pop(server, None) is not None:
            self._save(config)

    def _find(self, config: dict[str, Any], server: str) -> Credentials:
        auths = self._auths(config)
        key = server if server in auths else next((key for key in auths if host_name(key) == server), None)
        if key is None:
            return Credentials()
        try:
            return from_config(key, auths[key])
        except ValueError as error:
            raise CliError(f"error parsing config file ({self.path}): {error}") from None

    def _auths(self, config: dict[str, Any]) -> dict[str, Any]:
        auths = config.setdefault("auths", {})
        if not isinstance(auths, dict) or not all(isinstance(entry, dict) for entry in auths.values()):
            raise CliError(f'error parsing config file ({self.path}): "auths" is no object of objects')
        return auths

    def _helper(self, config: dict[str, Any], server: str) -> Helper | None:
        name = (config.get("credHelpers") or {}).get(server) or config.get(_STORE)
        return Helper(str(name), self._run) if name else None

    def _save(self, config: dict[str, Any]) -> None:
        """Write the file, whole, for nobody but its owner. docker: a link in its place stays, and so does the owner of the old file."""
        path = os.path.realpath(self.path)
        if os.path.exists(path) and not os.access(path, os.R_OK):
            raise CliError(f"open {path}: permission denied")  # it was read as empty, and must not become what was read
        try:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            with replacing(path) as fd:
                data = render(config, indent="\t").encode("utf-8", "surrogateescape")
                while data:
                    data = data[os.write(fd, data) :]
                _keep_owner(path, fd)
        except OSError as error:
            raise CliError(f"open {path}: {reason(error)}") from None


def _keep_owner(path: str, fd: int) -> None:
    """Give the new file `fd` the owner of the one at `path`: root may log in for a user, who must be able to read it."""
    try:
        old = os.stat(path)
    except FileNotFoundError:
        return
    if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
        os.fchown(fd, old.st_uid, old.st_gid)


def default_store(environment: Mapping[str, str]) -> str:
    """The helper that docker chooses on Linux for a user who has chosen none, if it is installed; or nothing."""
    import shutil

    path = environment.get("PATH", "")
    name = "pass" if shutil.which("pass", path=path) else "secretservice"
    return name if shutil.which(PREFIX + name, path=path) else ""
