"""`teul start`, alone or with the container's streams."""

from __future__ import annotations

from teul.cli.command import Command
from teul.cli.errors import CliError
from teul.cli.options.parser import BOOL, Option
from teul.client.api import container_path
from teul.client.errors import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from teul.cli.context import Context
    from teul.cli.options.parser import Options


def start(context: Context, options: Options, arguments: list[str]) -> int:
    if options.flag("attach") or options.flag("interactive"):
        if len(arguments) > 1:
            raise CliError("you cannot start and attach multiple containers at once")
        return _start_attached(context, options, arguments[0])
    failed: list[str] = []
    for reference in arguments:
        try:
            context.client.post(container_path(reference, "start"))
        except ApiError as error:
            context.streams.print_error(f"Error response from daemon: {error.message}")
            failed.append(reference)
            continue
        context.streams.print(reference)
    if failed:
        raise CliError(f"Error: failed to start containers: {', '.join(failed)}")
    return 0


def _start_attached(context: Context, options: Options, reference: str) -> int:
    from teul.cli.session import Session, SignalForwarder, begin_wait, chosen_detach_keys, exit_status

    detach_keys = chosen_detach_keys(context, options.text("detach-keys"))
    container = context.client.get(container_path(reference, "json"))
    container_id, config = container["Id"], container["Config"]
    removed = bool(container["HostConfig"].get("AutoRemove"))
    tty = config["Tty"]
    stdin = options.flag("interactive") and config["OpenStdin"]
    query = {"stream": True, "stdin": stdin, "stdout": True, "stderr": True, "detachKeys": detach_keys or None}
    with (
        SignalForwarder(context, container_id, forward=not tty) as signals,
        Session(
            context,
            context.client.hijack(container_path(container_id, "attach"), query),
            tty=tty,
            stdin=stdin,
            stdout=True,
            stderr=True,
            resize_path=container_path(container_id, "resize"),
            detach_keys=detach_keys,
            signals=signals,
        ) as session,
        begin_wait(context, container_id, removed=removed) as waiting,
    ):
        try:
            context.client.post(container_path(container_id, "start"))
        except ApiError:
            if removed:
                waiting.read()  # until the engine has removed the container that did not start
            raise
        return exit_status(context, waiting) if session.run() else 0


START = Command(
    "start [OPTIONS] CONTAINER [CONTAINER...]",
    "Start one or more stopped containers",
    start,
    options=(
        Option("attach", BOOL, "Attach STDOUT/STDERR and forward signals", short="a"),
        Option("detach-keys", "string", "Override the key sequence for detaching a container"),
        Option("interactive", BOOL, "Attach container's STDIN", short="i"),
    ),
    minimum=1,
    aliases="container start, start",
)
