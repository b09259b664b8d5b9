"""Another engine than the one that the command speaks to, reached as docker reaches one: a unix socket, TCP, or ssh.

Behind ssh stands `teul system dial-stdio`, which joins its input and output to the engine over there. Each connection is an ssh of its own.
"""

from __future__ import annotations

import re
import subprocess
from _socket import socketpair

from teul.cli.endpoint import choose_endpoint
from teul.cli.engine import opener
from teul.cli.errors import CliError
from teul.client.address import Address
from teul.client.api import Client
from teul.client.errors import ConnectionFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from teul.cli.context import Context
    from teul.client.connection import Socket

# security: neither the user nor the host can be taken for an option of ssh's.
_SSH = re.compile(r"ssh://(?:(\w[\w.-]*)@)?(\[[0-9a-fA-F:.]+\]|\w[\w.-]*)(?::([0-9]{1,5}))?/?", re.ASCII)
_END_SECONDS = 10


class SshAddress(Address):
    """An engine behind ssh; `user` is "" for ssh's own choice, `port` 0 as well."""

    __slots__ = ("user",)

    def __init__(self, *, user: str, host: str, port: int) -> None:
        super().__init__(host=host, port=port)
        self.user = user

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"ssh://{self.user}{'@' if self.user else ''}{host}{f':{self.port}' if self.port else ''}"

    @property
    def authority(self) -> str:
        """docker: over there it is a unix socket."""
        return "api.moby.localhost"


class Peer:
    """The engine at the address `text`; used within `with`, at whose end its connections end. Raises `CliError` for what is no address."""

    def __init__(self, context: Context, text: str) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []
        if text.startswith("ssh://"):
            address = parse_ssh(text)
            self.client = Client(address, opener=lambda: self._dial(address))
            return
        endpoint = choose_endpoint(context.environment, dict, host=text, config_directory=context.config_directory)
        self.client = Client(endpoint.address, opener=opener(endpoint, context.environment))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        self.client.close()
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _dial(self, address: SshAddress) -> Socket:
        ours, theirs = socketpair()
        try:
            self._processes.append(subprocess.Popen(ssh_command(address), stdin=theirs.fileno(), stdout=theirs.fileno()))
        except OSError as error:
            ours.close()
            raise ConnectionFailed(f"error during connect to {address}: ssh: {error.strerror}") from error
        finally:
            theirs.close()
        return ours


def parse_ssh(text: str) -> SshAddress:
    """`ssh://[user@]host[:port]`. Raises `CliError` for anything else, a password or a path among it."""
    match = _SSH.fullmatch(text)
    if match is None or int(match[3] or 0) > 65535:
        raise CliError(f"invalid address {text!r}: ssh://[USER@]HOST[:PORT] is meant")
    return SshAddress(user=match[1] or "", host=match[2].strip("[]"), port=int(match[3] or 0))


def ssh_command(address: SshAddress) -> list[str]:
    """docker: docker/cli cli/connhelper. No terminal, and a limit for the connection, which has none of its own."""
    user = ["-l", address.user] if address.user else []
    port = ["-p", str(address.port)] if address.port else []
    return ["ssh", "-o", "ConnectTimeout=30", "-T", *user, *port, "--", address.host, "teul", "system", "dial-stdio"]
