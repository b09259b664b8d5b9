"""Making a container for `run` and `create`: the request, the image that may have to be pulled first, the id file."""

from __future__ import annotations

import os

from teul.cli.errors import CliError
from teul.cli.options.image import chosen_platform, refuse_content_trust
from teul.client.errors import ApiError
from teul.client.terminal import window_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from teul.cli.context import Context
    from teul.cli.options.parser import Options

PULL_CHOICES = ("always", "missing", "never")


def help_hint(context: Context, error: str, verb: str) -> str:
    """An error of `run` or `create` as docker words it."""
    return f"{context.program}: {error}\n\nRun '{context.program} {verb} --help' for more information"


def check_pull_option(value: str) -> None:
    if value not in (*PULL_CHOICES, ""):
        raise ValueError(f'invalid pull option: \'{value}\': must be one of "always", "missing" or "never"')


def create_container(context: Context, options: Options, body: dict[str, Any]) -> str:
    """Create the container and return its id. Pulls a missing image; prints warnings; writes the id file."""
    id_path = options.text("cidfile")
    if id_path and os.path.exists(id_path):
        raise CliError(f"container ID file found, make sure the other container isn't running or delete {id_path}")
    image = body["Image"]
    if _is_name(image) and "@" not in image:
        refuse_content_trust(options, context.environment)
    if options.text("pull") == "always":
        _pull(context, options, image)
    if context.streams.stdout_is_terminal:
        body["HostConfig"]["ConsoleSize"] = list(window_size(context.streams.stdout_fd))
    query = {"name": options.text("name") or None, "platform": chosen_platform(options, context.environment) or None}
    try:
        created = context.client.post("/containers/create", query, body)
    except ApiError as error:
        if not error.is_not_found or options.text("pull") != "missing" or not _is_name(image):
            raise
        if not options.flag("quiet"):
            from teul.oci.reference import parse_reference

            name = parse_reference(image).with_default_tag().familiar
            context.streams.print_error(f"Unable to find image '{name}' locally")
        _pull(context, options, image)
        created = context.client.post("/containers/create", query, body)
    for warning in created.get("Warnings") or []:
        context.streams.print_error(f"WARNING: {warning}")
    container_id = str(created["Id"])
    if id_path:
        _write_id(id_path, container_id)
    return container_id


def _is_name(image: str) -> bool:
    """Whether `image` can be pulled: an image id cannot."""
    return not (image.startswith("sha256:") or (len(image) == 64 and set(image) <= set("0123456789abcdef")))


def _pull(context: Context, options: Options, image: str) -> None:
    """docker: what goes to stdout is the container's, so the progress goes to stderr."""
    from teul.cli.registry import transfer

    reference = transfer.named(image).with_default_tag()
    transfer.pull(context, reference, platform=chosen_platform(options, context.environment), quiet=options.flag("quiet"), lenient=False)


def _write_id(path: str, container_id: str) -> None:
    try:
        with open(path, "x", encoding="ascii") as file:
            file.write(container_id)
    except OSError as error:
        reason = error.strerror.lower() if error.strerror else str(error)
        raise CliError(f"failed to create the container ID file: open {path}: {reason}") from None
