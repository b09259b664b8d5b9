"""`teul logs`."""

from __future__ import annotations

from teul.cli.command import Command
from teul.cli.errors import CliError
from teul.cli.options.parser import BOOL, Option
from teul.cli.options.timestamps import parse_timestamp
from teul.client.api import container_path
from teul.client.attach import write_all
from teul.wire.stdcopy import STDERR, SYSTEM_ERROR, Demultiplexer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from teul.cli.context import Context
    from teul.cli.options.parser import Options

_WHEN = '(e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)'


def logs(context: Context, options: Options, arguments: list[str]) -> int:
    try:
        since, until = (parse_timestamp(options.text(name)) if options.text(name) else None for name in ("since", "until"))
    except ValueError as error:
        raise CliError(f'invalid value for "since" or "until": {error}') from None
    container = context.client.get(container_path(arguments[0], "json"))
    query = {
        "stdout": True,
        "stderr": True,
        "since": since,
        "until": until,
        "timestamps": options.flag("timestamps"),
        "follow": options.flag("follow"),
        "details": options.flag("details"),
        "tail": options.text("tail"),
    }
    response = context.client.stream("GET", container_path(container["Id"], "logs"), query, alone=True)
    demultiplexer = None if container["Config"]["Tty"] else Demultiplexer()
    try:
        for data in response:
            _write(context, data, demultiplexer)
    finally:
        response.close()
    return 0


def _write(context: Context, data: bytes, demultiplexer: Demultiplexer | None) -> None:
    streams = context.streams
    if demultiplexer is None:
        write_all(streams.stdout_fd, data)
        return
    for stream, piece in demultiplexer.feed(data):
        if stream == SYSTEM_ERROR:
            raise CliError(f"error from daemon in stream: {piece.decode('utf-8', 'replace')}")
        write_all(streams.stderr_fd if stream == STDERR else streams.stdout_fd, piece)


LOGS = Command(
    "logs [OPTIONS] CONTAINER",
    "Fetch the logs of a container",
    logs,
    options=(
        Option("details", BOOL, "Show extra details provided to logs"),
        Option("follow", BOOL, "Follow log output", short="f"),
        Option("since", "string", f"Show logs since timestamp {_WHEN}"),
        Option("tail", "string", "Number of lines to show from the end of the logs", short="n", default="all"),
        Option("timestamps", BOOL, "Show timestamps", short="t"),
        Option("until", "string", f"Show logs before a timestamp {_WHEN}"),
    ),
    minimum=1,
    maximum=1,
    aliases="container logs, logs",
)
