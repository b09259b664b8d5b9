"""`teul serve`: the engine itself. Its options are the engine's own affair."""

from __future__ import annotations

from teul.cli.command import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from teul.cli.context import Context
    from teul.cli.options.parser import Options


def serve(_context: Context, _options: Options, arguments: list[str]) -> int:
    from teul.daemon.main import main

    return main(arguments)


# The arguments reach the engine unread, `--help` among them.
SERVE = Command("serve [OPTIONS]", "Run the engine in the foreground", serve, interspersed=False, raw=True)
