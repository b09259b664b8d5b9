"""`teul network`: create, ls, inspect, rm, prune, connect, disconnect."""

from __future__ import annotations

from teul.cli.command import Command
from teul.cli.commands.inspect import show
from teul.cli.commands.prune import confirmed, prune_networks
from teul.cli.errors import CliError
from teul.cli.format.listing import FORMAT_HELP, INSPECT_FORMAT_HELP, Listing, Row
from teul.cli.format.units import go_timestamp
from teul.cli.options.keyvalues import to_dictionary, to_filters
from teul.cli.options.parser import BOOL, Option
from teul.client.api import quote
from teul.client.errors import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, ClassVar

    from teul.cli.context import Context
    from teul.cli.options.parser import Options

_PRUNE_WARNING = "WARNING! This will remove all custom networks not used by at least one container.\nAre you sure you want to continue?"
_INGRESS_WARNING = (
    "WARNING! Before removing the routing-mesh network, make sure all the nodes in your swarm run the same docker engine version. "
    "Otherwise, removal may not be effective and functionality of newly create ingress networks will be impaired.\n"
    "Are you sure you want to continue?"
)


def network_path(reference: str, action: str = "") -> str:
    """`/networks/<reference>/<action>`, with whatever stands in `reference` made harmless."""
    return f"/networks/{quote(reference)}/{action}" if action else f"/networks/{quote(reference)}"


class NetworkRow(Row):
    """A network of the list."""

    KIND: ClassVar[str] = "network.networkContext"

    def __init__(self, network: dict[str, Any], *, whole: bool = False) -> None:
        self.network = network
        self.whole = whole

    def labels(self) -> str:
        return ",".join(sorted(f"{name}={value}" for name, value in (self.network.get("Labels") or {}).items()))

    def label(self, name: str) -> str:
        return str((self.network.get("Labels") or {}).get(name, ""))

    FIELDS: ClassVar[Mapping[str, Callable[[Any], str | None]]] = {
        "ID": lambda row: str(row.network["Id"]) if row.whole else str(row.network["Id"])[:12],
        "Name": lambda row: str(row.network["Name"]),
        "Driver": lambda row: str(row.network["Driver"]),
        "Scope": lambda row: str(row.network["Scope"]),
        "IPv4": lambda row: _boolean(row.network.get("EnableIPv4")),
        "IPv6": lambda row: _boolean(row.network.get("EnableIPv6")),
        "Internal": lambda row: _boolean(row.network.get("Internal")),
        "Labels": labels,
        "CreatedAt": lambda row: go_timestamp(str(row.network["Created"])),
    }
    METHODS: ClassVar[Mapping[str, Callable[..., str]]] = {"Label": label}


_COLUMNS = ("ID", "Name", "Driver", "Scope")
HEADERS = {
    "ID": "NETWORK ID",
    "Name": "NAME",
    "Driver": "DRIVER",
    "Scope": "SCOPE",
    "IPv4": "IPV4",
    "IPv6": "IPV6",
    "Internal": "INTERNAL",
    "Labels": "LABELS",
    "CreatedAt": "CREATED AT",
}


def _boolean(value: object) -> str:
    return "true" if value else "false"


def create(context: Context, options: Options, arguments: list[str]) -> int:
    from teul.cli.creation.config import checked
    from teul.cli.creation.ipam import build_ipam_config
    from teul.cli.options.keyvalues import parse_labels

    checked(options, "label", lambda text: parse_labels([text], []), spelling="--label")
    auxiliary = to_dictionary(options.texts("aux-address"))
    try:
        config = build_ipam_config(
            _fields(options, "subnet"), ranges=_fields(options, "ip-range"), gateways=_fields(options, "gateway"), auxiliary=auxiliary
        )
    except ValueError as error:
        raise CliError(str(error)) from None
    request: dict[str, Any] = {
        "Name": arguments[0],
        "Driver": options.text("driver"),
        "Options": to_dictionary(options.texts("opt")),
        "IPAM": {"Driver": options.text("ipam-driver"), "Config": config, "Options": to_dictionary(options.texts("ipam-opt"))},
        "Internal": options.flag("internal"),
        "Attachable": options.flag("attachable"),
        "Ingress": options.flag("ingress"),
        "Scope": options.text("scope"),
        "ConfigOnly": options.flag("config-only"),
        "Labels": to_dictionary(options.texts("label")),
        "CheckDuplicate": True,  # docker: engines before API 1.44 would make two of the same name
    }
    if options.given("egress"):
        request["Egress"] = options.texts("egress")
    for option, member in (("ipv4", "EnableIPv4"), ("ipv6", "EnableIPv6")):
        if options.given(option):
            request[member] = options.flag(option)
    if options.text("config-from"):
        request["ConfigFrom"] = {"Network": options.text("config-from")}
    context.streams.print(context.client.post("/networks/create", body=request)["Id"])
    return 0


def _fields(options: Options, name: str) -> list[str]:
    """The values of an option that may be given several times, and several at a time with commas between them."""
    from teul.cli.creation.config import checked
    from teul.cli.creation.mounts import split_csv

    return [field for fields in checked(options, name, lambda text: split_csv(text) if text else []) for field in fields]


def list_networks(context: Context, options: Options, _arguments: list[str]) -> int:
    from teul.cli.format.ordering import natural_key

    quiet = options.flag("quiet")
    format_ = options.text("format") or ("" if quiet else str(context.config.get("networksFormat") or ""))
    found = context.client.get("/networks", {"filters": to_filters(options.texts("filter"))})
    found.sort(key=lambda network: natural_key(str(network["Name"])))
    raw = "network_id: {{.ID}}" if quiet else "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n"
    rows = [NetworkRow(network, whole=options.flag("no-trunc")) for network in found]
    context.streams.write(Listing(_COLUMNS, HEADERS, raw).render(rows, format_, quiet=quiet and format_ in ("", "table", "raw")))
    return 0


def inspect(context: Context, options: Options, arguments: list[str]) -> int:
    query = {"verbose": "true"} if options.flag("verbose") else {}
    return show(context, options.text("format"), arguments, lambda reference: context.client.get(network_path(reference), query))


def remove(context: Context, options: Options, arguments: list[str]) -> int:
    status = 0
    for reference in arguments:
        if _is_ingress(context, reference) and not confirmed(context, _INGRESS_WARNING):
            continue
        try:
            context.client.delete(network_path(reference))
        except ApiError as error:
            if not (options.flag("force") and error.is_not_found):
                context.streams.print_error(f"Error response from daemon: {error.message}")
                status = 1
            continue
        context.streams.print(reference)
    if status:
        raise CliError(f"exit status {status}", status)
    return 0


def _is_ingress(context: Context, reference: str) -> bool:
    """Whether it is the routing mesh of a swarm, which only dockerd has."""
    try:
        return bool(context.client.get(network_path(reference)).get("Ingress"))
    except ApiError:
        return False  # that it is not there, or whatever else is wrong, its removal will tell


def prune(context: Context, options: Options, _arguments: list[str]) -> int:
    if not options.flag("force") and not confirmed(context, _PRUNE_WARNING):
        return 0  # docker: it is not a failure that the user thought better of it
    removed, _ = prune_networks(context, options.texts("filter"))
    if removed:
        context.streams.print(removed)
    return 0


def connect(context: Context, options: Options, arguments: list[str]) -> int:
    from teul.cli.creation.config import checked
    from teul.cli.creation.networks import check_link

    addresses = {
        "IPv4Address": options.text("ip"),
        "IPv6Address": options.text("ip6"),
        "LinkLocalIPs": _fields(options, "link-local-ip"),
    }
    settings: dict[str, Any] = {
        "IPAMConfig": {name: value for name, value in addresses.items() if value},
        "Links": checked(options, "link", check_link) or None,
        "Aliases": _fields(options, "alias"),
        "DriverOpts": _driver_options(_fields(options, "driver-opt")),
        "GwPriority": options.number("gw-priority"),
    }
    network, container = arguments
    context.client.post(network_path(network, "connect"), body={"Container": container, "EndpointConfig": settings})
    return 0


def _driver_options(given: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise CliError("invalid key/value pair format in driver options")
        found[name.strip()] = value.strip()
    return found


def disconnect(context: Context, options: Options, arguments: list[str]) -> int:
    network, container = arguments
    context.client.post(network_path(network, "disconnect"), body={"Container": container, "Force": options.flag("force")})
    return 0


CREATE = Command(
    "create [OPTIONS] NETWORK",
    "Create a network",
    create,
    options=(
        Option("attachable", BOOL, "Enable manual container attachment"),
        Option("aux-address", "map", "Auxiliary IPv4 or IPv6 addresses used by Network driver", shown="map[]"),
        Option("config-from", "string", "The network from which to copy the configuration"),
        Option("config-only", BOOL, "Create a configuration only network"),
        Option("driver", "string", "Driver to manage the Network", short="d", default="bridge"),
        Option("egress", "strings", "What containers may reach beyond the network: addresses, networks, domain names, lan, none, any"),
        Option("gateway", "strings", "IPv4 or IPv6 Gateway for the master subnet"),
        Option("ingress", BOOL, "Create swarm routing-mesh network"),
        Option("internal", BOOL, "Restrict external access to the network"),
        Option("ip-range", "strings", "Allocate container ip from a sub-range"),
        Option("ipam-driver", "string", "IP Address Management Driver", default="default"),
        Option("ipam-opt", "map", "Set IPAM driver specific options", shown="map[]"),
        Option("ipv4", BOOL, "Enable or disable IPv4 address assignment", default=True),
        Option("ipv6", BOOL, "Enable or disable IPv6 address assignment"),
        Option("label", "list", "Set metadata on a network"),
        Option("opt", "map", "Set driver specific options", short="o", shown="map[]"),
        Option("scope", "string", "Control the network's scope"),
        Option("subnet", "strings", "Subnet in CIDR format that represents a network segment"),
    ),
    minimum=1,
    maximum=1,
)
LIST = Command(
    "ls [OPTIONS]",
    "List networks",
    list_networks,
    options=(
        Option("filter", "filter", 'Provide filter values (e.g. "driver=bridge")', short="f"),
        Option("format", "string", FORMAT_HELP),
        Option("no-trunc", BOOL, "Do not truncate the output"),
        Option("quiet", BOOL, "Only display network IDs", short="q"),
    ),
    maximum=0,
    aliases="network ls, network list",
)
INSPECT = Command(
    "inspect [OPTIONS] NETWORK [NETWORK...]",
    "Display detailed information on one or more networks",
    inspect,
    options=(
        Option("format", "string", INSPECT_FORMAT_HELP, short="f"),
        Option("verbose", BOOL, "Verbose output for diagnostics", short="v"),
    ),
    minimum=1,
)
REMOVE = Command(
    "rm NETWORK [NETWORK...]",
    "Remove one or more networks",
    remove,
    options=(Option("force", BOOL, "Do not error if the network does not exist", short="f"),),
    minimum=1,
    aliases="network rm, network remove",
)
PRUNE = Command(
    "prune [OPTIONS]",
    "Remove all unused networks",
    prune,
    options=(
        Option("filter", "filter", 'Provide filter values (e.g. "until=<timestamp>")'),
        Option("force", BOOL, "Do not prompt for confirmation", short="f"),
    ),
    maximum=0,
)
CONNECT = Command(
    "connect [OPTIONS] NETWORK CONTAINER",
    "Connect a container to a network",
    connect,
    options=(
        Option("alias", "strings", "Add network-scoped alias for the container"),
        Option("driver-opt", "strings", "driver options for the network"),
        Option("gw-priority", "int", "Highest gw-priority provides the default gateway. Accepts positive and negative values."),
        Option("ip", "string", 'IPv4 address (e.g., "172.30.100.104")'),
        Option("ip6", "string", 'IPv6 address (e.g., "2001:db8::33")'),
        Option("link", "list", "Add link to another container"),
        Option("link-local-ip", "strings", "Add a link-local address for the container"),
    ),
    minimum=2,
    maximum=2,
)
DISCONNECT = Command(
    "disconnect [OPTIONS] NETWORK CONTAINER",
    "Disconnect a container from a network",
    disconnect,
    options=(Option("force", BOOL, "Force the container to disconnect from a network", short="f"),),
    minimum=2,
    maximum=2,
)
