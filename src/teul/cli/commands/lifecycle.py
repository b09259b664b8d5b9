"""The verbs that take containers and print their names: stop, kill, restart, rm, pause, unpause, wait; and rename and top."""

from __future__ import annotations

from teul.cli.command import Command
from teul.cli.errors import CliError
from teul.cli.options.parser import BOOL, Option
from teul.client.api import container_path
from teul.client.errors import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from teul.cli.context import Context
    from teul.cli.options.parser import Options

_SIGNAL = Option("signal", "string", "Signal to send to the container", short="s")
_TIMEOUT = Option("timeout", "int", "Seconds to wait before killing the container", short="t")
_TIME = Option("time", "int", "Seconds to wait before killing the container", target="timeout")


def for_each(
    context: Context, references: list[str], work: Callable[[str], str], *, tolerate: Callable[[ApiError], bool] | None = None
) -> int:
    """Do `work` for every reference and print what it returns; a failure does not keep the other references back.

    Returns 1 when any failed and `tolerate` does not say that this does not matter.
    """
    status = 0
    for reference in references:
        try:
            context.streams.print(work(reference))
        except ApiError as error:
            if tolerate is not None and tolerate(error):
                continue
            context.streams.print_error(f"Error response from daemon: {error.message}")
            status = 1
    return status


def _post(context: Context, action: str, query: dict[str, Any] | None = None) -> Callable[[str], str]:
    def work(reference: str) -> str:
        context.client.post(container_path(reference, action), query)
        return reference

    return work


def stop(context: Context, options: Options, arguments: list[str]) -> int:
    return for_each(context, arguments, _post(context, "stop", _stop_query(options)))


def restart(context: Context, options: Options, arguments: list[str]) -> int:
    return for_each(context, arguments, _post(context, "restart", _stop_query(options)))


def _stop_query(options: Options) -> dict[str, Any]:
    return {"signal": options.text("signal") or None, "t": options.number("timeout") if options.given("timeout") else None}


def kill(context: Context, options: Options, arguments: list[str]) -> int:
    return for_each(context, arguments, _post(context, "kill", {"signal": options.text("signal") or None}))


def pause(context: Context, _options: Options, arguments: list[str]) -> int:
    return for_each(context, arguments, _post(context, "pause"))


def unpause(context: Context, _options: Options, arguments: list[str]) -> int:
    return for_each(context, arguments, _post(context, "unpause"))


def remove(context: Context, options: Options, arguments: list[str]) -> int:
    query = {"v": options.flag("volumes"), "link": options.flag("link"), "force": options.flag("force")}

    def work(reference: str) -> str:
        name = reference.strip("/")
        if not name:
            raise CliError("container name cannot be empty")
        context.client.delete(container_path(name), query)
        return reference

    forced = options.flag("force")

    def tolerate(error: ApiError) -> bool:
        if forced and error.is_not_found:
            context.streams.print_error(f"Error response from daemon: {error.message}")
        return forced and error.is_not_found

    return for_each(context, arguments, work, tolerate=tolerate)


def wait(context: Context, _options: Options, arguments: list[str]) -> int:
    def work(reference: str) -> str:
        return str(context.client.post(container_path(reference, "wait"), alone=True)["StatusCode"])

    return for_each(context, arguments, work)


def rename(context: Context, _options: Options, arguments: list[str]) -> int:
    old, new = (argument.strip() for argument in arguments)
    if not old or not new:
        raise CliError("Error: Neither old nor new names may be empty")
    try:
        context.client.post(container_path(old, "rename"), {"name": new})
    except ApiError as error:
        raise CliError(f"Error response from daemon: {error.message}\nError: failed to rename container named {old}") from None
    return 0


def top(context: Context, _options: Options, arguments: list[str]) -> int:
    from teul.cli.format.tabwriter import TabWriter

    listing = context.client.get(container_path(arguments[0], "top"), {"ps_args": " ".join(arguments[1:]) or None})
    rows = [listing["Titles"], *(listing["Processes"] or [])]
    writer = TabWriter(minimum=20, padding=3)
    context.streams.write(writer.render("".join("\t".join(row) + "\n" for row in rows)))
    return 0


STOP = Command(
    "stop [OPTIONS] CONTAINER [CONTAINER...]",
    "Stop one or more running containers",
    stop,
    options=(_SIGNAL, _TIMEOUT, _TIME),
    minimum=1,
    aliases="container stop, stop",
)
RESTART = Command(
    "restart [OPTIONS] CONTAINER [CONTAINER...]",
    "Restart one or more containers",
    restart,
    options=(_SIGNAL, _TIMEOUT, _TIME),
    minimum=1,
    aliases="container restart, restart",
)
KILL = Command(
    "kill [OPTIONS] CONTAINER [CONTAINER...]",
    "Kill one or more running containers",
    kill,
    options=(_SIGNAL,),
    minimum=1,
    aliases="container kill, kill",
)
PAUSE = Command(
    "pause CONTAINER [CONTAINER...]",
    "Pause all processes within one or more containers",
    pause,
    minimum=1,
    aliases="container pause, pause",
)
UNPAUSE = Command(
    "unpause CONTAINER [CONTAINER...]",
    "Unpause all processes within one or more containers",
    unpause,
    minimum=1,
    aliases="container unpause, unpause",
)
REMOVE = Command(
    "rm [OPTIONS] CONTAINER [CONTAINER...]",
    "Remove one or more containers",
    remove,
    options=(
        Option("force", BOOL, "Force the removal of a running container (uses SIGKILL)", short="f"),
        Option("link", BOOL, "Remove the specified link", short="l"),
        Option("volumes", BOOL, "Remove anonymous volumes associated with the container", short="v"),
    ),
    minimum=1,
    aliases="container rm, container remove, rm",
)
WAIT = Command(
    "wait CONTAINER [CONTAINER...]",
    "Block until one or more containers stop, then print their exit codes",
    wait,
    minimum=1,
    aliases="container wait, wait",
)
RENAME = Command("rename CONTAINER NEW_NAME", "Rename a container", rename, minimum=2, maximum=2, aliases="container rename, rename")
TOP = Command(
    "top CONTAINER [ps OPTIONS]",
    "Display the running processes of a container",
    top,
    minimum=1,
    interspersed=False,
    aliases="container top, top",
)
