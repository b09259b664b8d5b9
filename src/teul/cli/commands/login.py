"""`teul login` and `teul logout`."""

from __future__ import annotations

from teul.cli.command import Command
from teul.cli.errors import CliError
from teul.cli.format.note import print_note
from teul.cli.options.parser import BOOL, Option
from teul.cli.registry.credentials import INDEX_SERVER, Credentials, host_name
from teul.cli.registry.keychain import default_store
from teul.cli.registry.login import ask, authenticate, keychain
from teul.cli.registry.password_program import HelperFailed
from teul.client.errors import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from teul.cli.context import Context
    from teul.cli.options.parser import Options

_HUB = "docker.io"
_UNENCRYPTED = """
WARNING! Your credentials are stored unencrypted in '{}'.
Configure a credential helper to remove this warning. See
https://docs.docker.com/go/credential-store/
"""


def login(context: Context, options: Options, arguments: list[str]) -> int:
    _check_options(options)
    username, password = options.text("username"), options.text("password")
    if password:
        context.streams.print_error("WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
    if options.flag("password-stdin"):
        with open(context.streams.stdin_fd, "rb", closefd=False) as file:
            password = file.read().decode("utf-8", "surrogateescape").removesuffix("\n").removesuffix("\r")
    server = INDEX_SERVER if not arguments or arguments[0] in ("", _HUB) else arguments[0]
    key = server if server == INDEX_SERVER else host_name(server)
    status = None
    known = Credentials()
    if not username and not password:
        try:
            known = keychain(context).get(key)
        except HelperFailed as error:
            context.streams.print_error(f"WARNING: {error.message}")
        if known.username and known.password:
            status = _login_again(context, Credentials(username=known.username, password=known.password, server=key, email=known.email))
    if status is None:
        if not (username and password) and not context.streams.stdin_is_terminal:
            raise CliError("Error: Cannot perform an interactive login from a non TTY device")
        credentials = ask(context, key, username=username, password=password, default_username=known.username)
        status = _login(context, credentials)
    if status:
        context.streams.print(status)
    return 0


def _check_options(options: Options) -> None:
    """docker's refusals, in docker's order."""
    if options.given("password-stdin"):
        if options.given("password"):
            raise CliError("conflicting options: cannot specify both --password and --password-stdin")
        if not options.given("username"):
            raise CliError("the --password-stdin option requires --username to be set")
    for name in ("username", "password"):
        if options.given(name) and not options.text(name):
            raise CliError(f"{name} is empty")


def _login_again(context: Context, credentials: Credentials) -> str | None:
    """Log in with what is known. None when that does not do any more."""
    streams = context.streams
    streams.print_error(f"Authenticating with existing credentials... [Username: {credentials.username}]")
    print_note(
        streams.write_error,
        f"To login with a different account, run '{context.program} logout' followed by '{context.program} login'",
        fancy=streams.stderr_is_terminal,
    )
    streams.write_error("\n\n")
    try:
        return _login(context, credentials)
    except ApiError as error:
        if error.status == 401:
            streams.print_error("Stored credentials invalid or expired")
        else:
            streams.print_error(f"Login did not succeed, error: Error response from daemon: {error.message}")
        return None


def _login(context: Context, credentials: Credentials) -> str:
    """Let the registry judge `credentials`, keep them, and return what it said. Raises `ApiError`."""
    answer = authenticate(context, credentials)
    chain = keychain(context)
    try:
        exposed = chain.store(
            credentials.with_token(str(answer.get("IdentityToken") or "")), default_store=default_store(context.environment)
        )
    except CliError as error:
        raise CliError(f"Error saving credentials: {error.message}") from None
    if exposed:
        context.streams.print_error(_UNENCRYPTED.format(chain.path))
    return str(answer.get("Status") or "")


def logout(context: Context, _options: Options, arguments: list[str]) -> int:
    servers, shown = [INDEX_SERVER], INDEX_SERVER
    if arguments and arguments[0]:
        shown = host_name(arguments[0])
        # docker: older versions kept the credentials under any of these.
        servers = [arguments[0], shown, f"http://{shown}", f"https://{shown}"]
    context.streams.print(f"Removing login credentials for {shown}")
    chain = keychain(context)
    failures: dict[str, str] = {}
    erased = 0
    for server in servers:
        try:
            chain.erase(server)
            erased += 1
        except CliError as error:
            failures.setdefault(server, error.message)
    if not erased:
        context.streams.print_error("WARNING: could not erase credentials:")
        for server, why in failures.items():
            context.streams.print_error(f"{server}: {why}")
    return 0


LOGIN = Command(
    "login [OPTIONS] [SERVER]",
    "Authenticate to a registry",
    login,
    description="Authenticate to a registry.\nDefaults to Docker Hub if no server is specified.",
    options=(
        Option("password", "string", "Password or Personal Access Token (PAT)", short="p"),
        Option("password-stdin", BOOL, "Take the Password or Personal Access Token (PAT) from stdin"),
        Option("username", "string", "Username", short="u"),
    ),
    maximum=1,
)
LOGOUT = Command(
    "logout [SERVER]",
    "Log out from a registry",
    logout,
    description="Log out from a registry.\nIf no server is specified, the default is defined by the daemon.",
    maximum=1,
)
