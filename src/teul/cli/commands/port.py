"""`teul port`: where a container's ports are published; and, unlike docker's, publish more of them or no longer some, while it runs."""

from __future__ import annotations

from teul.cli.command import Command
from teul.cli.creation.ports import parse_publish
from teul.cli.errors import CliError
from teul.client.api import container_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from teul.cli.context import Context
    from teul.cli.options.parser import Options

_CHANGES = {"add": "Add", "rm": "Remove"}


def port(context: Context, _options: Options, arguments: list[str]) -> int:
    if arguments[0] in _CHANGES and len(arguments) > 2:
        return _change(context, _CHANGES[arguments[0]], arguments[1], arguments[2:])
    if len(arguments) > 2:
        raise CliError('"teul port" takes a container and one of its ports; to change what is published: port add|rm CONTAINER PORT...')
    found: dict[str, Any] = context.client.get(container_path(arguments[0], "json"))["NetworkSettings"]["Ports"] or {}
    if len(arguments) == 2:
        number, slash, protocol = arguments[1].partition("/")
        wanted = f"{number}/{protocol if slash else 'tcp'}"
        if not found.get(wanted):
            raise CliError(f"no public port '{wanted}' published for {arguments[0]}")
        lines = [_place(place) for place in found[wanted]]
    else:
        ordered = sorted(found.items(), key=lambda item: (int(item[0].partition("/")[0]), item[0]))
        lines = [f"{name} -> {_place(place)}" for name, places in ordered for place in places or ()]
    for line in lines:
        context.streams.print(line)
    return 0


def _change(context: Context, verb: str, container: str, specifications: list[str]) -> int:
    try:
        bindings = parse_publish(specifications)
    except ValueError as error:
        raise CliError(str(error)) from None
    context.client.post(f"/teul{container_path(container, 'ports')}", body={verb: bindings})
    context.streams.print(container)
    return 0


def _place(place: dict[str, str]) -> str:
    address = place["HostIp"]
    return f"[{address}]:{place['HostPort']}" if ":" in address else f"{address}:{place['HostPort']}"


PORT = Command(
    "port CONTAINER [PRIVATE_PORT[/PROTO]]",
    "List port mappings or a specific mapping for the container",
    port,
    minimum=1,
    aliases="container port, port",
)
