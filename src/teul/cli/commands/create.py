"""`teul create`."""

from __future__ import annotations

from teul.cli.command import Command
from teul.cli.creation.config import build_config
from teul.cli.creation.create import check_pull_option, create_container, help_hint
from teul.cli.creation.options import CONTAINER_OPTIONS
from teul.cli.errors import CliError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from teul.cli.context import Context
    from teul.cli.options.parser import Options


def create(context: Context, options: Options, arguments: list[str]) -> int:
    try:
        check_pull_option(options.text("pull"))
        body = build_config(options, arguments, context.environment)
    except ValueError as error:
        raise CliError(help_hint(context, str(error), "create"), 125) from None
    except UsageError as error:
        usage = f"Usage:  {context.program} {CREATE.usage}\n\nRun '{context.program} create --help' for more information"
        raise CliError(f"{error.message}\n\n{usage}", 125) from None
    context.streams.print(create_container(context, options, body))
    return 0


CREATE = Command(
    "create [OPTIONS] IMAGE [COMMAND] [ARG...]",
    "Create a new container",
    create,
    options=CONTAINER_OPTIONS,
    minimum=1,
    interspersed=False,
    aliases="container create, create",
)
