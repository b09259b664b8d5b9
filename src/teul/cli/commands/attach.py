"""`teul attach`."""

from __future__ import annotations

from teul.cli.command import Command
from teul.cli.errors import CliError
from teul.cli.options.parser import BOOL, Option
from teul.cli.session import Session, SignalForwarder, check_terminal, chosen_detach_keys, exit_status
from teul.client.api import container_path
from teul.client.errors import ClientError
from teul.client.terminal import window_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from teul.cli.context import Context
    from teul.cli.options.parser import Options


def _inspect_running(context: Context, reference: str) -> dict[str, Any]:
    container: dict[str, Any] = context.client.get(container_path(reference, "json"))
    state = container["State"]
    if not state["Running"]:
        raise CliError("You cannot attach to a stopped container, start it first")
    if state["Paused"]:
        raise CliError("You cannot attach to a paused container, unpause it first")
    if state["Restarting"]:
        raise CliError("You cannot attach to a restarting container, wait until it is running")
    return container


def attach(context: Context, options: Options, arguments: list[str]) -> int:
    detach_keys = chosen_detach_keys(context, options.text("detach-keys"))
    container = _inspect_running(context, arguments[0])
    container_id, config = container["Id"], container["Config"]
    tty = config["Tty"]
    check_terminal(context, stdin=not options.flag("no-stdin"), tty=tty)
    stdin = not options.flag("no-stdin") and config["OpenStdin"]
    query = {"stream": True, "stdin": stdin, "stdout": True, "stderr": True, "detachKeys": detach_keys or None}
    resize_path = container_path(container_id, "resize")
    with (
        SignalForwarder(context, container_id, forward=options.flag("sig-proxy") and not tty) as signals,
        context.client.stream("POST", container_path(container_id, "wait"), alone=True) as waiting,
        Session(
            context,
            context.client.hijack(container_path(container_id, "attach"), query),
            tty=tty,
            stdin=stdin,
            stdout=True,
            stderr=True,
            resize_path=resize_path,
            detach_keys=detach_keys,
            signals=signals,
        ) as session,
    ):
        # The container may have ended since it was inspected; the stream of an ended container would stay silent for ever.
        _inspect_running(context, container_id)
        if tty and context.streams.stdout_is_terminal:
            _redraw(context, resize_path)
        if not session.run():
            raise CliError("read escape sequence")
        return exit_status(context, waiting)


def _redraw(context: Context, resize_path: str) -> None:
    """Set another size first: only a change makes the program inside show its prompt again."""
    rows, columns = window_size(context.streams.stdout_fd)
    try:
        context.client.post(resize_path, {"h": rows + 1, "w": columns + 1})
    except ClientError as error:
        if context.debug:
            context.streams.print_error(f"Error resize: {error}")


ATTACH = Command(
    "attach [OPTIONS] CONTAINER",
    "Attach local standard input, output, and error streams to a running container",
    attach,
    options=(
        Option("detach-keys", "string", "Override the key sequence for detaching a container"),
        Option("no-stdin", BOOL, "Do not attach STDIN"),
        Option("sig-proxy", BOOL, "Proxy all received signals to the process", default=True),
    ),
    minimum=1,
    maximum=1,
    aliases="container attach, attach",
)
