"""`teul load` and `teul import`: archives into the engine."""

from __future__ import annotations

from teul.cli.command import Command
from teul.cli.errors import CliError
from teul.cli.format.progress import display
from teul.cli.options.image import chosen_platform, platform_of
from teul.cli.options.parser import BOOL, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from teul.cli.context import Context
    from teul.cli.options.parser import Options

_PIECE_BYTES = 1 << 20
_TAR = [("Content-Type", "application/x-tar")]


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while data := file.read(_PIECE_BYTES):
        yield data


def _open(path: str) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        reason = error.strerror.lower() if error.strerror else str(error)
        raise CliError(f"open {path}: {reason}") from None


def load(context: Context, options: Options, _arguments: list[str]) -> int:
    path = options.text("input")
    if not path and context.streams.stdin_is_terminal:
        raise CliError("requested load from stdin, but stdin is empty")
    quiet = options.flag("quiet") or not context.streams.stdout_is_terminal
    query = {"quiet": "1" if quiet else "0", "platform": platform_of(options)}
    source = _open(path) if path else open(context.streams.stdin_fd, "rb", buffering=0, closefd=False)
    with source:
        messages = context.client.messages("POST", "/images/load", query, _pieces(source), headers=_TAR)
        display(context, messages, to_stdout=True)
    return 0


def import_image(context: Context, options: Options, arguments: list[str]) -> int:
    source = arguments[0]
    query: dict[str, str | int | bool | list[str] | None] = {
        "fromSrc": "-",
        "repo": arguments[1] if len(arguments) > 1 else None,
        "message": options.text("message") or None,
        "changes": options.texts("change"),
        "platform": chosen_platform(options, context.environment).lower() or None,
    }
    if source.startswith(("http://", "https://")):
        query["fromSrc"] = source
        display(context, context.client.messages("POST", "/images/create", query), to_stdout=True)
        return 0
    file = open(context.streams.stdin_fd, "rb", buffering=0, closefd=False) if source == "-" else _open(source)
    with file:
        messages = context.client.messages("POST", "/images/create", query, _pieces(file), headers=_TAR)
        display(context, messages, to_stdout=True)
    return 0


LOAD = Command(
    "load [OPTIONS]",
    "Load an image from a tar archive or STDIN",
    load,
    options=(
        Option("input", "string", "Read from tar archive file, instead of STDIN", short="i"),
        Option("platform", "string", 'Load only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")'),
        Option("quiet", BOOL, "Suppress the load output", short="q"),
    ),
    maximum=0,
    aliases="image load, load",
)
IMPORT = Command(
    "import [OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
    "Import the contents from a tarball to create a filesystem image",
    import_image,
    options=(
        Option("change", "list", "Apply Dockerfile instruction to the created image", short="c"),
        Option("message", "string", "Set commit message for imported image", short="m"),
        Option("platform", "string", "Set platform if server is multi-platform capable"),
    ),
    minimum=1,
    aliases="image import, import",
)
