"""What an engine reports while it pulls or loads: JSON messages as lines, and on a terminal as lines that change in place."""

from __future__ import annotations

from teul.cli.errors import CliError
from teul.cli.format.units import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from teul.cli.context import Context

_BAR_COLUMNS = 50


def pull(context: Context, image: str, *, platform: str = "", quiet: bool = False) -> None:
    """`POST /images/create` for `image`, with its progress on stderr. Raises `CliError` when the pull fails."""
    from teul.oci.reference import parse_reference

    reference = parse_reference(image).with_default_tag()
    tag = str(reference.digest) if reference.digest is not None else reference.tag
    query = {"fromImage": reference.familiar_name, "tag": tag, "platform": platform or None}
    display(context, context.client.messages("POST", "/images/create", query), quiet=quiet)


def display(context: Context, messages: Iterable[dict[str, Any]], *, quiet: bool = False, to_stdout: bool = False) -> None:
    """Show `messages` until they end. Raises `CliError` for a message that tells of a failure."""
    streams = context.streams
    fd = streams.stdout_fd if to_stdout else streams.stderr_fd
    write = streams.write if to_stdout else streams.write_error
    from teul.client.terminal import is_terminal

    renderer = Renderer(terminal=is_terminal(fd))
    for message in messages:
        if "error" in message or "errorDetail" in message:
            detail = message.get("errorDetail") or {}
            raise CliError(str(detail.get("message") or message.get("error")))
        text = renderer.render(message)
        if text and not quiet:
            write(text)


class Renderer:
    """Messages to text. On a terminal each id has a line, which later messages overwrite."""

    def __init__(self, *, terminal: bool) -> None:
        self._terminal = terminal
        self._lines: dict[str, int] = {}

    def render(self, message: dict[str, Any]) -> str:
        """What to print for `message`; empty for progress that only a terminal can show."""
        if "stream" in message:
            return str(message["stream"])
        bar = progress_bar(message.get("progressDetail") or {})
        if bar and not self._terminal:
            return ""
        name = str(message.get("id") or "")
        line = f"{name}: {message.get('status', '')}" if name else str(message.get("status", ""))
        line = f"{line} {bar}" if bar else line
        if not self._terminal or not name:
            self._lines.clear()
            return f"{line}\n" if line else ""
        return self._overwrite(name, line)

    def _overwrite(self, name: str, line: str) -> str:
        if name not in self._lines:
            self._lines[name] = len(self._lines)
            return f"\r\x1b[K{line}\n"
        up = len(self._lines) - self._lines[name]
        return f"\x1b[{up}A\r\x1b[K{line}\r\x1b[{up}B"


def progress_bar(detail: dict[str, Any]) -> str:
    """`[=====>     ]  1.2MB/3.4MB`, or just the amount when the total is not known."""
    current, total = int(detail.get("current") or 0), int(detail.get("total") or 0)
    if current <= 0 and total <= 0:
        return ""
    if total <= 0 or current > total:
        return f"{human_size(current):>8}"
    filled = current * _BAR_COLUMNS // total
    arrow = "=" * filled + (">" if filled < _BAR_COLUMNS else "")
    return f"[{arrow:<{_BAR_COLUMNS}}]  {human_size(current):>8}/{human_size(total)}"
