"""`teul run`: create, attach, wait, start, stream, and the exit code of the container.

The order is docker's (cli/command/container/run.go): attach and wait are in place before the start, so that no output and no end is missed.
"""

from __future__ import annotations

from teul.cli.command import Command
from teul.cli.creation.config import build_config
from teul.cli.creation.create import check_pull_option, create_container, help_hint
from teul.cli.creation.options import RUN_OPTIONS
from teul.cli.errors import CliError, UsageError
from teul.client.api import container_path
from teul.client.errors import ApiError, ConnectionFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from teul.cli.context import Context
    from teul.cli.options.parser import Options
    from teul.client.connection import Response

_NOT_FOUND = ("executable file not found", "no such file or directory", "system cannot find the file specified")
_CANNOT_INVOKE = ("permission denied", "is a directory")


def status_of_error(message: str) -> int:
    """docker's exit code for an engine's error: 127 when the command is missing, 126 when it cannot be run, else 125."""
    if any(text in message for text in _NOT_FOUND):
        return 127
    if any(text in message for text in _CANNOT_INVOKE):
        return 126
    return 125


def engine_error(context: Context, error: ApiError | ConnectionFailed | CliError) -> CliError:
    """An error between create and start, worded and numbered as docker does."""
    message = f"Error response from daemon: {error.message}" if isinstance(error, ApiError) else error.message
    return CliError(help_hint(context, message, "run"), status_of_error(message))


def run(context: Context, options: Options, arguments: list[str]) -> int:
    try:
        check_pull_option(options.text("pull"))
        body = build_config(options, arguments, context.environment)
    except ValueError as error:
        raise CliError(help_hint(context, str(error), "run"), 125) from None
    except UsageError as error:
        usage = f"Usage:  {context.program} {RUN.usage}\n\nRun '{context.program} run --help' for more information"
        raise CliError(f"{error.message}\n\n{usage}", 125) from None
    if options.flag("detach"):
        if options.texts("attach"):
            raise CliError(f"{context.program}: conflicting options: cannot specify both --attach and --detach")
        body |= {"AttachStdin": False, "AttachStdout": False, "AttachStderr": False, "StdinOnce": False}
        return _run_detached(context, options, body)
    return _run_attached(context, options, body)


def _create(context: Context, options: Options, body: dict[str, Any]) -> str:
    try:
        return create_container(context, options, body)
    except (ApiError, ConnectionFailed, CliError) as error:
        raise engine_error(context, error) from error


def _run_detached(context: Context, options: Options, body: dict[str, Any]) -> int:
    container_id = _create(context, options, body)
    context.streams.print(container_id)
    try:
        context.client.post(container_path(container_id, "start"))
    except (ApiError, ConnectionFailed) as error:
        raise engine_error(context, error) from error
    return 0


def _run_attached(context: Context, options: Options, body: dict[str, Any]) -> int:
    from teul.cli.session import Session, SignalForwarder, begin_wait, check_terminal, chosen_detach_keys, exit_status

    check_terminal(context, stdin=body["AttachStdin"], tty=body["Tty"])
    detach_keys = chosen_detach_keys(context, options.text("detach-keys")) if body["Tty"] else ""
    container_id = _create(context, options, body)
    query = {
        "stream": True,
        "stdin": body["AttachStdin"],
        "stdout": body["AttachStdout"],
        "stderr": body["AttachStderr"],
        "detachKeys": detach_keys or None,
    }
    with (
        SignalForwarder(context, container_id, forward=options.flag("sig-proxy")) as signals,
        Session(
            context,
            context.client.hijack(container_path(container_id, "attach"), query),
            tty=body["Tty"],
            stdin=body["AttachStdin"],
            stdout=body["AttachStdout"],
            stderr=body["AttachStderr"],
            resize_path=container_path(container_id, "resize"),
            detach_keys=detach_keys,
            signals=signals,
        ) as session,
        begin_wait(context, container_id, removed=options.flag("rm")) as waiting,
    ):
        _start(context, container_id, waiting, removed=options.flag("rm"))
        return exit_status(context, waiting) if session.run() else 0


def _start(context: Context, container_id: str, waiting: Response, *, removed: bool) -> None:
    try:
        context.client.post(container_path(container_id, "start"))
    except (ApiError, ConnectionFailed) as error:
        if removed and isinstance(error, ApiError):
            waiting.read()  # until the engine has removed the container that did not start
        raise engine_error(context, error) from error


RUN = Command(
    "run [OPTIONS] IMAGE [COMMAND] [ARG...]",
    "Create and run a new container from an image",
    run,
    options=RUN_OPTIONS,
    minimum=1,
    interspersed=False,
    aliases="container run, run",
)
