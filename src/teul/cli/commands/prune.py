"""`teul container prune`, `image prune` and `system prune`, and what `network prune` has in common with them."""

from __future__ import annotations

from functools import partial

from teul.cli.command import Command
from teul.cli.errors import CliError
from teul.cli.format.ordering import natural_key
from teul.cli.format.units import human_size
from teul.cli.options.keyvalues import to_filters
from teul.cli.options.parser import BOOL, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from teul.cli.context import Context
    from teul.cli.options.parser import Options

_DANGLING_WARNING = "WARNING! This will remove all dangling images.\nAre you sure you want to continue?"
_ALL_WARNING = "WARNING! This will remove all images without at least one container associated to them.\nAre you sure you want to continue?"
_CONTAINERS_WARNING = "WARNING! This will remove all stopped containers.\nAre you sure you want to continue?"
_SHOWN_FILTERS = ("label", "label!", "until")
_OPPOSITE = {"label": "label!", "label!": "label"}


def confirmed(context: Context, question: str) -> bool:
    """Whether the user answers `y`; no answer is no."""
    from teul.cli.format.prompt import read_line

    context.streams.write(f"{question} [y/N] ")
    return read_line(context.streams.stdin_fd).strip().lower() == "y"


def prune_filters(given: list[str], configured: object) -> Iterator[str]:
    """The filters of the command line and those of `pruneFilters` in the user's settings that do not contradict them."""
    yield from given
    for text in configured if isinstance(configured, list) else []:
        name, equals, value = str(text).partition("=")
        if equals and not (name in _OPPOSITE and f"{_OPPOSITE[name]}={value}" in given):
            yield str(text)


def prune_containers(context: Context, filters: list[str]) -> tuple[str, int]:
    """What was removed, as it is told, and how many bytes that had."""
    report = _pruned(context, "/containers/prune", filters)
    return _told("Deleted Containers:", report.get("ContainersDeleted"), report)


def prune_networks(context: Context, filters: list[str]) -> tuple[str, int]:
    """As `prune_containers`."""
    report = _pruned(context, "/networks/prune", filters)
    return _told("Deleted Networks:", report.get("NetworksDeleted"), report)


def _prune_volumes(context: Context, filters: list[str]) -> tuple[str, int]:
    report = _pruned(context, "/volumes/prune", filters)
    return _told("Deleted Volumes:", report.get("VolumesDeleted"), report)


def _prune_images(context: Context, filters: list[str], *, everything: bool) -> tuple[str, int]:
    report = _pruned(context, "/images/prune", [*filters, f"dangling={'false' if everything else 'true'}"])
    deleted = report.get("ImagesDeleted") or []
    lines = [f"untagged: {item['Untagged']}" if item.get("Untagged") else f"deleted: {item.get('Deleted', '')}" for item in deleted]
    return _told("Deleted Images:", lines, report)


def _prune_build_cache(context: Context, filters: list[str], *, everything: bool) -> tuple[str, int]:
    report = _pruned(context, "/build/prune", filters, all="1" if everything else None)
    text, _ = _told("Deleted build cache objects:", report.get("CachesDeleted"), report)
    return text, report.get("SpaceReclaimed", 0)


def _pruned(context: Context, path: str, filters: list[str], **query: str | None) -> dict[str, Any]:
    chosen = to_filters(list(prune_filters(filters, context.config.get("pruneFilters"))))
    report: dict[str, Any] = context.client.post(path, {"filters": chosen, **query})
    return report


def _told(title: str, names: list[str] | None, report: dict[str, Any]) -> tuple[str, int]:
    # docker: what was gained is counted only if something was removed.
    return ("\n".join([title, *names, ""]), report.get("SpaceReclaimed", 0)) if names else ("", 0)


def _print_report(context: Context, text: str, freed_bytes: int) -> None:
    if text:
        context.streams.print(text)
    context.streams.print(f"Total reclaimed space: {human_size(freed_bytes)}")


def container_prune(context: Context, options: Options, _arguments: list[str]) -> int:
    if options.flag("force") or confirmed(context, _CONTAINERS_WARNING):
        _print_report(context, *prune_containers(context, options.texts("filter")))
    return 0  # docker: it is not a failure that the user thought better of it


def image_prune(context: Context, options: Options, _arguments: list[str]) -> int:
    everything = options.flag("all")
    if options.flag("force") or confirmed(context, _ALL_WARNING if everything else _DANGLING_WARNING):
        _print_report(context, *_prune_images(context, options.texts("filter"), everything=everything))
    return 0


def system_prune(context: Context, options: Options, _arguments: list[str]) -> int:
    filters, everything, volumes = options.texts("filter"), options.flag("all"), options.flag("volumes")
    if volumes and any(text.partition("=")[0].strip().lower() == "until" for text in filters):
        raise CliError('ERROR: The "until" filter is not supported with "--volumes"')
    if not options.flag("force") and not confirmed(context, _system_warning(context, filters, everything=everything, volumes=volumes)):
        return 0
    freed_bytes = 0
    steps = [prune_containers, prune_networks, *([_prune_volumes] if volumes else [])]
    steps += [partial(_prune_images, everything=everything), partial(_prune_build_cache, everything=everything)]
    for prune in steps:
        text, step_bytes = prune(context, filters)
        freed_bytes += step_bytes
        if text:
            context.streams.print(text)
    context.streams.print(f"Total reclaimed space: {human_size(freed_bytes)}")
    return 0


def _system_warning(context: Context, filters: list[str], *, everything: bool, volumes: bool) -> str:
    goes = ["all stopped containers", "all networks not used by at least one container"]
    if volumes:
        goes.append("all anonymous volumes not used by at least one container")
    goes.append("all images without at least one container associated to them" if everything else "all dangling images")
    goes.append("all build cache" if everything else "unused build cache")
    chosen = [text for text in prune_filters(filters, context.config.get("pruneFilters")) if text.partition("=")[0] in _SHOWN_FILTERS]
    lines = ["WARNING! This will remove:", *(f"  - {text}" for text in goes), ""]
    if chosen:
        lines += ["  Items to be pruned will be filtered with:", *(f"  - {text}" for text in sorted(set(chosen), key=natural_key)), ""]
    return "\n".join([*lines, "Are you sure you want to continue?"])


PRUNE_IMAGES = Command(
    "prune [OPTIONS]",
    "Remove unused images",
    image_prune,
    options=(
        Option("all", BOOL, "Remove all unused images, not just dangling ones", short="a"),
        Option("filter", "filter", 'Provide filter values (e.g. "until=<timestamp>")'),
        Option("force", BOOL, "Do not prompt for confirmation", short="f"),
    ),
    maximum=0,
)
PRUNE_CONTAINERS = Command(
    "prune [OPTIONS]",
    "Remove all stopped containers",
    container_prune,
    options=(
        Option("filter", "filter", 'Provide filter values (e.g. "until=<timestamp>")'),
        Option("force", BOOL, "Do not prompt for confirmation", short="f"),
    ),
    maximum=0,
)
PRUNE_SYSTEM = Command(
    "prune [OPTIONS]",
    "Remove unused data",
    system_prune,
    options=(
        Option("all", BOOL, "Remove all unused images not just dangling ones", short="a"),
        Option("filter", "filter", 'Provide filter values (e.g. "label=<key>=<value>")'),
        Option("force", BOOL, "Do not prompt for confirmation", short="f"),
        Option("volumes", BOOL, "Prune anonymous volumes"),
    ),
    maximum=0,
)
