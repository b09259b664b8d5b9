"""`teul info`, also `teul system info`."""

from __future__ import annotations

from teul import __version__
from teul.cli.command import Command
from teul.cli.errors import CliError
from teul.cli.format.listing import INSPECT_FORMAT_HELP
from teul.cli.format.units import binary_size
from teul.cli.options.parser import Option
from teul.client.errors import ApiError, ConnectionFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from teul.cli.context import Context
    from teul.cli.options.parser import Options

    Line = tuple[str, Any]


def info(context: Context, options: Options, _arguments: list[str]) -> int:
    client: dict[str, Any] = {"Debug": context.debug, "Version": __version__, "Context": context.endpoint.context_name, "Plugins": []}
    server: dict[str, Any] = {}
    errors: list[str] = []
    try:
        server = context.client.get("/info")
    except ApiError as error:
        errors.append(f"Error response from daemon: {error.message}")
    except ConnectionFailed as error:
        errors.append(error.message)
    format_ = options.text("format")
    if format_:
        _print_template(
            context, format_, {**server, "ClientInfo": client, "ServerErrors": errors} if errors else {**server, "ClientInfo": client}
        )
        return 1 if errors else 0
    streams = context.streams
    streams.write(
        f"Client: Teul\n Version:    {__version__}\n Context:    {client['Context']}\n Debug Mode: {_go(client['Debug'])}\n\nServer:\n"
    )
    if server:
        streams.write("".join(f"{line}\n" for line in server_lines(server)) + "\n")
        for warning in server.get("Warnings") or []:
            streams.print_error(warning)
    if errors:
        raise CliError("".join(f"ERROR: {error}\n" for error in errors) + "errors pretty printing info")
    return 0


def _print_template(context: Context, format_: str, document: dict[str, Any]) -> None:
    from teul.templates.template import TemplateError, parse_template

    try:
        template = parse_template("{{json .}}" if format_ == "json" else format_)
    except TemplateError as error:
        raise CliError(f"template parsing error: {error}", 64) from None
    try:
        context.streams.print(template.render(document))
    except TemplateError as error:
        raise CliError(str(error)) from None


def _go(value: object) -> str:
    """A value as Go prints it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def server_lines(server: dict[str, Any]) -> list[str]:
    """The engine's part, line by line in docker's order."""
    lines = [f" Containers: {server.get('Containers', 0)}"]
    lines += [f"  {name}: {server.get(f'Containers{name}', 0)}" for name in ("Running", "Paused", "Stopped")]
    lines.append(f" Images: {server.get('Images', 0)}")
    lines += _given(server, (("Server Version", "ServerVersion"), ("Storage Driver", "Driver")))
    lines += [f"  {name}: {value}" for name, value in server.get("DriverStatus") or []]
    lines += _given(server, (("Logging Driver", "LoggingDriver"), ("Cgroup Driver", "CgroupDriver"), ("Cgroup Version", "CgroupVersion")))
    plugins = server.get("Plugins") or {}
    lines.append(" Plugins:")
    lines += [f"  {name}: {' '.join(plugins.get(name) or [])}" for name in ("Volume", "Network", "Log")]
    lines += _section("CDI spec directories", [f"  {path}" for path in server.get("CDISpecDirs") or []])
    lines.append(f" Swarm: {(server.get('Swarm') or {}).get('LocalNodeState', '')}")
    lines += _runtime_lines(server)
    rows = (
        ("Kernel Version", "KernelVersion"),
        ("Operating System", "OperatingSystem"),
        ("OSType", "OSType"),
        ("Architecture", "Architecture"),
    )
    lines += _given(server, rows)
    lines += [f" CPUs: {server.get('NCPU', 0)}", f" Total Memory: {binary_size(server.get('MemTotal') or 0)}"]
    lines += _given(server, (("Name", "Name"), ("ID", "ID")))
    lines += [f" Docker Root Dir: {server.get('DockerRootDir', '')}", f" Debug Mode: {_go(bool(server.get('Debug')))}"]
    lines += _given(server, (("HTTP Proxy", "HttpProxy"), ("HTTPS Proxy", "HttpsProxy"), ("No Proxy", "NoProxy")))
    lines += _section("Labels", [f"  {label}" for label in server.get("Labels") or []])
    lines.append(f" Experimental: {_go(bool(server.get('ExperimentalBuild')))}")
    lines += _registry_lines(server.get("RegistryConfig") or {})
    lines.append(f" Live Restore Enabled: {_go(bool(server.get('LiveRestoreEnabled')))}")
    lines += _given(server, (("Product License", "ProductLicense"),))
    pools = server.get("DefaultAddressPools") or []
    return lines + _section("Default Address Pools", [f"   Base: {pool['Base']}, Size: {pool['Size']}" for pool in pools])


def _given(server: dict[str, Any], rows: tuple[tuple[str, str], ...]) -> list[str]:
    return [f" {name}: {server[key]}" for name, key in rows if server.get(key)]


def _section(title: str, lines: list[str]) -> list[str]:
    return [f" {title}:", *lines] if lines else []


def _runtime_lines(server: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    if server.get("Runtimes"):
        lines += [f" Runtimes: {' '.join(server['Runtimes'])}", f" Default Runtime: {server.get('DefaultRuntime', '')}"]
    lines.append(f" Init Binary: {server.get('InitBinary', '')}")
    for name, key in (("containerd", "ContainerdCommit"), ("runc", "RuncCommit"), ("init", "InitCommit")):
        lines.append(f" {name} version: {(server.get(key) or {}).get('ID', '')}")
    options: list[str] = []
    for option in server.get("SecurityOptions") or []:
        fields = dict(part.partition("=")[::2] for part in str(option).split(","))
        options.append(f"  {fields.pop('name', option)}")
        options += [f"   Profile: {value}" for name, value in fields.items() if name == "profile"]
    return lines + _section("Security Options", options)


def _registry_lines(registry: dict[str, Any]) -> list[str]:
    insecure = [f"  {index['Name']}" for index in (registry.get("IndexConfigs") or {}).values() if not index.get("Secure")]
    insecure += [f"  {network}" for network in registry.get("InsecureRegistryCIDRs") or []]
    return _section("Insecure Registries", insecure) + _section(
        "Registry Mirrors", [f"  {mirror}" for mirror in registry.get("Mirrors") or []]
    )


INFO = Command(
    "info [OPTIONS]",
    "Display system-wide information",
    info,
    options=(Option("format", "string", INSPECT_FORMAT_HELP, short="f"),),
    maximum=0,
    aliases="system info, info",
)
