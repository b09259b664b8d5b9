"""`teul mount`: what a container has mounted, and changing it while it runs. docker has none of it."""

from __future__ import annotations

from teul.cli.command import Command
from teul.cli.creation.mounts import parse_mount, parse_volumes
from teul.cli.errors import CliError
from teul.cli.format.tabwriter import TabWriter
from teul.cli.options.parser import BOOL, Option
from teul.client.api import container_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from teul.cli.context import Context
    from teul.cli.options.parser import Options


def add(context: Context, options: Options, arguments: list[str]) -> int:
    container, *specifications = arguments
    try:
        binds, places = parse_volumes(specifications)
        mounts = [parse_mount(text) for text in options.texts("mount")]
    except ValueError as error:
        raise CliError(str(error)) from None
    if places:
        raise CliError(f"{next(iter(places))} says where, and not what: SOURCE:{next(iter(places))}")
    if not binds and not mounts:
        raise CliError('"teul mount add" takes a container and what is to be mounted: SOURCE:PLACE[:MODE], or --mount')
    _change(context, container, {"Binds": binds, "Mounts": mounts})
    return 0


def remove(context: Context, options: Options, arguments: list[str]) -> int:
    container, *places = arguments
    _change(context, container, {"Remove": places, "Force": options.flag("force")})
    return 0


def list_(context: Context, _options: Options, arguments: list[str]) -> int:
    found: list[dict[str, Any]] = context.client.get(container_path(arguments[0], "json"))["Mounts"]
    rows = [
        (mount["Destination"], mount.get("Type", ""), mount.get("Name") or mount["Source"], "rw" if mount["RW"] else "ro")
        for mount in sorted(found, key=lambda mount: str(mount["Destination"]))
    ]
    text = "\n".join("\t".join(row) for row in [("PLACE", "TYPE", "SOURCE", "ACCESS"), *rows])
    context.streams.print(TabWriter(minimum=10, padding=3).render(text))
    return 0


def _change(context: Context, container: str, changes: dict[str, Any]) -> None:
    context.client.post(f"/teul{container_path(container, 'mounts')}", body=changes)
    context.streams.print(container)


ADD = Command(
    "add [OPTIONS] CONTAINER [SOURCE:PLACE[:MODE]...]",
    "Mount more in a container, also while it runs",
    add,
    options=(Option("mount", "mount", "Attach a filesystem mount to the container"),),
    minimum=1,
)
LIST = Command("ls CONTAINER", "List mounts of a container", list_, minimum=1, maximum=1)
REMOVE = Command(
    "rm [OPTIONS] CONTAINER PLACE [PLACE...]",
    "Take mounts of a container away, also while it runs",
    remove,
    options=(Option("force", BOOL, "Take away what is in use as well", short="f"),),
    minimum=2,
)
