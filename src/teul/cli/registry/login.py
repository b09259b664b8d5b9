"""Asking the user who they are, and the engine whether the registry believes it."""

from __future__ import annotations

from teul.cli.errors import CliError
from teul.cli.format.note import print_note
from teul.cli.format.prompt import read_line
from teul.cli.registry.credentials import INDEX_SERVER, Credentials
from teul.cli.registry.keychain import Keychain
from teul.cli.registry.password_program import runner
from teul.client.terminal import HiddenInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from teul.cli.context import Context

# docker goes on to say where an account is to be had.
_REGISTER = "Log in with your Docker ID or email address to push and pull images from Docker Hub."
_USE_A_TOKEN = (
    "You can log in with your password or a Personal Access Token (PAT). Using a limited-scope PAT grants better security and is required "
    "for organizations using SSO. Learn more at https://docs.docker.com/go/access-tokens/"
)


def keychain(context: Context) -> Keychain:
    """The user's. Reads `config.json` anew each time: a login may have changed it."""
    from teul.cli.endpoint import load_config

    return Keychain(context.config_directory, lambda: load_config(context.config_directory), runner(context.environment))


def authenticate(context: Context, credentials: Credentials) -> dict[str, Any]:
    """What the registry says to `credentials`: its `Status`, and perhaps an `IdentityToken`. Raises `ApiError`."""
    answer = context.client.post("/auth", None, credentials.document())
    return answer if isinstance(answer, dict) else {}


def ask(context: Context, server: str, *, username: str = "", password: str = "", default_username: str = "") -> Credentials:
    """Complete credentials for `server`, by asking for what is not given. Raises `CliError` for an empty answer."""
    username = username.strip() or _ask_username(context, server, default_username.strip())
    password = password.strip() or _ask_password(context, server)
    return Credentials(username=username, password=password, server=server)


def _ask_username(context: Context, server: str, default: str) -> str:
    streams = context.streams
    if server == INDEX_SERVER:
        streams.print(_REGISTER)
        streams.print(_USE_A_TOKEN + "\n")
    streams.write(f"Username ({default}): " if default else "Username: ")
    username = read_line(streams.stdin_fd).strip() or default
    if not username:
        raise CliError("Error: Non-null Username Required")
    return username


def _ask_password(context: Context, server: str) -> str:
    streams = context.streams
    if not streams.stdin_is_terminal:
        raise CliError("inappropriate ioctl for device")  # docker: what hiding the input ends in
    with HiddenInput(streams.stdin_fd):
        if server == INDEX_SERVER:
            print_note(
                streams.write_error,
                "A Personal Access Token (PAT) can be used instead.\nTo create a PAT, visit https://app.docker.com/settings\n\n",
                fancy=streams.stderr_is_terminal,
            )
        streams.write("Password: ")
        password = read_line(streams.stdin_fd).strip()
    streams.print("")
    if not password:
        raise CliError("Error: Password Required")
    return password
