"""`teul history`."""

from __future__ import annotations

from time import time

from teul.cli.command import Command
from teul.cli.format.listing import FORMAT_HELP, Listing, Row
from teul.cli.format.units import ellipsis, human_duration, human_size, rfc3339, short_id
from teul.cli.options.image import platform_of
from teul.cli.options.parser import BOOL, Option
from teul.client.api import image_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, ClassVar

    from teul.cli.context import Context
    from teul.cli.options.parser import Options

_COLUMNS = ("ID", "CreatedSince", "CreatedBy", "Size", "Comment")
_EXACT_COLUMNS = ("ID", "CreatedAt", "CreatedBy", "Size", "Comment")
_HEADERS = {
    "ID": "IMAGE",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "CreatedBy": "CREATED BY",
    "Size": "SIZE",
    "Comment": "COMMENT",
}
# docker: reproducible builds date everything to 1970, of which nobody wants to know how long ago it was.
_EPOCH = 946684800  # 2000-01-01


class LayerRow(Row):
    """One step of an image's history."""

    def __init__(self, layer: dict[str, Any], *, whole: bool, human: bool) -> None:
        self.layer = layer
        self.whole = whole
        self.human = human

    def created_at(self) -> str:
        return rfc3339(int(self.layer["Created"]))

    def created_since(self) -> str:
        if not self.human:
            return self.created_at()
        created = int(self.layer["Created"])
        return "N/A" if created <= _EPOCH else f"{human_duration(time() - created)} ago"

    def created_by(self) -> str:
        text = str(self.layer.get("CreatedBy") or "").replace("\t", " ")
        return text if self.whole else ellipsis(text, 45)

    def size(self) -> str:
        size_bytes = int(self.layer.get("Size") or 0)
        return human_size(size_bytes, 3) if self.human else str(size_bytes)

    FIELDS: ClassVar[Mapping[str, Callable[[Any], str | None]]] = {
        "ID": lambda row: str(row.layer["Id"]) if row.whole else short_id(row.layer["Id"]),
        "CreatedSince": created_since,
        "CreatedAt": created_at,
        "CreatedBy": created_by,
        "Size": size,
        "Comment": lambda row: str(row.layer.get("Comment") or ""),
    }


def history(context: Context, options: Options, arguments: list[str]) -> int:
    layers = context.client.get(image_path(arguments[0], "history"), {"platform": platform_of(options)})
    human = options.flag("human")
    rows = [LayerRow(layer, whole=options.flag("no-trunc"), human=human) for layer in layers]
    listing = Listing(_COLUMNS if human else _EXACT_COLUMNS, _HEADERS)
    context.streams.write(listing.render(rows, options.text("format"), quiet=options.flag("quiet")))
    return 0


HISTORY = Command(
    "history [OPTIONS] IMAGE",
    "Show the history of an image",
    history,
    options=(
        Option("format", "string", FORMAT_HELP),
        Option("human", BOOL, "Print sizes and dates in human readable format", short="H", default=True),
        Option("no-trunc", BOOL, "Don't truncate output"),
        Option("platform", "string", 'Show history for the given platform. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")'),
        Option("quiet", BOOL, "Only show image IDs", short="q"),
    ),
    minimum=1,
    maximum=1,
    aliases="image history, history",
)
