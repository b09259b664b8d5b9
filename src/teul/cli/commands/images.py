"""`teul images` (`image ls`), `rmi` and `tag`."""

from __future__ import annotations

from time import time

from teul.cli.api_version import require_version
from teul.cli.command import Command
from teul.cli.errors import CliError
from teul.cli.format.listing import FORMAT_HELP, Listing, Row
from teul.cli.format.units import go_time, human_duration, human_size, short_id
from teul.cli.options.image import platform_document
from teul.cli.options.keyvalues import to_filters
from teul.cli.options.parser import BOOL, Option
from teul.client.api import image_path
from teul.client.errors import ApiError
from teul.client.terminal import window_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, ClassVar

    from teul.cli.context import Context
    from teul.cli.options.parser import Options

_NONE = "<none>"
_COLUMNS = ("Repository", "Tag", "ID", "CreatedSince", "Size")
_DIGEST_COLUMNS = ("Repository", "Tag", "Digest", "ID", "CreatedSince", "Size")
HEADERS = {
    "ID": "IMAGE ID",
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
    "Containers": "CONTAINERS",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
    "VirtualSize": "SIZE",
}


class ImageRow(Row):
    """One name of an image."""

    def __init__(self, image: dict[str, Any], repository: str, tag: str, digest: str, *, whole: bool = False) -> None:
        self.image = image
        self.repository = repository
        self.tag = tag
        self.digest = digest
        self.whole = whole

    FIELDS: ClassVar[Mapping[str, Callable[[Any], str | None]]] = {
        "ID": lambda row: str(row.image["Id"]) if row.whole else short_id(row.image["Id"]),
        "Repository": lambda row: str(row.repository),
        "Tag": lambda row: str(row.tag),
        "Digest": lambda row: str(row.digest),
        "CreatedSince": lambda row: f"{human_duration(time() - int(row.image['Created']))} ago",
        "CreatedAt": lambda row: go_time(int(row.image["Created"])),
        "Size": lambda row: human_size(int(row.image["Size"]), 3),
        "Containers": lambda row: "N/A" if row.image.get("Containers", -1) == -1 else str(row.image["Containers"]),
        "SharedSize": lambda row: row.amount("SharedSize", own=False),
        "UniqueSize": lambda row: row.amount("SharedSize", own=True),
        "VirtualSize": lambda row: human_size(int(row.image["Size"])),
    }

    def amount(self, name: str, *, own: bool) -> str:
        """A size that the engine may not have counted; `own` is the image's size without it."""
        value = int(self.image.get(name, -1))
        if value == -1:
            return "N/A"
        return human_size(int(self.image["Size"]) - value if own else value)


def image_rows(image: dict[str, Any], *, digests: bool, whole: bool) -> list[ImageRow]:
    """A row per tag, or with `digests` per tag and digest; names that are only digests come last."""
    by_digest: dict[str, list[str]] = {}
    for reference in image.get("RepoDigests") or []:
        repository, _, digest = str(reference).partition("@")
        if repository != _NONE:
            by_digest.setdefault(repository, []).append(digest)
    rows: list[ImageRow] = []
    tagged: set[str] = set()
    for reference in image.get("RepoTags") or []:
        repository, _, tag = str(reference).rpartition(":")
        if repository == _NONE:
            continue
        tagged.add(repository)
        shown = (by_digest.get(repository) if digests else None) or [_NONE]
        rows += [ImageRow(image, repository, tag, digest, whole=whole) for digest in shown]
    for repository, found in by_digest.items():
        if repository not in tagged:
            rows += [ImageRow(image, repository, _NONE, digest, whole=whole) for digest in (found if digests else [""])]
    return rows or [ImageRow(image, _NONE, _NONE, _NONE, whole=whole)]


def images(context: Context, options: Options, arguments: list[str]) -> int:
    filters = options.texts("filter")
    if arguments:
        filters = [*filters, f"reference={arguments[0]}"]
    if options.flag("tree"):
        return _tree(context, options, filters)
    if options.flag("layers"):
        raise CliError("--layers is part of --tree")
    format_ = options.text("format") or str(context.config.get("imagesFormat") or "")
    digests = options.flag("digests") or "{{.Digest}}" in format_
    found = context.client.get("/images/json", {"all": options.flag("all"), "filters": to_filters(filters)})
    rows = [row for image in found for row in image_rows(image, digests=digests, whole=options.flag("no-trunc"))]
    raw = (
        "repository: {{ .Repository }}\ntag: {{.Tag}}\n"
        + ("digest: {{.Digest}}\n" if digests else "")
        + "image_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n"
    )
    listing = Listing(_DIGEST_COLUMNS if digests else _COLUMNS, HEADERS, "image_id: {{.ID}}" if options.flag("quiet") else raw)
    context.streams.write(listing.render(rows, format_, quiet=options.flag("quiet") and not options.text("format")))
    return 0


def _tree(context: Context, options: Options, filters: list[str]) -> int:
    """docker: cli/command/image/list.go, tree.go."""
    from teul.cli.format.tree import Tree, docker_branches, layered_branches

    client, streams = context.client, context.streams
    # docker: cmd/docker/docker.go, isSupported.
    require_version(context, "1.47", '"--tree"')
    for given, name in (("quiet", "quiet"), ("no-trunc", "no-trunc"), ("digests", "show-digest"), ("format", "format")):
        if options.text(given) if given == "format" else options.flag(given):
            raise CliError(f"--{name} is not yet supported with --tree")
    found = client.get("/images/json", {"all": options.flag("all"), "filters": to_filters(filters), "manifests": True})
    if not options.flag("all"):
        found = [image for image in found if image.get("RepoTags") or image.get("RepoDigests")]
    width, fancy, layers = window_size(streams.stdout_fd)[1], streams.stdout_is_terminal, options.flag("layers")
    if not layers:
        streams.write(Tree(docker_branches(found), width=width, fancy=fancy).render())
        return 0
    try:
        measured = client.get("/teul/images/layers")
    except ApiError as error:
        if not error.is_not_found:
            raise
        raise CliError("--layers needs Teul's engine: the one at the other end does not tell what layers take") from None
    streams.write(Tree(layered_branches(found, measured), width=width, fancy=fancy, layers=True).render())
    streams.print(f"All images on disk: {human_size(measured['TotalSize'], 3)}")
    return 0


def remove(context: Context, options: Options, arguments: list[str]) -> int:
    try:
        platforms = [platform_document(text) for given in options.texts("platform") for text in given.split(",")]
    except ValueError as error:
        raise CliError(str(error)) from None
    query: dict[str, Any] = {"force": options.flag("force"), "noprune": options.flag("no-prune"), "platforms": platforms}
    errors: list[str] = []
    fatal = False
    for reference in arguments:
        try:
            removed = context.client.delete(image_path(reference), query)
        except ApiError as error:
            errors.append(f"Error response from daemon: {error.message}")
            fatal = fatal or not error.is_not_found
            continue
        for item in removed:
            context.streams.print(f"Deleted: {item['Deleted']}" if item.get("Deleted") else f"Untagged: {item.get('Untagged', '')}")
    if not errors:
        return 0
    if options.flag("force") and not fatal:
        context.streams.print_error("\n".join(errors))
        return 0
    raise CliError("\n".join(errors))


def tag(context: Context, _options: Options, arguments: list[str]) -> int:
    from teul.errors import InvalidParameter
    from teul.oci.reference import parse_reference

    source, target = arguments
    try:
        reference = parse_reference(target).with_default_tag()
    except InvalidParameter as error:
        raise CliError(f'Error parsing reference: "{target}" is not a valid repository/tag: {error.message}') from None
    if reference.digest is not None:
        raise CliError("refusing to create a tag with a digest reference")
    context.client.post(image_path(source, "tag"), {"repo": reference.familiar_name, "tag": reference.tag})
    return 0


IMAGES = Command(
    "images [OPTIONS] [REPOSITORY[:TAG]]",
    "List images",
    images,
    options=(
        Option("all", BOOL, "Show all images (default hides intermediate images)", short="a"),
        Option("digests", BOOL, "Show digests"),
        Option("filter", "filter", "Filter output based on conditions provided", short="f"),
        Option("format", "string", FORMAT_HELP),
        Option("layers", BOOL, "Show the layers in the tree, and what everything takes on disk"),
        Option("no-trunc", BOOL, "Don't truncate output"),
        Option("quiet", BOOL, "Only show image IDs", short="q"),
        Option("tree", BOOL, "List multi-platform images as a tree (EXPERIMENTAL)"),
    ),
    maximum=1,
    aliases="image ls, image list, images",
)
REMOVE = Command(
    "rmi [OPTIONS] IMAGE [IMAGE...]",
    "Remove one or more images",
    remove,
    options=(
        Option("force", BOOL, "Force removal of the image", short="f"),
        Option("no-prune", BOOL, "Do not delete untagged parents"),
        Option("platform", "strings", 'Remove only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")'),
    ),
    minimum=1,
    aliases="image rm, image remove, rmi",
)
TAG = Command(
    "tag SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
    tag,
    minimum=2,
    maximum=2,
    aliases="image tag, tag",
)
