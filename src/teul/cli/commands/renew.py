"""`teul renew`, `rollback`, `outdated` and `container history`: containers of newer images, and back."""

from __future__ import annotations

from time import time

from teul.cli.command import Command
from teul.cli.errors import CliError
from teul.cli.format.listing import FORMAT_HELP, Listing, Row
from teul.cli.format.progress import display
from teul.cli.format.units import human_duration, short_id
from teul.cli.options.keyvalues import parse_environment, to_filters
from teul.cli.options.parser import BOOL, Option
from teul.client.api import container_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, ClassVar

    from teul.cli.context import Context
    from teul.cli.options.parser import Options

    Document = dict[str, Any]


class GenerationRow(Row):
    """One container that had the name."""

    def __init__(self, generation: Document, *, whole: bool) -> None:
        self.generation = generation
        self.whole = whole

    def result(self) -> str:
        if not self.generation["Result"]:
            return "current"
        return f"{self.generation['Result']} (kept)" if self.generation["Kept"] else str(self.generation["Result"])

    def identifier(self, name: str) -> str:
        return str(self.generation[name]) if self.whole else short_id(self.generation[name])

    FIELDS: ClassVar[Mapping[str, Callable[[Any], str | None]]] = {
        "Generation": lambda row: str(row.generation["Generation"]),
        "ID": lambda row: row.identifier("Id"),
        "Image": lambda row: str(row.generation["Image"]),
        "ImageID": lambda row: row.identifier("ImageID"),
        "Since": lambda row: f"{human_duration(time() - row.generation['Began'])} ago",
        "Changes": lambda row: ", ".join(row.generation["Changes"]),
        "Result": result,
    }


class OutdatedRow(Row):
    """One container that is not of the image that its reference means by now."""

    def __init__(self, container: Document, *, whole: bool) -> None:
        self.container = container
        self.whole = whole

    def identifier(self, name: str) -> str:
        return str(self.container[name]) if self.whole else short_id(self.container[name])

    FIELDS: ClassVar[Mapping[str, Callable[[Any], str | None]]] = {
        "ID": lambda row: row.identifier("Id"),
        "Name": lambda row: str(row.container["Name"]),
        "Image": lambda row: str(row.container["Image"]),
        "ImageID": lambda row: row.identifier("ImageID"),
        "NewImageID": lambda row: row.identifier("NewImageID"),
    }


def renew(context: Context, options: Options, arguments: list[str]) -> int:
    body = _changes(options, context.environment)
    if not options.flag("all"):
        if len(arguments) != 1:
            raise CliError("'renew' requires exactly 1 container, or --all")
        if options.texts("filter"):
            raise CliError("--filter goes with --all")
        if options.flag("pull"):
            _pull(context, [body["Image"] or context.client.get(container_path(arguments[0], "json"))["Config"]["Image"]], options)
        _carry_out(context, options, f"/teul{container_path(arguments[0], 'renew')}", body, name=arguments[0])
        return 0
    if arguments or body["Image"]:
        raise CliError("--all goes with no container and no --image")
    query = {"filters": to_filters(options.texts("filter"))}
    if options.flag("pull"):
        _pull(context, [container["Image"] for container in context.client.get("/containers/json", query)], options)
    for outdated in context.client.get("/teul/containers/outdated", query):
        # The first failure ends it: what does not work for one may not work for the next one either.
        _carry_out(context, options, f"/teul{container_path(outdated['Id'], 'renew')}", body, name=outdated["Name"])
    return 0


def rollback(context: Context, options: Options, arguments: list[str]) -> int:
    number = arguments[1] if len(arguments) > 1 else None
    if number is not None and not (number.isascii() and number.isdigit()):
        raise CliError(f"invalid generation {number!r}: it is a number, see '{context.program} container history {arguments[0]}'")
    path = f"/teul{container_path(arguments[0], 'rollback')}"
    body = {"Timeout": options.number("timeout"), "Keep": options.flag("keep")}
    _carry_out(context, options, path, body, name=arguments[0], query={"generation": number})
    return 0


def generations(context: Context, options: Options, arguments: list[str]) -> int:
    found = context.client.get(f"/teul{container_path(arguments[0], 'generations')}")
    rows = [GenerationRow(generation, whole=options.flag("no-trunc")) for generation in found]
    names = ("Generation", "ID", "Image", "ImageID", "Since", "Changes", "Result")
    headers = ("GENERATION", "CONTAINER ID", "IMAGE", "IMAGE ID", "SINCE", "CHANGES", "RESULT")
    listing = Listing(names, dict(zip(names, headers, strict=True)))
    context.streams.write(listing.render(rows, options.text("format")))
    return 0


def outdated(context: Context, options: Options, arguments: list[str]) -> int:  # noqa: ARG001 - it takes none
    query = {"filters": to_filters(options.texts("filter")), "all": options.flag("all")}
    rows = [OutdatedRow(found, whole=options.flag("no-trunc")) for found in context.client.get("/teul/containers/outdated", query)]
    names = ("ID", "Name", "Image", "ImageID", "NewImageID")
    headers = ("CONTAINER ID", "NAME", "IMAGE", "IMAGE ID", "NEW IMAGE ID")
    listing = Listing(names, dict(zip(names, headers, strict=True)))
    context.streams.write(listing.render(rows, options.text("format"), quiet=options.flag("quiet")))
    return 0


def _changes(options: Options, environment: Mapping[str, str]) -> Document:
    """What the new container is to have otherwise."""
    body: Document = {
        "Image": options.text("image"),
        "Timeout": options.number("timeout"),
        "Keep": options.flag("keep"),
        "Force": options.flag("force"),
    }
    try:
        if options.texts("env"):
            body["Env"] = parse_environment(options.texts("env"), [], environment)
        if options.texts("publish"):
            from teul.cli.creation.ports import parse_publish

            body["PortBindings"] = parse_publish(options.texts("publish"))
        if options.texts("volume"):
            from teul.cli.creation.mounts import parse_volumes

            body["Binds"], body["Volumes"] = parse_volumes(options.texts("volume"))
    except ValueError as error:
        raise CliError(str(error)) from None
    return body


def _carry_out(
    context: Context, options: Options, path: str, body: Document, *, name: str, query: Mapping[str, str | None] | None = None
) -> None:
    """Have the engine do it and show the steps; then the name of what was renewed stands on STDOUT. Raises `CliError` with the reason."""
    told: list[Document] = []
    messages = context.client.messages("POST", path, query, body)
    display(context, messages, quiet=options.flag("quiet"), on_aux=told.append)
    if not told:
        raise CliError(f"the engine went away while it renewed {name}; what it had begun, it takes back when it starts again")
    if told[-1]["Renewed"]:
        context.streams.print(name)
    elif not options.flag("quiet"):
        context.streams.print_error(f"{name} is up to date")


def _pull(context: Context, references: list[str], options: Options) -> None:
    """Each once. An image that was named by its digest cannot mean another one."""
    from teul.cli.registry import transfer

    for text in dict.fromkeys(references):
        reference = transfer.named(text).with_default_tag()
        if reference.digest is None:
            transfer.pull(context, reference, quiet=options.flag("quiet"))


_TIMEOUT = Option("timeout", "int", "Seconds in which the new container has to become healthy (default 60)")
_KEEP = Option("keep", BOOL, "Keep the former container, stopped, under another name")
_QUIET = Option("quiet", BOOL, "Do not show the steps", short="q")
_NO_TRUNC = Option("no-trunc", BOOL, "Don't truncate output")

RENEW = Command(
    "renew [OPTIONS] CONTAINER",
    "Have a container of a newer image, or with other options, take the place of one",
    renew,
    options=(
        Option("all", BOOL, "Renew all running containers whose image reference means another image by now", short="a"),
        Option("env", "list", "Set environment variables", short="e"),
        Option("filter", "filter", "With --all: only those that meet the condition", short="f"),
        Option("force", BOOL, "Renew the container also if nothing would change"),
        Option("image", "string", "The new image (default: what the container's image reference means now)"),
        _KEEP,
        Option("publish", "list", "Publish a container's port(s) to the host", short="p"),
        Option("pull", BOOL, "Pull the image first"),
        _QUIET,
        _TIMEOUT,
        Option("volume", "list", "Bind mount a volume", short="v"),
    ),
    maximum=1,
    aliases="container renew, renew",
    description=(
        "Have a container of a newer image, or with other options, take the place of one.\n\n"
        "The new container has the name, volumes, networks, ports and all other options of the former one, which is stopped at\n"
        "the last moment, and removed when the new one is healthy, or without a health check has run for some seconds.\n"
        "If that does not come to pass, the former one runs again."
    ),
)
ROLLBACK = Command(
    "rollback [OPTIONS] CONTAINER [GENERATION]",
    "Have a container as one of its former generations was",
    rollback,
    options=(_KEEP, _QUIET, _TIMEOUT),
    minimum=1,
    maximum=2,
    aliases="container rollback, rollback",
)
GENERATIONS = Command(
    "history [OPTIONS] CONTAINER",
    "Show the generations of a container: what was renewed, and when",
    generations,
    options=(Option("format", "string", FORMAT_HELP), _NO_TRUNC),
    minimum=1,
    maximum=1,
)
OUTDATED = Command(
    "outdated [OPTIONS]",
    "List containers whose image reference means another image by now",
    outdated,
    options=(
        Option("all", BOOL, "Stopped ones too", short="a"),
        Option("filter", "filter", "Filter output based on conditions provided", short="f"),
        Option("format", "string", FORMAT_HELP),
        _NO_TRUNC,
        Option("quiet", BOOL, "Only display container IDs", short="q"),
    ),
    maximum=0,
    aliases="container outdated, outdated",
)
