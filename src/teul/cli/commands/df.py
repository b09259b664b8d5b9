"""`teul system df`: what takes how much of the disk."""

from __future__ import annotations

from teul.cli.command import Command
from teul.cli.commands.images import HEADERS as IMAGE_HEADERS
from teul.cli.commands.images import ImageRow
from teul.cli.commands.ps import HEADERS as CONTAINER_HEADERS
from teul.cli.commands.ps import ContainerRow
from teul.cli.errors import CliError
from teul.cli.format.listing import FORMAT_HELP, Listing, Row, compile_format
from teul.cli.format.units import human_size
from teul.cli.format.usage import CACHE_HEADERS, VOLUME_HEADERS, CacheRow, VolumeRow
from teul.cli.options.parser import BOOL, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, ClassVar

    from teul.cli.context import Context
    from teul.cli.options.parser import Options

    Objects = Sequence[dict[str, Any]]

_ACTIVE = ("running", "paused", "restarting")
_COLUMNS = ("Type", "TotalCount", "Active", "Size", "Reclaimable")
_HEADERS = {"Type": "TYPE", "TotalCount": "TOTAL", "Active": "ACTIVE", "Size": "SIZE", "Reclaimable": "RECLAIMABLE"}
_RAW = "type: {{.Type}}\ntotal: {{.TotalCount}}\nactive: {{.Active}}\nsize: {{.Size}}\nreclaimable: {{.Reclaimable}}\n"
_VERBOSE_RAW = """{{range .Images}}type: Image
repository: {{ .Repository }}
tag: {{.Tag}}
digest: {{.Digest}}
image_id: {{.ID}}
created_at: {{.CreatedAt}}
virtual_size: {{.Size}}

{{end -}}
{{range .Containers}}type: Container
container_id: {{.ID}}
image: {{.Image}}
command: {{.Command}}
created_at: {{.CreatedAt}}
state: {{- pad .State 1 0}}
status: {{- pad .Status 1 0}}
names: {{.Names}}
labels: {{- pad .Labels 1 0}}
ports: {{- pad .Ports 1 0}}
size: {{.Size}}

{{end -}}
{{range .Volumes}}type: Volume
name: {{.Name}}
driver: {{.Driver}}

{{end -}}
{{range .BuildCache}}type: Build Cache
build_cache_id: {{.ID}}
parent_id: {{.Parent}}
build_cache_type: {{.CacheType}}
description: {{.Description}}
created_at: {{.CreatedAt}}
created_since: {{.CreatedSince}}
last_used_at: {{.LastUsedAt}}
last_used_since: {{.LastUsedSince}}
usage_count: {{.UsageCount}}
in_use: {{.InUse}}
shared: {{.Shared}}

{{end -}}"""
_TABLES: dict[str, tuple[str, tuple[str, ...], Mapping[str, str]]] = {
    "Images": (
        "Images space usage:",
        ("Repository", "Tag", "ID", "CreatedSince", "Size", "SharedSize", "UniqueSize", "Containers"),
        IMAGE_HEADERS,
    ),
    "Containers": (
        "Containers space usage:",
        ("ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names"),
        CONTAINER_HEADERS,
    ),
    "Volumes": ("Local Volumes space usage:", ("Name", "Links", "Size"), VOLUME_HEADERS),
    "BuildCache": (
        "Build cache usage: {}",
        ("ID", "CacheType", "Size", "CreatedSince", "LastUsedSince", "UsageCount", "Shared"),
        CACHE_HEADERS,
    ),
}


class UsageRow(Row):
    """One kind of thing: how many there are, how many are in use, how large they are, and how much of that could go."""

    def __init__(self, kind: str, total: int, active: int, size_bytes: int, reclaimable_bytes: int, *, share: bool = True) -> None:
        self.kind = kind
        self.total = total
        self.active = active
        self.size_bytes = size_bytes
        self.reclaimable_bytes = reclaimable_bytes
        self.share = share

    def reclaimable(self) -> str:
        text = human_size(self.reclaimable_bytes)
        if not self.share or self.size_bytes <= 0:
            return text
        return f"{text} ({int(self.reclaimable_bytes * 100 / self.size_bytes)}%)"

    FIELDS: ClassVar[Mapping[str, Callable[[Any], str | None]]] = {
        "Type": lambda row: str(row.kind),
        "TotalCount": lambda row: str(row.total),
        "Active": lambda row: str(row.active),
        "Size": lambda row: human_size(row.size_bytes),
        "Reclaimable": reclaimable,
    }


def usage_rows(usage: dict[str, Any]) -> list[UsageRow]:
    """docker: cli/command/formatter/disk_usage.go."""
    return [
        _images(usage.get("Images") or [], int(usage.get("LayersSize") or 0)),
        _containers(usage.get("Containers") or []),
        _volumes(usage.get("Volumes") or []),
        _build_cache(usage.get("BuildCache") or []),
    ]


def _images(images: Objects, layers_bytes: int) -> UsageRow:
    used = sum(
        image["Size"] - image["SharedSize"]
        for image in images
        if image.get("Containers") and image.get("Size", -1) != -1 and image.get("SharedSize", -1) != -1
    )
    active = sum(int(image.get("Containers") or 0) > 0 for image in images)
    return UsageRow("Images", len(images), active, layers_bytes, layers_bytes - used)


def _containers(containers: Objects) -> UsageRow:
    sizes = [(int(container.get("SizeRw") or 0), container.get("State") in _ACTIVE) for container in containers]
    unused = sum(size for size, active in sizes if not active)
    return UsageRow("Containers", len(sizes), sum(active for _, active in sizes), sum(size for size, _ in sizes), unused)


def _volumes(volumes: Objects) -> UsageRow:
    data = [volume.get("UsageData") or {"Size": -1, "RefCount": -1} for volume in volumes]
    known = [item for item in data if item["Size"] != -1]
    unused = sum(item["Size"] for item in known if item["RefCount"] == 0)
    active = sum(item["RefCount"] > 0 for item in data)
    return UsageRow("Local Volumes", len(data), active, sum(item["Size"] for item in known), unused)


def _build_cache(records: Objects) -> UsageRow:
    size = cache_bytes(records)
    used = sum(record["Size"] for record in records if record.get("InUse") and not record.get("Shared"))
    return UsageRow("Build Cache", len(records), sum(bool(record.get("InUse")) for record in records), size, size - used, share=False)


def cache_bytes(records: Objects) -> int:
    return sum(record["Size"] for record in records if not record.get("Shared"))


class Everything:
    """All that there is, for the templates of `--verbose`."""

    def __init__(self, usage: dict[str, Any], *, whole: bool) -> None:
        records = sorted(usage.get("BuildCache") or [], key=lambda record: (record.get("LastUsedAt") or "", record["ID"]))
        self.rows: dict[str, list[Row]] = {
            "Images": [_image_row(image, whole=whole) for image in usage.get("Images") or []],
            # docker: the size of the image under it is not shown.
            "Containers": [ContainerRow({**container, "SizeRootFs": 0}, whole=whole) for container in usage.get("Containers") or []],
            "Volumes": [VolumeRow(volume) for volume in usage.get("Volumes") or []],
            "BuildCache": [CacheRow(record, whole=whole) for record in records],
        }

    def template_field(self, name: str) -> object:
        if name in self.rows:
            return self.rows[name]
        from teul.templates.template import TemplateError

        raise TemplateError(f'template: :1:2: executing "" at <.{name}>: can\'t evaluate field {name} in type *formatter.diskUsageContext')

    def template_json(self) -> str:
        parts = (f'"{name}":[{",".join(row.template_json() for row in rows)}]' for name, rows in self.rows.items())
        return "{" + ",".join(parts) + "}"


def _image_row(image: dict[str, Any], *, whole: bool) -> ImageRow:
    """docker: under the first of its tags."""
    tags = image.get("RepoTags") or []
    repository, _, tag = str(tags[0]).rpartition(":") if tags else ("<none>", "", "<none>")
    return ImageRow(image, repository, tag, "", whole=whole)


def disk_usage(context: Context, options: Options, _arguments: list[str]) -> int:
    usage = context.client.get("/system/df")
    format_ = options.text("format") or "table"
    if not options.flag("verbose"):
        context.streams.write(Listing(_COLUMNS, _HEADERS, _RAW).render(usage_rows(usage), format_))
        return 0
    everything = Everything(usage, whole=not format_.startswith("table"))
    if format_ == "table":
        context.streams.write(_tables(everything, cache_bytes(usage.get("BuildCache") or [])))
    else:
        context.streams.write(_render(everything, format_))
    return 0


def _tables(everything: Everything, build_cache_bytes: int) -> str:
    sections = [
        f"{title.format(human_size(build_cache_bytes))}\n\n{Listing(columns, headers).render(everything.rows[name])}"
        for name, (title, columns, headers) in _TABLES.items()
    ]
    return "\n".join(sections)


def _render(everything: Everything, format_: str) -> str:
    if format_ == "json":
        return everything.template_json()
    from teul.templates.template import TemplateError

    try:
        return str(compile_format(_VERBOSE_RAW if format_ == "raw" else format_).render(everything))
    except TemplateError as error:
        raise CliError(f"template parsing error: {error}") from None


DF = Command(
    "df [OPTIONS]",
    "Show Teul disk usage",
    disk_usage,
    options=(
        Option("format", "string", FORMAT_HELP),
        Option("verbose", BOOL, "Show detailed information on space usage", short="v"),
    ),
    maximum=0,
)
