"""`teul system dial-stdio`: what docker's client runs at the far end of ssh. docker: docker/cli cli/command/system/dial_stdio.go."""

from __future__ import annotations

from teul.cli.command import Command
from teul.client.attach import Pump
from teul.client.connection import HijackedStream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from teul.cli.context import Context
    from teul.cli.options.parser import Options


def dial_stdio(context: Context, _options: Options, _arguments: list[str]) -> int:
    """Bytes go both ways untouched; an end of the input is passed on, the end of the engine's side ends it all."""
    stream = HijackedStream(context.connect(), b"")
    try:
        Pump(stream, stdin_fd=context.streams.stdin_fd, stdout_fd=context.streams.stdout_fd, multiplexed=False).run()
    finally:
        stream.close()
    return 0


DIAL_STDIO = Command(
    "dial-stdio", "Proxy the stdio stream to the daemon connection. Should not be invoked manually.", dial_stdio, maximum=0
)
