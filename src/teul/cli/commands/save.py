"""`teul save`, `teul export` and `teul diff`: what is in images and containers, out of the engine."""

from __future__ import annotations

from teul.cli.command import Command
from teul.cli.errors import CliError
from teul.cli.files import check_output, reason, replacing
from teul.cli.options.image import platform_of
from teul.cli.options.parser import Option
from teul.client.api import container_path
from teul.client.attach import write_all
from teul.client.errors import OutputFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from teul.cli.context import Context
    from teul.cli.options.parser import Options
    from teul.client.api import Query

_OUTPUT = Option("output", "string", "Write to a file, instead of STDOUT", short="o")
# moby api/types/container: what `Kind` says of a path.
_KINDS = ("C", "A", "D")


def save(context: Context, options: Options, arguments: list[str]) -> int:
    return fetch_archive(context, options, "failed to save image", "/images/get", {"names": arguments, "platform": platform_of(options)})


def export(context: Context, options: Options, arguments: list[str]) -> int:
    return fetch_archive(context, options, "failed to export container", container_path(arguments[0], "export"), {})


def fetch_archive(context: Context, options: Options, failure: str, path: str, query: Query) -> int:
    """Write the archive that the engine answers with. A file is there as a whole or not at all; nobody but its owner may read it."""
    output = options.text("output")
    if not output:
        if context.streams.stdout_is_terminal:
            raise CliError("cowardly refusing to save to a terminal. Use the -o flag or redirect")
        _copy(context, path, query, context.streams.stdout_fd)
        return 0
    try:
        check_output(output)
        with replacing(output) as fd:
            _copy(context, path, query, fd)
    except ValueError as error:
        raise CliError(f"{failure}: {error}") from None
    except OSError as error:
        raise CliError(f"{failure}: open {output}: {reason(error)}") from None
    except OutputFailed as error:
        raise CliError(f"{failure}: write {output}: {error.reason}") from None
    return 0


def _copy(context: Context, path: str, query: Query, fd: int) -> None:
    with context.client.stream("GET", path, query, alone=True) as response:
        for data in response:
            write_all(fd, data)


def diff(context: Context, _options: Options, arguments: list[str]) -> int:
    if not arguments[0]:
        raise CliError("Container name cannot be empty")
    changes = context.client.get(container_path(arguments[0], "changes")) or []
    context.streams.write("".join(f"{_KINDS[change['Kind']]} {change['Path']}\n" for change in changes))
    return 0


SAVE = Command(
    "save [OPTIONS] IMAGE [IMAGE...]",
    "Save one or more images to a tar archive (streamed to STDOUT by default)",
    save,
    options=(
        _OUTPUT,
        Option("platform", "string", 'Save only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")'),
    ),
    minimum=1,
    aliases="image save, save",
)
EXPORT = Command(
    "export [OPTIONS] CONTAINER",
    "Export a container's filesystem as a tar archive",
    export,
    options=(_OUTPUT,),
    minimum=1,
    maximum=1,
    aliases="container export, export",
)
DIFF = Command(
    "diff CONTAINER",
    "Inspect changes to files or directories on a container's filesystem",
    diff,
    minimum=1,
    maximum=1,
    aliases="container diff, diff",
)
