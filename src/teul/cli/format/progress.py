"""What an engine reports while it pulls, pushes or loads: JSON messages as lines, and on a terminal as lines that change in place.

docker: pkg/jsonmessage. A message with an id and a `progressDetail`, be it empty, has a line of its own that later messages with this id
rewrite; any other message ends that block of lines. Where there is no terminal, a message whose progress says something is left out.
"""

from __future__ import annotations

from time import time

from teul.cli.errors import CliError
from teul.cli.format.units import human_size, rfc3339
from teul.client.terminal import is_terminal, window_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from teul.cli.context import Context
    from teul.cli.format.drawing import Drawing

    Message = dict[str, Any]

_BAR_COLUMNS = 50
# docker: below this width there is no room for the bar, and below that one none for the time that is left.
_BAR_ABOVE_COLUMNS = 110
_TIME_ABOVE_COLUMNS = 50
_UNKNOWN_COLUMNS = 200


def display(
    context: Context,
    messages: Iterable[Message],
    *,
    quiet: bool = False,
    to_stdout: bool = False,
    on_aux: Callable[[Message], None] | None = None,
) -> None:
    """Show `messages` until they end. `on_aux` gets what is meant for the program and is not shown.

    Raises `CliError` for a message that tells of a failure.
    """
    streams = context.streams
    screen = Screen(streams.stdout_fd if to_stdout else streams.stderr_fd, streams.write if to_stdout else streams.write_error)
    try:
        for message in messages:
            if "aux" in message:
                if on_aux is not None:
                    on_aux(message["aux"])
                continue
            failure = failure_text(message)
            if failure is not None:
                hint = (message.get("errorDetail") or {}).get("hint")
                raise CliError(f"{failure}\nhint: {hint}" if hint else failure)
            if not quiet:
                screen.show(message)
    finally:
        screen.end()


def failure_text(message: Message) -> str | None:
    """Why the work failed, if `message` says that it did."""
    if "error" not in message and "errorDetail" not in message:
        return None
    detail = message.get("errorDetail") or {}
    return str(detail.get("message") or message.get("error") or "")


class Screen:
    """Where messages are shown: the terminal or file `fd`, written to by `write`."""

    def __init__(self, fd: int, write: Callable[[str], None]) -> None:
        self._fd = fd
        self._write = write
        self._terminal = is_terminal(fd)
        self._drawing: Drawing | None = None

    def show(self, message: Message) -> None:
        if self._terminal and not message.get("stream") and message.get("progressDetail") is not None:
            self._draw(message)
            return
        self.end()
        self._write(plain_text(message))

    def end(self) -> None:
        """Leave the lines drawn so far as they are. May be called more than once."""
        if self._drawing is not None:
            self._drawing.end()
            self._drawing = None

    def _draw(self, message: Message) -> None:
        name = str(message.get("id") or "")
        if self._drawing is not None and self._drawing.is_nameless != (not name):
            self.end()
        if self._drawing is None:
            # Loaded when there is something to draw: it takes longer to load than many commands take in all.
            from teul.cli.format.drawing import Drawing

            self._drawing = Drawing(self._fd)
        columns = window_size(self._fd)[1] or _UNKNOWN_COLUMNS
        text = progress_text(message["progressDetail"], columns)
        self._drawing.show(name, f"{_prefix(message)}{message.get('status') or ''} {text}")


def plain_text(message: Message) -> str:
    """What a file gets of `message`; empty for progress that only a terminal can show."""
    detail = message.get("progressDetail")
    if detail is not None and progress_text(detail):
        return ""
    status = str(message.get("status") or "")
    if message.get("progress"):
        return f"{_prefix(message)}{status} {message['progress']}"
    if message.get("stream"):
        return f"{_prefix(message)}{message['stream']}"
    return f"{_prefix(message)}{status}\n"


def _prefix(message: Message) -> str:
    """When it was, what it is about, where it is from: as far as the message tells."""
    nanoseconds = int(message.get("timeNano") or 0) or int(message.get("time") or 0) * 10**9
    when = f"{rfc3339(nanoseconds // 10**9, nanoseconds % 10**9)} " if nanoseconds else ""
    name = f"{message['id']}: " if message.get("id") else ""
    return f"{when}{name}(from {message['from']}) " if message.get("from") else when + name


def progress_text(detail: Message, columns: int = _UNKNOWN_COLUMNS, now: float | None = None) -> str:
    """`[=====>     ]  1.2MB/3.4MB 5s`, as much of it as a terminal has room for; just the amount when the total is not known."""
    current, total, unit = int(detail.get("current") or 0), int(detail.get("total") or 0), str(detail.get("units") or "")
    if current <= 0 and total <= 0:
        return ""
    if total <= 0:
        return _amount(current, unit)
    filled = min(int(current / total * 100) // 2, _BAR_COLUMNS)
    bar = f"[{'=' * filled}>{' ' * (_BAR_COLUMNS - filled)}] " if columns > _BAR_ABOVE_COLUMNS else ""
    if detail.get("hidecounts"):
        numbers = ""
    elif current > total:  # docker: such a total is wrong
        numbers = _amount(current, unit)
    else:
        numbers = f"{current}/{total} {unit}" if unit else f"{human_size(current):>8}/{human_size(total)}"
    start = int(detail.get("start") or 0)
    left = ""
    if columns > _TIME_ABOVE_COLUMNS and current > 0 and start > 0 and filled < _BAR_COLUMNS:
        elapsed = (time() if now is None else now) - start
        left = f" {_duration(round(elapsed / current * (total - current)))}"
    return bar + numbers + left


def _amount(count: int, unit: str) -> str:
    return f"{count} {unit}" if unit else f"{human_size(count):>8}"


def _duration(seconds: int) -> str:
    """Whole seconds as Go writes them: `1h0m5s`."""
    minutes, hours = seconds // 60, seconds // 3600
    if hours:
        return f"{hours}h{minutes % 60}m{seconds % 60}s"
    return f"{minutes}m{seconds % 60}s" if minutes else f"{seconds}s"
