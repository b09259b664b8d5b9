"""`teul image pack`: an image out of programs of this host, with everything that they need, loaded like any other image."""

from __future__ import annotations

import os
import stat

from teul.cli.command import Command
from teul.cli.errors import CliError
from teul.cli.options.keyvalues import parse_environment
from teul.cli.options.parser import Option
from teul.cli.packing.tree import Tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from teul.cli.context import Context
    from teul.cli.options.parser import Options
    from teul.cli.packing.archive import ImageSettings

_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
_PASSWD = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
_GROUP = b"root:x:0:\nnogroup:x:65534:\n"
# Without this nsswitch.conf, glibc would look for modules of other name services first.
_NSSWITCH = b"passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n"


def pack(context: Context, options: Options, arguments: list[str]) -> int:
    from tempfile import TemporaryFile

    from teul.cli.format.progress import display
    from teul.cli.packing.archive import archive_pieces, write_layer

    if not arguments and not options.texts("path"):
        raise CliError("nothing to pack: name a program, or a file with --path")
    if not options.texts("tag") and not options.text("output"):
        raise CliError("the image needs a name (--tag), or a file to be written to (--output)")
    given = _epoch(context.environment.get("SOURCE_DATE_EPOCH", ""))
    epoch_seconds = given or 0
    tree = Tree()
    programs = _collect(tree, context, options, arguments)
    # The image is as old as the youngest of its files: a time that says something, and the same one for the same files.
    created_seconds = tree.newest_seconds() if given is None else given
    settings = _settings(context, options, arguments, programs, epoch_seconds=epoch_seconds, created_seconds=created_seconds)
    with TemporaryFile() as layer:
        digest, size_bytes = write_layer(tree, layer, epoch_seconds)
        pieces = archive_pieces(layer, digest, size_bytes, settings)
        if options.text("output"):
            _write_file(options.text("output"), pieces)
            return 0
        headers = [("Content-Type", "application/x-tar")]
        display(context, context.client.messages("POST", "/images/load", {"quiet": "1"}, pieces, headers=headers), to_stdout=True)
    return 0


def _epoch(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise CliError(f"SOURCE_DATE_EPOCH is not a number of seconds: {text!r}")
    return int(text)


def _collect(tree: Tree, context: Context, options: Options, arguments: list[str]) -> list[str]:
    """Fill the tree; returns the paths of the programs. The files that the user named come first, so that they win."""
    from teul.cli.packing.programs import Programs, load_cache

    for path in options.texts("path"):
        tree.add_tree(path)
    programs = Programs(tree, context.environment.get("PATH", ""), load_cache())
    missing = [name for name in arguments if programs.find(name) is None]
    if missing:
        word = "program" if len(missing) == 1 else "programs"
        raise CliError(f"cannot pack: no such {word}: {', '.join(missing)}")
    found = [programs.add(name) for name in arguments]
    for text in programs.warnings:
        context.streams.print_error(f"WARNING: {text}")
    _add_frame(tree)
    return found


def _add_frame(tree: Tree) -> None:
    """Add what every root file system has, and the host's links between its top directories, as far as they lead somewhere."""
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        path = f"/{name}"
        if os.path.islink(path) and any(found.startswith(os.path.realpath(path) + "/") for found in tree.entries):
            tree.add(path)
    for directory in ("/dev", "/etc", "/proc", "/run", "/sys", "/var"):
        tree.make_directory(directory)
    tree.make_directory("/root", 0o700)
    for directory in ("/tmp", "/var/tmp"):
        tree.make_directory(directory, stat.S_ISVTX | 0o777)
    tree.make_file("/etc/passwd", _PASSWD)
    tree.make_file("/etc/group", _GROUP)
    tree.make_file("/etc/nsswitch.conf", _NSSWITCH)


def _settings(
    context: Context, options: Options, arguments: list[str], programs: list[str], *, epoch_seconds: int, created_seconds: int
) -> ImageSettings:
    from teul.cli.packing.archive import ImageSettings

    try:
        variables = parse_environment(options.texts("env"), [], context.environment)
    except ValueError as error:
        raise CliError(str(error)) from None
    directories = dict.fromkeys([*_PATH, *(os.path.dirname(path) for path in programs)])
    if not any(variable.startswith("PATH=") for variable in variables):
        variables = [f"PATH={':'.join(directories)}", *variables]
    process: dict[str, Any] = {"Env": variables}
    if options.text("entrypoint"):
        process["Entrypoint"] = parse_words(options.text("entrypoint"))
    command = _command(options, arguments)
    if command:
        process["Cmd"] = command
    process["WorkingDir"] = "/"
    machine = os.uname().machine
    return ImageSettings(
        names=tuple(_full_name(name) for name in options.texts("tag")),
        architecture=_ARCHITECTURES.get(machine, machine),
        process=process,
        created_by=" ".join([f"{context.program} image pack", *arguments, *(f"--path {path}" for path in options.texts("path"))]),
        epoch_seconds=epoch_seconds,
        created_seconds=created_seconds,
    )


def _command(options: Options, arguments: list[str]) -> list[str]:
    """The command that runs by default: the one that the user asked for, else a shell if there is one, else the first program."""
    if options.text("cmd"):
        return parse_words(options.text("cmd"))
    if options.text("entrypoint") or not arguments:
        return []
    names = [os.path.basename(name) for name in arguments]
    return [next((name for name in ("bash", "sh") if name in names), arguments[0])]


def parse_words(text: str) -> list[str]:
    """A command as a Dockerfile's: a JSON array, or words that may be quoted. Raises `CliError`."""
    if text.startswith("["):
        from teul.wire.jsontext import InvalidJson, decode

        try:
            words = decode(text)
        except InvalidJson:
            words = None
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise CliError(f"not a JSON array of strings: {text}")
        return words
    from shlex import split

    try:
        return split(text)
    except ValueError as error:
        raise CliError(f"invalid command {text!r}: {error}") from None


def _full_name(name: str) -> str:
    from teul.errors import InvalidParameter
    from teul.oci.reference import parse_reference

    try:
        reference = parse_reference(name).with_default_tag()
    except InvalidParameter as error:
        raise CliError(f'invalid argument "{name}" for "-t, --tag" flag: {error.message}', 125) from None
    if reference.digest is not None:
        raise CliError(f'invalid argument "{name}" for "-t, --tag" flag: a name for an image cannot have a digest', 125)
    return reference.familiar


def _write_file(path: str, pieces: Iterator[bytes]) -> None:
    try:
        with open(path, "wb") as file:
            file.writelines(pieces)
    except OSError as error:
        raise CliError(f"cannot write {path}: {error.strerror}") from None


PACK = Command(
    "pack [OPTIONS] PROGRAM...",
    "Make an image out of programs of this host",
    pack,
    options=(
        Option("cmd", "string", "Default command of the image: words, or a JSON array"),
        Option("entrypoint", "string", "Entrypoint of the image: words, or a JSON array"),
        Option("env", "list", "Set environment variables of the image", short="e"),
        Option("output", "string", "Write the image to a file instead of loading it", short="o"),
        Option("path", "list", "Add a file or a tree of the host, at the same place"),
        Option("tag", "list", "Name of the image", short="t"),
    ),
    aliases="",
)
