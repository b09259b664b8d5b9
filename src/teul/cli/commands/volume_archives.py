"""`teul volume export`, `import` and `clone`: the backup of volumes. docker has no such commands."""

from __future__ import annotations

from teul.cli.command import Command
from teul.cli.commands.save import fetch_archive
from teul.cli.commands.volume import volume_path
from teul.cli.errors import CliError
from teul.cli.files import reason
from teul.cli.options.parser import BOOL, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from teul.cli.context import Context
    from teul.cli.options.parser import Options

_PIECE_BYTES = 1 << 20
_TAR = [("Content-Type", "application/x-tar")]
_COMPRESSIONS = ("gzip", "zstd")


def export(context: Context, options: Options, arguments: list[str]) -> int:
    compression = options.text("compress")
    if options.given("compress") and compression not in _COMPRESSIONS:
        raise CliError(f'unknown compression: "{compression}": must be one of "gzip", "zstd"')
    path, query = f"/teul{volume_path(arguments[0])}/archive", {"compression": compression or None}
    return fetch_archive(context, options, "failed to export volume", path, query)


def import_volume(context: Context, options: Options, arguments: list[str]) -> int:
    name, source = arguments
    if source == "-" and context.streams.stdin_is_terminal:
        raise CliError("requested import from stdin, but stdin is a terminal")
    path = f"/teul{volume_path(name)}/archive"
    try:
        file = open(context.streams.stdin_fd, "rb", buffering=0, closefd=False) if source == "-" else open(source, "rb")
    except OSError as error:
        raise CliError(f"open {source}: {reason(error)}") from None
    with file:
        made = context.client.post(path, {"create": options.flag("create")}, _pieces(file), headers=_TAR, alone=True)
    context.streams.print(made["Name"])
    return 0


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while data := file.read(_PIECE_BYTES):
        yield data


def clone(context: Context, _options: Options, arguments: list[str]) -> int:
    source, target = arguments
    volume_path(target)  # an empty name is refused here already
    context.streams.print(context.client.post(f"/teul{volume_path(source)}/clone", {"to": target})["Name"])
    return 0


EXPORT = Command(
    "export [OPTIONS] VOLUME",
    "Export what is in a volume as a tar archive",
    export,
    options=(
        Option("compress", "string", 'Compress the archive ("gzip", "zstd")'),
        Option("output", "string", "Write to a file, instead of STDOUT", short="o"),
    ),
    minimum=1,
    maximum=1,
)
IMPORT = Command(
    "import [OPTIONS] VOLUME file|-",
    "Import the contents of a tar archive into an empty volume",
    import_volume,
    options=(Option("create", BOOL, "Create the volume if it does not exist"),),
    minimum=2,
    maximum=2,
)
CLONE = Command(
    "clone VOLUME NEW_VOLUME",
    "Copy a volume into a new one",
    clone,
    minimum=2,
    maximum=2,
)
