"""`teul pull` and `teul push`."""

from __future__ import annotations

from teul.cli.command import Command
from teul.cli.options.image import CONTENT_TRUST, chosen_platform, refuse_content_trust
from teul.cli.options.parser import BOOL, Option
from teul.cli.registry import transfer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from teul.cli.context import Context
    from teul.cli.options.parser import Options

_QUIET = Option("quiet", BOOL, "Suppress verbose output", short="q")


def pull(context: Context, options: Options, arguments: list[str]) -> int:
    all_tags, quiet = options.flag("all-tags"), options.flag("quiet")
    reference = transfer.choose(context, arguments[0], all_tags=all_tags, quiet=quiet)
    if reference.digest is None:
        refuse_content_trust(options, context.environment)
    platform = chosen_platform(options, context.environment)
    transfer.pull(context, reference, platform=platform, all_tags=all_tags, quiet=quiet, to_stdout=True)
    context.streams.print(reference.canonical)
    return 0


def push(context: Context, options: Options, arguments: list[str]) -> int:
    all_tags, quiet = options.flag("all-tags"), options.flag("quiet")
    reference = transfer.choose(context, arguments[0], all_tags=all_tags, quiet=quiet)
    refuse_content_trust(options, context.environment)
    transfer.push(context, reference, platform=options.text("platform"), all_tags=all_tags, quiet=quiet)
    if quiet:
        context.streams.print(reference.canonical)
    return 0


PULL = Command(
    "pull [OPTIONS] NAME[:TAG|@DIGEST]",
    "Download an image from a registry",
    pull,
    options=(
        Option("all-tags", BOOL, "Download all tagged images in the repository", short="a"),
        CONTENT_TRUST,
        Option("platform", "string", "Set platform if server is multi-platform capable"),
        _QUIET,
    ),
    minimum=1,
    maximum=1,
    aliases="image pull, pull",
)
PUSH = Command(
    "push [OPTIONS] NAME[:TAG]",
    "Upload an image to a registry",
    push,
    options=(
        Option("all-tags", BOOL, "Push all tags of an image to the repository", short="a"),
        Option("disable-content-trust", BOOL, "Skip image signing", default=True),
        Option(
            "platform",
            "string",
            "Push a platform-specific manifest as a single-platform image to the registry.\n"
            "Image index won't be pushed, meaning that other manifests, including attestations won't be preserved.\n"
            "'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)",
        ),
        _QUIET,
    ),
    minimum=1,
    maximum=1,
    aliases="image push, push",
)
