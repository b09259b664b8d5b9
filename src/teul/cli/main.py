"""The `teul` command: global options, the choice of a command, and the one place where errors become text and exit codes.

Everything is imported when it is needed: start-up time is what a user of `teul run` feels.
"""

from __future__ import annotations

import os
import sys

from teul.cli.context import Context, Streams
from teul.cli.errors import CliError, UsageError
from teul.cli.options.parser import BOOL, Option, Options, parse_options
from teul.cli.table import ALIASES, COMMANDS, COMMON, GROUPS, HIDDEN, MISSING
from teul.client.errors import ApiError, ConnectionFailed, OutputFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from teul.cli.command import Command
    from teul.cli.table import Row

PROGRAM = "teul"
TAGLINE = "Containers, cast from images"
INTERRUPTED = 130  # 128 + SIGINT, as shells have it

GLOBAL_OPTIONS = (
    Option("config", "string", "Location of client config files", shown='"~/.docker"'),
    Option(
        "context",
        "string",
        'Name of the context to use to connect to the daemon (overrides DOCKER_HOST env var and default context set with "docker '
        'context use")',
        short="c",
    ),
    Option("debug", BOOL, "Enable debug mode", short="D"),
    Option("host", "list", "Daemon socket to connect to", short="H"),
    Option("tls", BOOL, "Use TLS; implied by --tlsverify"),
    Option("tlscacert", "string", "Trust certs signed only by this CA", shown='"~/.docker/ca.pem"'),
    Option("tlscert", "string", "Path to TLS certificate file", shown='"~/.docker/cert.pem"'),
    Option("tlskey", "string", "Path to TLS key file", shown='"~/.docker/key.pem"'),
    Option("tlsverify", BOOL, "Use TLS and verify the remote"),
    Option("version", BOOL, "Print version information and quit", short="v"),
)


def main() -> int:
    """The console script. Does not return from a finished command: see `_leave`."""
    arguments = sys.argv[1:]
    streams = Streams()
    streams.keep_places()
    status = run(arguments, os.environ, streams)
    if "serve" not in arguments[:1]:
        _leave(status)
    return status


def _leave(status: int) -> None:
    """Exit without taking the interpreter apart, which would cost milliseconds for nothing: output is unbuffered."""
    os._exit(status)


def run(arguments: Sequence[str], environment: Mapping[str, str], streams: Streams) -> int:
    """Carry out one command line and return its exit code. Errors are printed, and after them the hints that came with them."""
    hints: list[str] = []
    status = _report(arguments, environment, streams, hints)
    for hint in hints if status else ():
        streams.print_error(f"hint: {hint}")
    return status


def _report(arguments: Sequence[str], environment: Mapping[str, str], streams: Streams, hints: list[str]) -> int:
    try:
        return _dispatch(arguments, environment, streams, hints)
    except CliError as error:
        if error.message:
            streams.print_error(error.message)
        return error.status
    except ApiError as error:
        streams.print_error(f"Error response from daemon: {error.message}")
        return 1
    except (ConnectionFailed, OutputFailed) as error:
        streams.print_error(error.message)
        hints += [error.hint] if isinstance(error, ConnectionFailed) and error.hint else []
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return _die_of_broken_pipe()


def _die_of_broken_pipe() -> int:
    """The reader of this command's output has left: end as any program does that nobody listens to."""
    from _signal import SIG_DFL, SIGPIPE, signal  # type: ignore[import-not-found]  # see client/signals.py

    signal(SIGPIPE, SIG_DFL)
    os.kill(os.getpid(), SIGPIPE)
    return 128 + int(SIGPIPE)


def _dispatch(arguments: Sequence[str], environment: Mapping[str, str], streams: Streams, hints: list[str]) -> int:
    try:
        options, rest = parse_options(GLOBAL_OPTIONS, arguments, interspersed=False)
    except UsageError as error:
        usage = f"{PROGRAM} [OPTIONS] COMMAND [ARG...]"
        raise CliError(f"{error.message}\n\nUsage:  {usage}\n\nRun '{PROGRAM} --help' for more information", 125) from None
    if options.flag("version"):
        return _print_version(streams)
    if options.flag("help") or not rest or (rest[0] == "help" and len(rest) == 1):
        streams.write(_root_help(_width(streams)))
        return 0
    if rest[0] == "help":
        rest = [*rest[1:], "--help"]
    hosts = options.texts("host")
    if len(hosts) > 1:
        raise CliError("Specify only one -H")
    context = Context(
        environment,
        streams,
        program=PROGRAM,
        host=hosts[0] if hosts else "",
        context_name=options.text("context"),
        config_directory=options.text("config"),
        debug=options.flag("debug"),
        options=options,
    )
    path, row, rest = _find(rest, streams)
    if row is None:
        return 0
    try:
        return _run_command(path, _load(row), context, rest)
    finally:
        hints += context.hints
        context.close()


def _find(words: list[str], streams: Streams) -> tuple[str, Row | None, list[str]]:
    """The command that `words` begins with, by its full name, and the words after it. None when help was printed instead."""
    name, *rest = words
    row = COMMON.get(name) or COMMANDS.get(name)
    if row is not None:
        return f"{PROGRAM} {name}", row, rest
    if name in MISSING or (name, *rest[:1]) == ("image", "build"):
        raise CliError(f"{PROGRAM}: {MISSING[rest[0] if name == 'image' else name]}")
    if name not in GROUPS:
        raise CliError(f"{PROGRAM}: unknown command: {PROGRAM} {name}\n\nRun '{PROGRAM} --help' for more information")
    summary, commands = GROUPS[name]
    path = f"{PROGRAM} {name}"
    if not rest or rest[0] in ("--help", "-h", "help"):
        from teul.cli.format.help import group_help

        streams.write(group_help(path, summary, {verb: found[2] for verb, found in commands.items() if (name, verb) not in HIDDEN}))
        return path, None, []
    verb = ALIASES.get((name, rest[0]), rest[0])
    if verb not in commands:
        raise CliError(f"{PROGRAM}: unknown command: {path} {rest[0]}\n\nUsage:  {path}\n\nRun '{path} --help' for more information")
    return f"{path} {verb}", commands[verb], rest[1:]


def _load(row: Row) -> Command:
    module = __import__(f"teul.cli.commands.{row[0]}", fromlist=(row[1],))
    command: Command = getattr(module, row[1])
    return command


def _run_command(path: str, command: Command, context: Context, arguments: list[str]) -> int:
    _, _, tail = command.usage.partition(" ")
    usage = f"{path} {tail}" if tail else path
    if command.raw:
        return command.function(context, Options(command.options, {}), arguments)
    try:
        options, rest = parse_options(command.options, arguments, interspersed=command.interspersed)
        if options.flag("help"):
            from teul.cli.format.help import command_help

            context.streams.write(command_help(context.program, path, command, _width(context.streams)))
            return 0
        command.check_arguments(path, usage, rest)
        return command.function(context, options, rest)
    except UsageError as error:
        raise CliError(f"{error.message}\n\nUsage:  {usage}\n\nRun '{path} --help' for more information", error.status) from None


def _width(streams: Streams) -> int:
    from teul.cli.format.help import DEFAULT_WIDTH
    from teul.client.terminal import window_size

    return window_size(streams.stdin_fd)[1] or DEFAULT_WIDTH


def _print_version(streams: Streams) -> int:
    from teul import __version__

    streams.print(f"Teul version {__version__}")
    return 0


def _root_help(width: int) -> str:
    from teul.cli.format.help import command_lines, more_help, option_lines

    def listed(rows: Mapping[str, Row]) -> str:
        return command_lines({name: row[2] for name, row in rows.items()})

    groups = command_lines({name: summary for name, (summary, _) in GROUPS.items()})
    return (
        f"Usage:  {PROGRAM} [OPTIONS] COMMAND\n\n{TAGLINE}\n\nCommon Commands:\n{listed(COMMON)}\n\nManagement Commands:\n{groups}\n\n"
        f"Commands:\n{listed(COMMANDS)}\n\nGlobal Options:\n{option_lines(GLOBAL_OPTIONS, width)}\n\n{more_help(PROGRAM)}\n"
    )
