"""`teul volume`: create, ls, inspect, rm, prune, update."""

from __future__ import annotations

from teul.cli.api_version import is_older, require_version, spoken_version
from teul.cli.command import Command
from teul.cli.commands.inspect import show
from teul.cli.commands.prune import confirmed, prune_filters
from teul.cli.errors import CliError
from teul.cli.format.listing import FORMAT_HELP, INSPECT_FORMAT_HELP, Listing
from teul.cli.format.units import human_size
from teul.cli.format.usage import VOLUME_HEADERS, VolumeRow
from teul.cli.options.keyvalues import to_dictionary, to_filters
from teul.cli.options.parser import BOOL, Option
from teul.client.api import quote
from teul.client.errors import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from teul.cli.context import Context
    from teul.cli.options.parser import Options

_ANONYMOUS_WARNING = (
    "WARNING! This will remove anonymous local volumes not used by at least one container.\nAre you sure you want to continue?"
)
_ALL_WARNING = "WARNING! This will remove all local volumes not used by at least one container.\nAre you sure you want to continue?"
_COLUMNS = ("Driver", "Name")
_CLUSTER_COLUMNS = ("Name", "Group", "Driver", "Availability", "Status")
# Options that make a volume one of a swarm's. docker: hasClusterVolumeOptionSet; those that are missing there make none.
_OF_A_CLUSTER = ("availability", "group", "limit-bytes", "required-bytes", "scope", "secret", "sharing", "type")
_FOR_A_CLUSTER = sorted((*_OF_A_CLUSTER, "topology-preferred", "topology-required"))


def volume_path(name: str) -> str:
    """`/volumes/<name>`, with whatever stands in `name` made harmless. Raises CliError for none."""
    if not name.strip():
        raise CliError("invalid volume name or ID: value is empty")
    return f"/volumes/{quote(name)}"


def create(context: Context, options: Options, arguments: list[str]) -> int:
    from teul.cli.creation.config import checked
    from teul.cli.options.keyvalues import parse_labels

    checked(options, "label", lambda text: parse_labels([text], []), spelling="--label")
    require_version(context, "1.42", *(f'"--{option}"' for option in _FOR_A_CLUSTER if options.given(option)))
    name = options.text("name")
    if arguments:
        if name:
            raise CliError("conflicting options: cannot specify a volume-name through both --name and as a positional arg")
        name = arguments[0]
    members = {
        "Name": name,
        "Driver": options.text("driver"),
        "DriverOpts": to_dictionary(options.texts("opt")),
        "Labels": to_dictionary(options.texts("label")),
    }
    request: dict[str, Any] = {member: value for member, value in members.items() if value}
    if any(options.given(option) for option in _OF_A_CLUSTER):
        request["ClusterVolumeSpec"] = _cluster_volume(options)
    context.streams.print(context.client.post("/volumes/create", body=request)["Name"])
    return 0


def _cluster_volume(options: Options) -> dict[str, Any]:
    """docker: api/types/volume, ClusterVolumeSpec. Any type but these two is none."""
    mode: dict[str, Any] = {"Scope": options.text("scope"), "Sharing": options.text("sharing")}
    member = {"mount": "MountVolume", "block": "BlockVolume"}.get(options.text("type"))
    if member is not None:
        mode[member] = {}
    return {
        "Group": options.text("group"),
        "AccessMode": mode,
        "Availability": options.text("availability"),
        "CapacityRange": {"RequiredBytes": options.number("required-bytes"), "LimitBytes": options.number("limit-bytes")},
        "Secrets": [{"Key": key, "Secret": secret} for key, secret in sorted(to_dictionary(options.texts("secret")).items())],
        "AccessibilityRequirements": {
            "Requisite": [_topology(text) for text in options.texts("topology-required")],
            "Preferred": [_topology(text) for text in options.texts("topology-preferred")],
        },
    }


def _topology(text: str) -> dict[str, Any]:
    return {"Segments": to_dictionary(text.split(","))}


def list_volumes(context: Context, options: Options, _arguments: list[str]) -> int:
    from teul.cli.format.ordering import natural_key

    quiet, cluster = options.flag("quiet"), options.flag("cluster")
    if options.given("cluster"):
        require_version(context, "1.42", '"--cluster"')
    found = context.client.get("/volumes", {"filters": to_filters(options.texts("filter"))})["Volumes"] or []
    format_ = options.text("format")
    if cluster:
        found = [volume for volume in found if volume.get("ClusterVolume")]
        format_ = ""  # docker: --cluster has a format of its own, and takes no other
    elif not format_ and not quiet:
        format_ = str(context.config.get("volumesFormat") or "")
    if quiet and format_ in ("", "table"):
        format_ = "{{.Name}}"
    found.sort(key=lambda volume: natural_key(str(volume["Name"])))
    listing = Listing(
        _CLUSTER_COLUMNS if cluster else _COLUMNS,
        VOLUME_HEADERS,
        "name: {{.Name}}" if quiet else "name: {{.Name}}\ndriver: {{.Driver}}\n",
    )
    context.streams.write(listing.render([VolumeRow(volume) for volume in found], format_))
    return 0


def inspect(context: Context, options: Options, arguments: list[str]) -> int:
    return show(context, options.text("format"), arguments, lambda name: context.client.get(volume_path(name)))


def remove(context: Context, options: Options, arguments: list[str]) -> int:
    errors = []
    for name in arguments:
        try:
            context.client.delete(volume_path(name), {"force": options.flag("force")})
        except ApiError as error:
            errors.append(f"Error response from daemon: {error.message}")
            continue
        except CliError as error:
            errors.append(error.message)
            continue
        context.streams.print(name)
    if errors:
        raise CliError("\n".join(errors))
    return 0


def prune(context: Context, options: Options, _arguments: list[str]) -> int:
    if options.given("all"):
        require_version(context, "1.42", '"--all"')
    filters = list(prune_filters(options.texts("filter"), context.config.get("pruneFilters")))
    everything = options.flag("all")
    if everything:
        if any(text.partition("=")[0].strip().lower() == "all" for text in filters):
            raise CliError("conflicting options: cannot specify both --all and --filter all=1")
        filters.append("all=true")
    if not options.flag("force"):
        # docker: before 1.42 engines took the volumes that have a name as well.
        warning = _ALL_WARNING if everything or is_older(spoken_version(context), "1.42") else _ANONYMOUS_WARNING
        if not confirmed(context, warning):
            return 0  # docker: it is not a failure that the user thought better of it
    report = context.client.post("/volumes/prune", {"filters": to_filters(filters)})
    removed = report.get("VolumesDeleted") or []
    if removed:
        context.streams.print("Deleted Volumes:\n" + "".join(f"{name}\n" for name in removed))
    context.streams.print(f"Total reclaimed space: {human_size(report.get('SpaceReclaimed', 0) if removed else 0)}")
    return 0


def update(context: Context, options: Options, arguments: list[str]) -> int:
    require_version(context, "1.42", f"{context.program} volume update")
    volume = context.client.get(volume_path(arguments[0]))
    cluster = volume.get("ClusterVolume")
    if cluster is None:
        raise CliError("can only update cluster volumes")
    specification = cluster["Spec"]
    if options.given("availability"):
        specification["Availability"] = options.text("availability")
    query = {"version": cluster["Version"]["Index"]}
    context.client.call("PUT", volume_path(cluster["ID"]), query, {"Spec": specification})
    return 0


_AVAILABILITY = Option("availability", "string", 'Cluster Volume availability ("active", "pause", "drain")', default="active", hidden=True)
CREATE = Command(
    "create [OPTIONS] [VOLUME]",
    "Create a volume",
    create,
    options=(
        Option("driver", "string", "Specify volume driver name", short="d", default="local"),
        Option("label", "list", "Set metadata for a volume"),
        Option("name", "string", "Specify volume name", hidden=True),
        Option("opt", "map", "Set driver specific options", short="o", shown="map[]"),
        # docker: its help shows what is for swarms where the engine is a manager of one, which Teul never is.
        _AVAILABILITY,
        Option("group", "string", "Cluster Volume group (cluster volumes)", hidden=True),
        Option("limit-bytes", "bytes", "Minimum size of the Cluster Volume in bytes", hidden=True),
        Option("required-bytes", "bytes", "Maximum size of the Cluster Volume in bytes", hidden=True),
        Option("scope", "string", 'Cluster Volume access scope ("single", "multi")', default="single", hidden=True),
        Option("secret", "map", "Cluster Volume secrets", hidden=True),
        Option(
            "sharing",
            "string",
            'Cluster Volume access sharing ("none", "readonly", "onewriter", "all")',
            default="none",
            hidden=True,
        ),
        Option("topology-preferred", "list", "A topology that the Cluster Volume would be preferred in", hidden=True),
        Option("topology-required", "list", "A topology that the Cluster Volume must be accessible from", hidden=True),
        Option("type", "string", 'Cluster Volume access type ("mount", "block")', default="block", hidden=True),
    ),
    maximum=1,
)
LIST = Command(
    "ls [OPTIONS]",
    "List volumes",
    list_volumes,
    options=(
        Option("cluster", BOOL, "Display only cluster volumes, and use cluster volume list formatting", hidden=True),
        Option("filter", "filter", 'Provide filter values (e.g. "dangling=true")', short="f"),
        Option("format", "string", FORMAT_HELP),
        Option("quiet", BOOL, "Only display volume names", short="q"),
    ),
    maximum=0,
    aliases="volume ls, volume list",
)
INSPECT = Command(
    "inspect [OPTIONS] VOLUME [VOLUME...]",
    "Display detailed information on one or more volumes",
    inspect,
    options=(Option("format", "string", INSPECT_FORMAT_HELP, short="f"),),
    minimum=1,
)
REMOVE = Command(
    "rm [OPTIONS] VOLUME [VOLUME...]",
    "Remove one or more volumes",
    remove,
    options=(Option("force", BOOL, "Force the removal of one or more volumes", short="f"),),
    minimum=1,
    aliases="volume rm, volume remove",
    description="Remove one or more volumes. You cannot remove a volume that is in use by a container.",
)
PRUNE = Command(
    "prune [OPTIONS]",
    "Remove unused local volumes",
    prune,
    options=(
        Option("all", BOOL, "Remove all unused volumes, not just anonymous ones", short="a"),
        Option("filter", "filter", 'Provide filter values (e.g. "label=<label>")'),
        Option("force", BOOL, "Do not prompt for confirmation", short="f"),
    ),
    maximum=0,
)
UPDATE = Command(
    "update [OPTIONS] [VOLUME]",
    "Update a volume (cluster volumes only)",
    update,
    options=(_AVAILABILITY,),
    minimum=1,
    maximum=1,
)
