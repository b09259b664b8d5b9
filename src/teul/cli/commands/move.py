"""`teul image push-to` and `teul image pull-from`: images from engine to engine, without a registry. docker has no such commands."""

from __future__ import annotations

from teul.cli.command import Command
from teul.cli.format.progress import Screen, display
from teul.cli.format.units import human_size
from teul.cli.peer import Peer
from teul.client.errors import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from teul.cli.context import Context
    from teul.cli.options.parser import Options
    from teul.client.api import Client
    from teul.client.connection import Response

_TAR = [("Content-Type", "application/x-tar")]
_SHOWN_EVERY_BYTES = 1 << 20


def push_to(context: Context, _options: Options, arguments: list[str]) -> int:
    with Peer(context, arguments[0]) as peer:
        _move(context, arguments[1:], source=context.client, target=peer.client)
    return 0


def pull_from(context: Context, _options: Options, arguments: list[str]) -> int:
    with Peer(context, arguments[0]) as peer:
        _move(context, arguments[1:], source=peer.client, target=context.client)
    return 0


def _move(context: Context, names: list[str], *, source: Client, target: Client) -> None:
    """Have `target` load what `source` saves; between two Teuls without the blobs that the target has."""
    if not (_leaves_out(source) and _leaves_out(target)):
        context.streams.print_error("One of the engines cannot leave anything out: sending all blobs")
        with source.stream("GET", "/images/get", {"names": names}, alone=True) as archive:
            _load(context, target, "/images/load", archive, total_bytes=0)
        return
    sizes = {blob["digest"]: blob["size"] for blob in source.post("/teul/images/blobs", None, {"names": names})["blobs"]}
    missing = set(target.post("/teul/images/missing", None, {"blobs": list(sizes)})["missing"])
    total_bytes = sum(size for digest, size in sizes.items() if digest in missing)
    context.streams.print_error(f"Sending {len(missing)} of {len(sizes)} blobs, {human_size(total_bytes)}")
    order = {"names": names, "without": [digest for digest in sizes if digest not in missing]}
    with source.stream("POST", "/teul/images/save", None, order, alone=True) as archive:
        _load(context, target, "/teul/images/load", archive, total_bytes=total_bytes)


def _leaves_out(engine: Client) -> bool:
    """Whether it is a Teul that has the routes for this."""
    try:
        engine.post("/teul/images/missing", None, {"blobs": []})
    except ApiError as error:
        if error.status != 404:
            raise
        return False
    return True


def _load(context: Context, target: Client, path: str, archive: Response, *, total_bytes: int) -> None:
    screen = Screen(context.streams.stderr_fd, context.streams.write_error)
    try:
        messages = target.messages("POST", path, {"quiet": "1"}, _shown(screen, archive, total_bytes), headers=_TAR)
        display(context, messages, to_stdout=True)
    finally:
        screen.end()


def _shown(screen: Screen, archive: Iterable[bytes], total_bytes: int) -> Iterator[bytes]:
    """The pieces of the archive; on a terminal one sees how far it is."""
    sent_bytes = due_bytes = 0
    for data in archive:
        yield data
        sent_bytes += len(data)
        if sent_bytes >= due_bytes:
            due_bytes = sent_bytes + _SHOWN_EVERY_BYTES
            # The documents and headers are sent besides the blobs.
            detail = {"current": min(sent_bytes, total_bytes) if total_bytes else sent_bytes, "total": total_bytes}
            screen.show({"id": "archive", "status": "Sending", "progressDetail": detail})


PUSH_TO = Command(
    "push-to ssh://[USER@]HOST[:PORT]|unix://PATH|tcp://HOST:PORT IMAGE [IMAGE...]",
    "Send images to another engine, without the blobs that it has",
    push_to,
    minimum=2,
    aliases="",
)
PULL_FROM = Command(
    "pull-from ssh://[USER@]HOST[:PORT]|unix://PATH|tcp://HOST:PORT IMAGE [IMAGE...]",
    "Fetch images from another engine, without the blobs that are here",
    pull_from,
    minimum=2,
    aliases="",
)
