"""`teul image prune`."""

from __future__ import annotations

from teul.cli.command import Command
from teul.cli.format.units import human_size
from teul.cli.options.keyvalues import to_filters
from teul.cli.options.parser import BOOL, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from teul.cli.context import Context
    from teul.cli.options.parser import Options

_DANGLING_WARNING = "WARNING! This will remove all dangling images.\nAre you sure you want to continue?"
_ALL_WARNING = "WARNING! This will remove all images without at least one container associated to them.\nAre you sure you want to continue?"
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


def prune_images(context: Context, options: Options, _arguments: list[str]) -> int:
    everything = options.flag("all")
    filters = [*options.texts("filter"), f"dangling={'false' if everything else 'true'}"]
    if not options.flag("force") and not confirmed(context, _ALL_WARNING if everything else _DANGLING_WARNING):
        return 0  # docker: it is not a failure that the user thought better of it
    query = {"filters": to_filters(list(prune_filters(filters, context.config.get("pruneFilters"))))}
    report = context.client.post("/images/prune", query)
    deleted = report.get("ImagesDeleted") or []
    lines = [f"untagged: {item['Untagged']}\n" if item.get("Untagged") else f"deleted: {item.get('Deleted', '')}\n" for item in deleted]
    if lines:
        context.streams.print("Deleted Images:\n" + "".join(lines))
    context.streams.print(f"Total reclaimed space: {human_size(report.get('SpaceReclaimed', 0) if lines else 0)}")
    return 0


PRUNE_IMAGES = Command(
    "prune [OPTIONS]",
    "Remove unused images",
    prune_images,
    options=(
        Option("all", BOOL, "Remove all unused images, not just dangling ones", short="a"),
        Option("filter", "filter", 'Provide filter values (e.g. "until=<timestamp>")'),
        Option("force", BOOL, "Do not prompt for confirmation", short="f"),
    ),
    maximum=0,
)
