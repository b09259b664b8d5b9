"""`teul ps`, also `teul container ls`."""

from __future__ import annotations

from time import time

from teul.cli.command import Command
from teul.cli.format.listing import FORMAT_HELP, Listing, Row
from teul.cli.format.units import ellipsis, go_time, human_duration, human_size, short_id
from teul.cli.options.keyvalues import to_filters
from teul.cli.options.parser import BOOL, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, ClassVar

    from teul.cli.context import Context
    from teul.cli.options.parser import Options

_COLUMNS = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")
HEADERS = {
    "ID": "CONTAINER ID",
    "Names": "NAMES",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "CreatedAt": "CREATED AT",
    "RunningFor": "CREATED",
    "Ports": "PORTS",
    "State": "STATE",
    "Status": "STATUS",
    "Size": "SIZE",
    "Labels": "LABELS",
    "Mounts": "MOUNTS",
    "LocalVolumes": "LOCAL VOLUMES",
    "Networks": "NETWORKS",
    "Platform": "PLATFORM",
}
_PLATFORM_MEMBERS = ("architecture", "os", "os.version", "os.features", "variant")
_RAW = (
    "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\nstate: {{- pad .State 1 0}}\n"
    "status: {{- pad .Status 1 0}}\nnames: {{.Names}}\nlabels: {{- pad .Labels 1 0}}\nports: {{- pad .Ports 1 0}}\n"
)


class ContainerRow(Row):
    """A container of the list, its long values cut unless `whole`."""

    def __init__(self, container: dict[str, Any], *, whole: bool = False) -> None:
        self.container = container
        self.whole = whole

    def identifier(self) -> str:
        return self.container["Id"] if self.whole else short_id(self.container["Id"])

    def names(self) -> str:
        names = [name.removeprefix("/") for name in self.container.get("Names") or []]
        if self.whole:
            return ",".join(names)
        # A name with a slash inside is a link from another container.
        return next((name for name in names if "/" not in name), "")

    def image(self) -> str:
        image = str(self.container.get("Image") or "")
        if not image:
            return "<no image>"
        if self.whole:
            return image
        short = short_id(self.container.get("ImageID") or "")
        if short == short_id(image):
            return short
        return image.partition("@")[0] if "@" in image else image

    def command(self) -> str:
        from teul.templates.functions import quote

        command = str(self.container.get("Command") or "")
        return quote(command if self.whole else ellipsis(command, 20))

    def size(self) -> str:
        writable = human_size(self.container.get("SizeRw") or 0, 3)
        total = self.container.get("SizeRootFs") or 0
        return f"{writable} (virtual {human_size(total, 3)})" if total > 0 else writable

    def mounts(self) -> str:
        names = [str(mount.get("Name") or mount.get("Source") or "") for mount in self.container.get("Mounts") or []]
        return ",".join(names if self.whole else [ellipsis(name, 15) for name in names])

    def labels(self) -> str:
        return ",".join(sorted(f"{name}={value}" for name, value in (self.container.get("Labels") or {}).items()))

    def label(self, name: str) -> str:
        return str((self.container.get("Labels") or {}).get(name, ""))

    def networks(self) -> str:
        return ",".join((self.container.get("NetworkSettings") or {}).get("Networks") or {})

    def platform(self) -> str | None:
        """The platform of the image, where the engine tells it."""
        platform = (self.container.get("ImageManifestDescriptor") or {}).get("platform")
        if not platform:
            return None
        return "/".join(platform[key] for key in ("os", "architecture", "variant") if platform.get(key))

    def json_value(self, name: str) -> object:
        """docker: the platform is a document, as the engine tells it."""
        if name != "Platform":
            return super().json_value(name)
        platform = (self.container.get("ImageManifestDescriptor") or {}).get("platform")
        return {key: platform[key] for key in _PLATFORM_MEMBERS if platform.get(key)} if platform else None

    FIELDS: ClassVar[Mapping[str, Callable[[Any], str | None]]] = {
        "ID": identifier,
        "Names": names,
        "Image": image,
        "Command": command,
        "CreatedAt": lambda row: go_time(int(row.container["Created"])),
        "RunningFor": lambda row: f"{human_duration(time() - int(row.container['Created']))} ago",
        "Ports": lambda row: displayed_ports(row.container.get("Ports") or []),
        "State": lambda row: str(row.container.get("State", "")),
        "Status": lambda row: str(row.container.get("Status", "")),
        "Size": size,
        "Labels": labels,
        "Mounts": mounts,
        "LocalVolumes": lambda row: str(sum(mount.get("Driver") == "local" for mount in row.container.get("Mounts") or [])),
        "Networks": networks,
        "Platform": platform,
    }
    METHODS: ClassVar[Mapping[str, Callable[..., str]]] = {"Label": label}


def displayed_ports(ports: list[dict[str, Any]]) -> str:
    """`0.0.0.0:80->80/tcp, 9000-9002/tcp`: runs of ports that follow one another are joined."""
    ordered = sorted(ports, key=lambda port: (port["PrivatePort"], port.get("IP") or "", port.get("PublicPort") or 0, port["Type"]))
    groups: dict[tuple[str, str], list[int]] = {}
    shown: list[str] = []
    mappings: list[str] = []
    for port in ordered:
        address, private = str(port.get("IP") or ""), int(port["PrivatePort"])
        if address and port.get("PublicPort") != private:
            mappings.append(f"{_host(address)}:{port.get('PublicPort')}->{private}/{port['Type']}")
            continue
        key = (address, str(port["Type"]))
        group = groups.get(key)
        if group is not None and private == group[1] + 1:
            group[1] = private
            continue
        if group is not None:
            shown.append(_port_group(key, group))
        groups[key] = [private, private]
    shown += [_port_group(key, group) for key, group in groups.items()]
    return ", ".join(shown + mappings)


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _port_group(key: tuple[str, str], group: list[int]) -> str:
    address, protocol = key
    ports = str(group[0]) if group[0] == group[1] else f"{group[0]}-{group[1]}"
    return f"{_host(address)}:{ports}->{ports}/{protocol}" if address else f"{ports}/{protocol}"


def ps(context: Context, options: Options, _arguments: list[str]) -> int:
    format_, quiet = options.text("format"), options.flag("quiet")
    if not format_:
        format_ = str(context.config.get("psFormat") or "")
    elif quiet:
        context.streams.print_error("WARNING: Ignoring custom format, because both --format and --quiet are set.")
    # Sizes cost the engine much: they are asked for only where they are shown.
    size = options.flag("size") if options.given("size") else (not quiet and (".Size" in format_ or "json .}" in format_))
    limit = options.number("last")
    if options.flag("latest") and limit == -1:
        limit = 1
    query = {
        "all": options.flag("all"),
        "limit": limit if limit > 0 else None,
        "size": size,
        "filters": to_filters(options.texts("filter")),
    }
    containers = context.client.get("/containers/json", query)
    rows = [ContainerRow(container, whole=options.flag("no-trunc")) for container in containers]
    columns = (*_COLUMNS, "Size") if size else _COLUMNS
    raw = _RAW + ("size: {{.Size}}\n" if size else "")
    listing = Listing(columns, HEADERS, "container_id: {{.ID}}" if quiet else raw)
    context.streams.write(listing.render(rows, format_, quiet=quiet))
    return 0


PS = Command(
    "ps [OPTIONS]",
    "List containers",
    ps,
    options=(
        Option("all", BOOL, "Show all containers (default shows just running)", short="a"),
        Option("filter", "filter", "Filter output based on conditions provided", short="f"),
        Option("format", "string", FORMAT_HELP),
        Option("last", "int", "Show n last created containers (includes all states)", short="n", default=-1),
        Option("latest", BOOL, "Show the latest created container (includes all states)", short="l"),
        Option("no-trunc", BOOL, "Don't truncate output"),
        Option("quiet", BOOL, "Only display container IDs", short="q"),
        Option("size", BOOL, "Display total file sizes", short="s"),
    ),
    maximum=0,
    aliases="container ls, container list, container ps, ps",
)
