"""The programs that keep a user's passwords: `docker-credential-NAME get|store|erase`, which read stdin and write stdout.

docker: docker-credential-helpers/client. A program that fails says why on stdout.
"""

from __future__ import annotations

from teul.cli.errors import CliError
from teul.cli.registry.credentials import TOKEN_USER, Credentials
from teul.wire.jsontext import InvalidJson, decode, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    # The program's name, what it is to do, and its input, to its exit status and output. Raises `OSError` when it cannot be run.
    RunHelper = Callable[[str, str, bytes], tuple[int, bytes]]

PREFIX = "docker-credential-"
_NOT_FOUND = "credentials not found in native keychain"
_KNOWN = ("no credentials server URL", "no credentials username")


class HelperFailed(CliError):
    """A credential helper could not be run, or refused."""


def runner(environment: Mapping[str, str]) -> RunHelper:
    """Runs helpers with the user's environment; what they say on stderr the user sees."""

    def run(program: str, action: str, data: bytes) -> tuple[int, bytes]:
        import shutil
        import subprocess

        path = shutil.which(program, path=environment.get("PATH", ""))
        if path is None:
            raise FileNotFoundError(2, "executable file not found in $PATH")
        done = subprocess.run([path, action], input=data, stdout=subprocess.PIPE, env=dict(environment), check=False)
        return done.returncode, done.stdout

    return run


class Helper:
    """The helper called `name` in `config.json`."""

    def __init__(self, name: str, run: RunHelper) -> None:
        self._program = PREFIX + name
        self._run = run

    def get(self, server: str) -> Credentials | None:
        """What the helper knows for `server`; None when it knows nothing. Raises `HelperFailed`."""
        status, text = self._call("get", server.encode("utf-8", "surrogateescape"), "getting")
        if status and text == _NOT_FOUND:
            return None
        self._check(status, text, "getting")
        try:
            answer = decode(text)
            username, secret = str(answer.get("Username") or ""), str(answer.get("Secret") or "")
        except (InvalidJson, AttributeError) as error:
            raise HelperFailed(f"error getting credentials - {self._program} answers no credentials: {error}") from None
        if username == TOKEN_USER:
            return Credentials(server=server, identity_token=secret)
        return Credentials(server=server, username=username, password=secret)

    def store(self, credentials: Credentials) -> None:
        """Hand `credentials` over. Raises `HelperFailed`."""
        token = credentials.identity_token
        document = {
            "ServerURL": credentials.server,
            "Username": TOKEN_USER if token else credentials.username,
            "Secret": token or credentials.password,
        }
        self._check(*self._call("store", encode(document) + b"\n", "storing"), "storing")

    def erase(self, server: str) -> None:
        """Make the helper forget `server`. Raises `HelperFailed`."""
        self._check(*self._call("erase", server.encode("utf-8", "surrogateescape"), "erasing"), "erasing")

    def _call(self, action: str, data: bytes, doing: str) -> tuple[int, str]:
        try:
            status, output = self._run(self._program, action, data)
        except OSError as error:
            why = f'exec: "{self._program}": {error.strerror}'
            raise HelperFailed(f"error {doing} credentials - err: {why}, out: ``") from None
        return status, output.decode("utf-8", "replace").strip()

    @staticmethod
    def _check(status: int, text: str, doing: str) -> None:
        if status:
            why = text if text in _KNOWN else f"exit status {status}" if status > 0 else f"signal: {-status}"
            raise HelperFailed(f"error {doing} credentials - err: {why}, out: `{text}`")
