"""Images between the engine and registries: `POST /images/create` and `POST /images/NAME/push`, with the user's credentials."""

from __future__ import annotations

from teul.cli.errors import CliError
from teul.cli.format.note import print_note
from teul.cli.format.progress import display
from teul.cli.options.image import platform_document
from teul.cli.registry.credentials import INDEX_SERVER, Credentials, host_name, server_key
from teul.cli.registry.login import ask, keychain
from teul.cli.registry.password_program import HelperFailed
from teul.client.api import image_path
from teul.client.errors import ApiError
from teul.errors import InvalidParameter
from teul.oci.reference import parse_reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from teul.cli.context import Context
    from teul.client.api import Query
    from teul.oci.reference import Reference

    Messages = Iterator[dict[str, Any]]

_ONE_PLATFORM = (
    "Using --platform pushes only the specified platform manifest of a multi-platform image index.\n"
    "Other components, like attestations, will not be included.\n"
    "To push the complete multi-platform image, remove the --platform flag.\n"
)
_NOT_THE_INDEX = "Not all multiplatform-content is present and only the available single-platform image was pushed\n{} -> {}"
_INCOMPLETE = (
    "You're trying to push a manifest list/index which \n"
    "\t\t\t\treferences multiple platform specific manifests, but not all of them are available locally\n"
    "\t\t\t\tor available to the remote repository.\n\n"
    "\t\t\t\tMake sure you have all the referenced content and try again.\n\n"
    "\t\t\t\tYou can also push only a single platform specific manifest directly by specifying the platform you want to push with the "
    "--platform flag."
)


def named(text: str) -> Reference:
    """The reference that the user wrote. Raises `CliError`."""
    try:
        return parse_reference(text)
    except InvalidParameter as error:
        raise CliError(error.message) from None


def choose(context: Context, text: str, *, all_tags: bool, quiet: bool) -> Reference:
    """What `pull` and `push` are about: a whole repository, or a tag, which is `latest` when none is given; that is said."""
    reference = named(text)
    if all_tags and not reference.is_name_only:
        raise CliError("tag can't be used with --all-tags/-a")
    if all_tags or not reference.is_name_only:
        return reference
    reference = reference.with_default_tag()
    if not quiet:
        context.streams.print(f"Using default tag: {reference.tag}")
    return reference


def pull(
    context: Context,
    reference: Reference,
    *,
    platform: str = "",
    all_tags: bool = False,
    quiet: bool = False,
    to_stdout: bool = False,
    lenient: bool = True,
) -> None:
    """Make the engine pull `reference`, and show how it goes. Raises `CliError` when it does not.

    Without `lenient`, credentials that cannot be had are an error, and else a warning: the registry may do without.
    """
    tag = None if all_tags else str(reference.digest or reference.tag)
    query: Query = {"fromImage": reference.familiar_name, "tag": tag, "platform": platform.lower() or None}
    messages = _with_credentials(
        context,
        reference,
        "pull",
        lambda header: context.client.messages("POST", "/images/create", query, headers=[header]),
        lenient=lenient,
    )
    display(context, messages, quiet=quiet, to_stdout=to_stdout)


def push(context: Context, reference: Reference, *, platform: str = "", all_tags: bool = False, quiet: bool = False) -> None:
    """Make the engine push `reference`, and show how it goes. Raises `CliError` when it does not."""
    streams = context.streams
    try:
        document = platform_document(platform)
    except ValueError as error:
        streams.write_error(f"Invalid platform {platform}")
        raise CliError(str(error)) from None
    if document is not None:
        print_note(streams.write, _ONE_PLATFORM, fancy=streams.stdout_is_terminal)
    if reference.digest is not None:
        raise CliError("cannot push a digest reference")
    query: Query = {"tag": None if all_tags else reference.tag, "platform": document}
    path = image_path(reference.name, "push")
    notes: list[str] = []
    messages = _with_credentials(context, reference, "push", lambda header: context.client.messages("POST", path, query, headers=[header]))
    try:
        display(context, messages, quiet=quiet, to_stdout=True, on_aux=lambda aux: notes.extend(_push_notes(aux)))
    finally:
        for note in notes:
            print_note(streams.write, note, fancy=streams.stdout_is_terminal)


def _push_notes(aux: dict[str, Any]) -> Iterator[str]:
    """What the user should know about what was pushed (moby api/types/auxprogress)."""
    if aux.get("manifestPushedInsteadOfIndex"):
        yield _NOT_THE_INDEX.format(aux["originalIndex"]["digest"], aux["selectedManifest"]["digest"])
    if aux.get("contentMissing"):
        yield _INCOMPLETE


def known_credentials(context: Context, domain: str, *, lenient: bool = True) -> Credentials:
    """What the user has for the registry `domain`; may be empty. Raises `CliError`; if `lenient`, not for a helper that fails."""
    try:
        return keychain(context).get(server_key(domain))
    except HelperFailed as error:
        if not lenient:
            raise
        context.streams.print_error(f"WARNING: {error.message}")
        return Credentials()


def _with_credentials(
    context: Context, reference: Reference, verb: str, begin: Callable[[tuple[str, str]], Messages], *, lenient: bool = True
) -> Messages:
    """The messages of the request that `begin` makes with the user's credentials. Whom the engine does not know is asked, once."""
    server = server_key(reference.domain)
    credentials = known_credentials(context, reference.domain, lenient=lenient)
    try:
        yield from begin(credentials.header())
    except ApiError as error:
        if error.status != 401 or not context.streams.stdin_is_terminal:
            raise
        context.streams.print(f"\nLogin prior to {verb}:")
        key = server if server == INDEX_SERVER else host_name(server)
        yield from begin(ask(context, key, default_username=credentials.username).header())
