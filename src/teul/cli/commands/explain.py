"""`teul network explain`: how packets get to a container and from it, step by step, and where they are dropped; as text or as a picture."""

from __future__ import annotations

from teul.cli.command import Command
from teul.cli.errors import CliError
from teul.cli.options.parser import Option
from teul.client.api import container_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from teul.cli.context import Context
    from teul.cli.options.parser import Options

_FORMATS = ("text", "json", "svg")


def explain(context: Context, options: Options, arguments: list[str]) -> int:
    output = options.text("output")
    format_ = options.text("format") or ("svg" if output.endswith(".svg") else "json" if output.endswith(".json") else "text")
    if format_ not in _FORMATS:
        raise CliError(f"unknown format {format_!r}: one of {', '.join(_FORMATS)}")
    query = {"port": arguments[1] if len(arguments) > 1 else None, "from": options.text("from") or None}
    found = context.client.get(f"/teul{container_path(arguments[0], 'network/explanation')}", query)
    text = _render(found, format_, fancy=context.streams.stdout_is_terminal and not output)
    if not output or output == "-":
        context.streams.write(text)
        return 0
    from teul.cli.files import check_output, reason, replacing
    from teul.client.attach import write_all
    from teul.client.errors import OutputFailed

    try:
        check_output(output)
        with replacing(output, mode=0o644) as fd:
            write_all(fd, text.encode())
    except ValueError as error:
        raise CliError(str(error)) from None
    except OSError as error:
        raise CliError(f"cannot write {output}: {reason(error)}") from None
    except OutputFailed as error:
        raise CliError(f"cannot write {output}: {error.reason}") from None
    return 0


def _render(found: dict[str, Any], format_: str, *, fancy: bool) -> str:
    if format_ == "json":
        from teul.wire import jsontext

        return jsontext.encode(found).decode() + "\n"
    if format_ == "svg":
        from teul.cli.format.path_picture import draw

        return draw(found)
    from teul.cli.format.paths import render

    return render(found, fancy=fancy)


EXPLAIN = Command(
    "explain [OPTIONS] CONTAINER [PORT]",
    "Explain how packets get to a container and from it, and where they are dropped",
    explain,
    options=(
        Option("format", "string", "Output format (text, json, svg)", short="f"),
        Option("from", "string", "Explain what comes from this address"),
        Option("output", "string", "Write to a file, whose name may say the format, instead of STDOUT", short="o"),
    ),
    minimum=1,
    maximum=2,
    description=(
        "Explain how packets get to a container and from it, step by step, and where they are dropped.\n\n"
        "PORT is one of the host's that the container publishes, or one of the container's: 8080, 443/udp, 127.0.0.1:8080.\n"
        "No packet is sent: the host's rules, routes and sockets are read."
    ),
)
