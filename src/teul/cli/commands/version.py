"""`teul version`."""

from __future__ import annotations

import os
import sys
from time import strftime

from teul import __version__
from teul.cli.command import Command
from teul.cli.errors import CliError
from teul.cli.format.listing import INSPECT_FORMAT_HELP
from teul.cli.format.tabwriter import TabWriter
from teul.cli.options.parser import Option
from teul.client.errors import ApiError, ConnectionFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from teul.cli.context import Context
    from teul.cli.options.parser import Options

# The newest API that this client was written against.
API_VERSION = "1.51"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def client_version(context: Context) -> dict[str, Any]:
    """What is known of the client itself, in docker's names."""
    machine = os.uname().machine
    return {
        "Version": __version__,
        "ApiVersion": context.environment.get("DOCKER_API_VERSION") or API_VERSION,
        "DefaultAPIVersion": API_VERSION,
        "PythonVersion": ".".join(str(part) for part in sys.version_info[:3]),
        "Os": "linux",
        "Arch": _ARCHITECTURES.get(machine, machine),
        "Context": context.endpoint.context_name,
    }


def version(context: Context, options: Options, _arguments: list[str]) -> int:
    template = _template(options.text("format"))
    document: dict[str, Any] = {"Client": client_version(context), "Server": None}
    failure: ApiError | ConnectionFailed | None = None
    try:
        document["Server"] = _with_engine(context.client.get("/version"))
    except (ApiError, ConnectionFailed) as error:
        failure = error
    if template is None:
        text = client_text(document["Client"]) + (server_text(document["Server"]) if document["Server"] else "")
        context.streams.write(TabWriter(minimum=20, padding=1).render(text + "\n"))
    else:
        _print_template(context, template, document)
    if failure is not None:
        raise failure
    return 0


def _template(format_: str) -> Any:
    if not format_:
        return None
    from teul.templates.template import TemplateError, parse_template

    try:
        return parse_template("{{json .}}" if format_ == "json" else format_)
    except TemplateError as error:
        raise CliError(f"template parsing error: {error}", 64) from None


def _print_template(context: Context, template: Any, document: dict[str, Any]) -> None:
    from teul.templates.template import TemplateError

    try:
        context.streams.print(template.render(document))
    except TemplateError as error:
        raise CliError(str(error)) from None


def _with_engine(server: dict[str, Any]) -> dict[str, Any]:
    """`server` with the engine among its components, which engines before API 1.35 do not list."""
    if any(component.get("Name") == "Engine" for component in server.get("Components") or []):
        return server
    names = ("ApiVersion", "MinAPIVersion", "GitCommit", "GoVersion", "Os", "Arch", "BuildTime", "KernelVersion")
    engine = {"Name": "Engine", "Version": server.get("Version", ""), "Details": {name: server.get(name, "") for name in names}}
    return {**server, "Components": [engine, *(server.get("Components") or [])]}


def client_text(client: dict[str, Any]) -> str:
    lowered = f" (downgraded from {client['DefaultAPIVersion']})" if client["ApiVersion"] != client["DefaultAPIVersion"] else ""
    return (
        f"Client: Teul\n Version:\t{client['Version']}\n API version:\t{client['ApiVersion']}{lowered}\n"
        f" Python version:\t{client['PythonVersion']}\n OS/Arch:\t{client['Os']}/{client['Arch']}\n Context:\t{client['Context']}\n"
    )


def server_text(server: dict[str, Any]) -> str:
    """Every component with its details; those of the engine in docker's words."""
    name = (server.get("Platform") or {}).get("Name") or ""
    lines = ["", f"Server: {name}".rstrip()]
    for component in server.get("Components") or []:
        details = component.get("Details") or {}
        lines.append(f" {component['Name']}:")
        lines.append(f"  Version:\t{component.get('Version', '')}")
        if component["Name"] == "Engine":
            lines += _engine_lines(details)
        else:
            lines += [f"  {key}:\t{details[key]}" for key in sorted(details)]
    return "\n".join(lines) + "\n"


def _engine_lines(details: dict[str, str]) -> list[str]:
    rows = [
        ("API version", f"{details.get('ApiVersion', '')} (minimum version {details.get('MinAPIVersion', '')})"),
        ("Go version", details.get("GoVersion")),
        ("Python version", details.get("PythonVersion")),
        ("Git commit", details.get("GitCommit")),
        ("Built", _built(details.get("BuildTime", ""))),
        ("OS/Arch", f"{details.get('Os', '')}/{details.get('Arch', '')}"),
        ("Experimental", details.get("Experimental")),
    ]
    return [f"  {name}:\t{value}" for name, value in rows if value]


def _built(text: str) -> str:
    """RFC 3339 as docker shows it (`Mon Jan  2 15:04:05 2006`); anything else as it is."""
    from datetime import datetime

    try:
        moment = datetime.fromisoformat(text.partition(".")[0].removesuffix("Z"))
    except ValueError:
        return text
    return strftime("%a %b %e %H:%M:%S %Y", moment.timetuple())


VERSION = Command(
    "version [OPTIONS]",
    "Show the Teul version information",
    version,
    options=(Option("format", "string", INSPECT_FORMAT_HELP, short="f"),),
    maximum=0,
)
