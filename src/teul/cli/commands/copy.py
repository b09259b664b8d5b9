"""`teul cp`: files and trees into a container and out of it."""

from __future__ import annotations

import os
from time import monotonic

from teul.cli.command import Command
from teul.cli.copying import paths
from teul.cli.errors import CliError
from teul.cli.files import reason
from teul.cli.format.units import human_size
from teul.cli.options.parser import BOOL, Option
from teul.client.api import container_path
from teul.client.attach import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from teul.cli.context import Context
    from teul.cli.copying.paths import Place
    from teul.cli.options.parser import Options

# Go's os.FileMode, which the engine tells modes in.
_DIRECTORY, _LINK, _DEVICE, _IRREGULAR = 1 << 31, 1 << 27, 1 << 26, 1 << 19
_STAT_HEADER = "x-docker-container-path-stat"
_PIECE_BYTES = 1 << 16
_REDRAWN_AFTER_SECONDS = 0.075
_SAVE, _RESTORE, _ERASE, _HIDE, _SHOW = "\x1b[s", "\x1b[u", "\x1b[2K", "\x1b[?25l", "\x1b[?25h"


def copy(context: Context, options: Options, arguments: list[str]) -> int:
    for argument, name in zip(arguments, ("source", "destination"), strict=True):
        if not argument:
            raise CliError(f"{name} can not be empty")
    (source_container, source), (container, destination) = (paths.split_argument(argument) for argument in arguments)
    quiet = options.flag("quiet") if options.given("quiet") else not context.streams.stdout_is_terminal
    if source_container and container:
        raise CliError("copying between containers is not supported")
    if source_container:
        _copy_from(context, source_container, source, destination, follow=options.flag("follow-link"), quiet=quiet)
    elif container:
        _copy_to(context, container, source, destination, options, quiet=quiet)
    else:
        raise CliError("must specify at least one container source")
    return 0


def _copy_from(context: Context, container: str, source: str, destination: str, *, follow: bool, quiet: bool) -> None:
    if destination != "-":
        destination = paths.absolute(destination)
    _check_output(destination)
    rebase = ""
    if follow:
        found = _find(context, container, source)
        if found is not None and found["mode"] & _LINK:
            source, rebase = paths.resolved(source, paths.joined(source, found["linkTarget"]))
    with context.client.stream("GET", container_path(container, "archive"), {"path": source}, alone=True) as response:
        if destination == "-":
            for data in response:
                write_all(context.streams.stdout_fd, data)
            return
        from teul.cli.copying.unpack import Stream, unpack

        found = _decode_stat(response.headers.get(_STAT_HEADER, ""))
        place = paths.Place(source, is_directory=bool(found["mode"] & _DIRECTORY), rebase=rebase)
        with Progress(context, "Copying from container - ", quiet=quiet) as progress:
            directory, old, new = paths.plan(place, paths.local_destination(destination))
            if rebase:  # the engine calls it what the link leads to
                old, new = paths.split_entry(source)[1], new or rebase
            stream = Stream(response.receive, progress.update)
            unpack(stream, directory, old, new)
    progress.tell(destination)


def _copy_to(context: Context, container: str, source: str, destination: str, options: Options, *, quiet: bool) -> None:
    place, shown = _remote_destination(context, container, destination), destination
    query = {"noOverwriteDirNonDir": "true", "copyUIDGID": "true" if options.flag("archive") else None}
    if source == "-":
        if not place.is_directory:
            raise CliError(f'destination "{container}:{shown}" must be a directory')
        directory, pieces = place.path, _standard_input(context)
    else:
        from teul.cli.copying.pack import pack

        found = paths.local_source(paths.absolute(source), follow=options.flag("follow-link"))
        directory, old, new = paths.plan(found, place)
        pieces = pack(found, context.streams.print_error, old, new)
    with Progress(context, "Copying to container - ", quiet=quiet) as progress:
        context.client.call(
            "PUT",
            container_path(container, "archive"),
            {"path": directory, **query},
            progress.watch(pieces),
            headers=[("Content-Type", "application/x-tar")],
        )
    progress.tell(f"{container}:{place.path}")


def _remote_destination(context: Context, container: str, path: str) -> Place:
    """What is at `path` in the container, a link being followed once. Raises `CliError` for what nothing can be put into."""
    shown = path
    found = _find(context, container, path)
    if found is not None and found["mode"] & _LINK:
        path = paths.joined(path, found["linkTarget"])
        found = _find(context, container, path)
    if found is None:
        return paths.Place(path, exists=False)
    for bit, why in ((_DEVICE, "got a device"), (_IRREGULAR, "got an irregular file")):
        if found["mode"] & bit:
            raise CliError(f'destination "{container}:{shown}" must be a directory or a regular file: {why}')
    return paths.Place(path, is_directory=bool(found["mode"] & _DIRECTORY))


def _find(context: Context, container: str, path: str) -> dict[str, Any] | None:
    """What the engine knows of a path; None when it says that there is nothing. docker: the copy itself says what else is wrong."""
    response = context.client.send("HEAD", container_path(container, "archive"), {"path": path})
    response.read()
    return _decode_stat(response.headers.get(_STAT_HEADER, "")) if response.status < 400 else None


def _decode_stat(header: str) -> dict[str, Any]:
    import binascii
    from base64 import b64decode

    from teul.wire.jsontext import InvalidJson, decode

    try:
        found = decode(b64decode(header))
        return {"mode": int(found["mode"]), "linkTarget": str(found.get("linkTarget") or "")}
    except (binascii.Error, InvalidJson, KeyError, TypeError, ValueError) as error:
        raise CliError(f"unable to get resource stat from response: unable to decode container path stat header: {error}") from None


def _check_output(path: str) -> None:
    """Refuse a local destination that is in no directory, or is a device. Raises `CliError`."""
    directory = os.path.dirname(paths.clean(path))
    if directory and not os.path.exists(directory):
        raise CliError(f'invalid output path: directory "{directory}" does not exist')
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise CliError(f"stat {path}: {reason(error)}") from None
    if mode & 0o170000 in (0o020000, 0o060000):
        raise CliError(f'invalid output path: "{path}" must be a directory or a regular file: got a device')


def _standard_input(context: Context) -> Iterator[bytes]:
    while data := os.read(context.streams.stdin_fd, _PIECE_BYTES):
        yield data


class Progress:
    """How much was copied, on a terminal while it goes on, and in one line at the end."""

    def __init__(self, context: Context, heading: str, *, quiet: bool) -> None:
        self._streams = context.streams
        self._heading = heading
        self._quiet = quiet
        self._draws = not quiet and context.streams.stderr_is_terminal
        self._drawn_bytes = self._copied_bytes = 0
        self._drawn_at = monotonic()

    def __enter__(self) -> Progress:
        if self._draws:
            self._streams.write_error(f"{_SAVE}Preparing to copy...{_HIDE}{_RESTORE}{_ERASE}{self._heading}0B")
        return self

    def __exit__(self, *details: object) -> None:
        if self._draws:
            self._streams.write_error(f"{_SHOW}{_RESTORE}{_ERASE}")

    def update(self, copied_bytes: int) -> None:
        self._copied_bytes = copied_bytes
        if self._draws and copied_bytes != self._drawn_bytes and monotonic() - self._drawn_at >= _REDRAWN_AFTER_SECONDS:
            self._drawn_bytes, self._drawn_at = copied_bytes, monotonic()
            self._streams.write_error(f"\x1b[{len(self._heading) + 1}G\x1b[0K{human_size(copied_bytes, 3)}")

    def watch(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            if piece:
                self.update(self._copied_bytes + len(piece))
                yield piece

    def tell(self, destination: str) -> None:
        if not self._quiet:
            self._streams.print_error(f"Successfully copied {human_size(self._copied_bytes, 3)} to {destination}")


COPY = Command(
    "cp [OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n\tteul cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
    "Copy files/folders between a container and the local filesystem",
    copy,
    description="Copy files/folders between a container and the local filesystem\n\n"
    "Use '-' as the source to read a tar archive from stdin\nand extract it to a directory destination in a container.\n"
    "Use '-' as the destination to stream a tar archive of a\ncontainer source to stdout.",
    options=(
        Option("archive", BOOL, "Archive mode (copy all uid/gid information)", short="a"),
        Option("follow-link", BOOL, "Always follow symbol link in SRC_PATH", short="L"),
        Option(
            "quiet",
            BOOL,
            "Suppress progress output during copy. Progress output is automatically suppressed if no terminal is attached",
            short="q",
        ),
    ),
    minimum=2,
    maximum=2,
    aliases="container cp, cp",
)
