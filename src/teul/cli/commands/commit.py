"""`teul commit`."""

from __future__ import annotations

from teul.cli.command import Command
from teul.cli.errors import CliError
from teul.cli.options.parser import BOOL, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from teul.cli.context import Context
    from teul.cli.options.parser import Options


def _repository_and_tag(text: str) -> tuple[str, str | None]:
    from teul.errors import InvalidParameter
    from teul.oci.reference import parse_reference

    try:
        reference = parse_reference(text).with_default_tag()
    except InvalidParameter as error:
        raise CliError(error.message) from None
    if reference.digest is not None:
        raise CliError("refusing to create a tag with a digest reference")
    return reference.familiar_name, reference.tag


def commit(context: Context, options: Options, arguments: list[str]) -> int:
    repository, tag = _repository_and_tag(arguments[1]) if len(arguments) > 1 and arguments[1] else (None, None)
    query: dict[str, str | int | bool | list[str] | None] = {
        "container": arguments[0],
        "repo": repository,
        "tag": tag,
        "comment": options.text("message") or None,
        "author": options.text("author") or None,
        "changes": options.texts("change"),
        "pause": None if options.flag("pause") else "0",
    }
    context.streams.print(str(context.client.post("/commit", query)["Id"]))
    return 0


COMMIT = Command(
    "commit [OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    "Create a new image from a container's changes",
    commit,
    options=(
        Option("author", "string", 'Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")', short="a"),
        Option("change", "list", "Apply Dockerfile instruction to the created image", short="c"),
        Option("message", "string", "Commit message", short="m"),
        Option("pause", BOOL, "Pause container during commit", short="p", default=True),
    ),
    minimum=1,
    maximum=2,
    aliases="container commit, commit",
)
