"""`teul exec`."""

from __future__ import annotations

from teul.cli.command import Command
from teul.cli.errors import CliError
from teul.cli.options.keyvalues import parse_environment
from teul.cli.options.parser import BOOL, Option
from teul.client.api import container_path
from teul.client.terminal import window_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from teul.cli.context import Context
    from teul.cli.options.parser import Options


def run_exec(context: Context, options: Options, arguments: list[str]) -> int:
    tty, detach = options.flag("tty"), options.flag("detach")
    stdin = options.flag("interactive") and not detach
    try:
        variables = parse_environment(options.texts("env"), options.texts("env-file"), context.environment)
    except ValueError as error:
        raise CliError(str(error)) from None
    detach_keys = ""
    if tty and not detach:
        from teul.cli.session import check_terminal, chosen_detach_keys

        detach_keys = chosen_detach_keys(context, options.text("detach-keys"))
        check_terminal(context, stdin=stdin, tty=tty)
    config: dict[str, Any] = {
        "User": options.text("user"),
        "Privileged": options.flag("privileged"),
        "Tty": tty,
        "AttachStdin": stdin,
        "AttachStdout": not detach,
        "AttachStderr": not detach,
        "Detach": detach,
        "DetachKeys": detach_keys,
        "Env": variables or None,
        "WorkingDir": options.text("workdir"),
        "Cmd": arguments[1:],
    }
    start: dict[str, Any] = {"Detach": detach, "Tty": tty}
    if tty and context.streams.stdout_is_terminal:
        config["ConsoleSize"] = start["ConsoleSize"] = list(window_size(context.streams.stdout_fd))
    exec_id = context.client.post(container_path(arguments[0], "exec"), None, config)["Id"]
    if detach:
        context.client.post(f"/exec/{exec_id}/start", None, start)
        return 0
    _stream(context, exec_id, config, start)
    return int(context.client.get(f"/exec/{exec_id}/json")["ExitCode"])


def _stream(context: Context, exec_id: str, config: dict[str, Any], start: dict[str, Any]) -> None:
    from teul.cli.session import Session, SignalForwarder

    # docker: signals to exec's client are not passed on to the process; only the window's size is.
    with (
        SignalForwarder(context, "", forward=False) as signals,
        Session(
            context,
            context.client.hijack(f"/exec/{exec_id}/start", None, start),
            tty=config["Tty"],
            stdin=config["AttachStdin"],
            stdout=True,
            stderr=True,
            resize_path=f"/exec/{exec_id}/resize",
            detach_keys=config["DetachKeys"],
            signals=signals,
        ) as session,
    ):
        if not session.run():
            raise CliError("read escape sequence")


EXEC = Command(
    "exec [OPTIONS] CONTAINER COMMAND [ARG...]",
    "Execute a command in a running container",
    run_exec,
    options=(
        Option("detach", BOOL, "Detached mode: run command in the background", short="d"),
        Option("detach-keys", "string", "Override the key sequence for detaching a container"),
        Option("env", "list", "Set environment variables", short="e"),
        Option("env-file", "list", "Read in a file of environment variables"),
        Option("interactive", BOOL, "Keep STDIN open even if not attached", short="i"),
        Option("privileged", BOOL, "Give extended privileges to the command"),
        Option("tty", BOOL, "Allocate a pseudo-TTY", short="t"),
        Option("user", "string", 'Username or UID (format: "<name|uid>[:<group|gid>]")', short="u"),
        Option("workdir", "string", "Working directory inside the container", short="w"),
    ),
    minimum=2,
    interspersed=False,
    aliases="container exec, exec",
)
