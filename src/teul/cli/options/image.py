"""What the verbs that fetch or write images are told alike: for which platform, and whether signatures are to be checked."""

from __future__ import annotations

from teul.cli.errors import CliError
from teul.cli.options.parser import BOOL, Option
from teul.cli.options.values import parse_bool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from teul.cli.options.parser import Options

CONTENT_TRUST = Option("disable-content-trust", BOOL, "Skip image verification", default=True)


def chosen_platform(options: Options, environment: Mapping[str, str]) -> str:
    """The option `--platform`, or what DOCKER_DEFAULT_PLATFORM says."""
    return options.text("platform") if options.given("platform") else environment.get("DOCKER_DEFAULT_PLATFORM", "")


def platform_document(text: str) -> str | None:
    """A platform as the newer endpoints take it: JSON. Raises `ValueError` for what names none."""
    if not text:
        return None
    from teul.oci.platform import InvalidPlatform, parse_platform
    from teul.wire.jsontext import encode

    try:
        platform = parse_platform(text)
    except InvalidPlatform as error:
        raise ValueError(error.message) from None
    members = {"architecture": platform.architecture, "os": platform.os, "os.version": platform.os_version, "variant": platform.variant}
    return encode({name: value for name, value in members.items() if value}).decode()


def platform_of(options: Options) -> str | None:
    """The option `--platform` as `platform_document` has it. Raises `CliError`."""
    try:
        return platform_document(options.text("platform"))
    except ValueError as error:
        raise CliError(f"invalid platform: {error}") from None


def refuse_content_trust(options: Options, environment: Mapping[str, str]) -> None:
    """Raise `CliError` where docker would check signatures, which this program cannot: to go on without would be worse."""
    if options.given("disable-content-trust"):
        wanted = not options.flag("disable-content-trust")
    else:
        text = environment.get("DOCKER_CONTENT_TRUST", "")
        try:
            wanted = bool(text) and parse_bool(text)
        except ValueError:  # docker: whatever does not mean no means yes
            wanted = True
    if wanted:
        raise CliError("content trust is not supported: use --disable-content-trust to go on without verification of signatures")
