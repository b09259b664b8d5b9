"""A user's terminal joined to a process in a container: for `run`, `start -a`, `attach` and `exec`.

While it lasts, the terminal is raw (if the process has one), signals go to the process, and a change of the window's size is passed on.
"""

from __future__ import annotations

from time import sleep

from teul.cli.errors import CliError
from teul.client.api import container_path
from teul.client.attach import Detached, Pump
from teul.client.errors import ApiError, ClientError
from teul.client.signals import FORWARDED, SIGINT, SIGTERM, SIGWINCH, SignalQueue
from teul.client.terminal import RawTerminal, window_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from teul.cli.context import Context
    from teul.client.connection import HijackedStream, Response

# A user who sends that many SIGINTs or SIGTERMs has lost patience with the container.
_FORCED_BY = 3


def check_terminal(context: Context, *, stdin: bool, tty: bool) -> None:
    """Refuse a terminal in the container for input that comes from no terminal."""
    if stdin and tty and not context.streams.stdin_is_terminal:
        raise CliError("the input device is not a TTY")


def chosen_detach_keys(context: Context, given: str) -> str:
    """The keys of the option or of the user's settings, checked; empty for the default keys."""
    from teul.errors import InvalidParameter
    from teul.wire.detach_keys import parse_detach_keys

    keys = given or str(context.config.get("detachKeys") or "")
    try:
        parse_detach_keys(keys)
    except InvalidParameter:
        raise CliError(f"invalid detach keys ({keys}): Unknown character: '{keys}'") from None
    return keys


class SignalForwarder:
    """Within the `with` block, signals to this process become signals to the container `container_id`, if `forward` is true.

    Signals are handled in the turns of `Session`; those that come before the session runs wait. Window changes are told to `resize`.
    """

    def __init__(self, context: Context, container_id: str, *, forward: bool) -> None:
        self._context = context
        self._container_id = container_id
        self._queue = SignalQueue([SIGWINCH, *(FORWARDED if forward else ())], self._count)
        self._endings = 0
        self.resize: Callable[[], None] | None = None

    def __enter__(self) -> SignalForwarder:
        self._queue.__enter__()
        return self

    def __exit__(self, *details: object) -> None:
        self._queue.__exit__(None, None, None)

    def fileno(self) -> int:
        return self._queue.fileno()

    def _count(self, number: int) -> None:
        """Raise `CliError` at the third demand to end, even while an engine that hangs is waited for."""
        self._endings += number in (SIGINT, SIGTERM)
        if self._endings >= _FORCED_BY:
            raise CliError(f"got {_FORCED_BY} SIGTERM/SIGINTs, forcefully exiting")

    def handle(self) -> bool:
        """Pass on the signals that have come."""
        for number in self._queue.take():
            if number == SIGWINCH:
                if self.resize is not None:
                    self.resize()
                continue
            try:
                self._context.client.post(container_path(self._container_id, "kill"), {"signal": FORWARDED[number]})
            except ClientError as error:
                if self._context.debug:
                    self._context.streams.print_error(f"Error sending signal: {error}")
        return False


class Session:
    """The attached streams of one process. `resize_path` is where the size of its terminal is set.

    Enter the session before the process starts, so that a terminal is raw from the first byte; `run` then moves bytes to the end.
    """

    def __init__(
        self,
        context: Context,
        stream: HijackedStream,
        *,
        tty: bool,
        stdin: bool,
        stdout: bool,
        stderr: bool,
        resize_path: str,
        detach_keys: str,
        signals: SignalForwarder | None = None,
    ) -> None:
        streams = context.streams
        self._context = context
        self._stream = stream
        self._tty = tty
        self._resize_path = resize_path
        self._signals = signals
        self._terminal = RawTerminal(streams.stdin_fd) if tty and stdin else None
        detach = None
        if tty and stdin:
            from teul.wire.detach_keys import DetachKeys, parse_detach_keys

            detach = DetachKeys(parse_detach_keys(detach_keys))
        self._pump = Pump(
            stream,
            stdin_fd=streams.stdin_fd if stdin else None,
            stdout_fd=streams.stdout_fd if stdout else None,
            stderr_fd=streams.stderr_fd if stderr else None,
            multiplexed=not tty,
            detach=detach,
        )
        if signals is not None:
            self._pump.watch(signals.fileno(), signals.handle)

    def __enter__(self) -> Session:
        if self._terminal is not None:
            self._terminal.__enter__()
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def close(self) -> None:
        if self._terminal is not None:
            self._terminal.restore()
        self._stream.close()

    def run(self) -> bool:
        """Move bytes until the stream ends. False when the user detached instead."""
        if self._tty and self._context.streams.stdout_is_terminal:
            self._initial_size()
            if self._signals is not None:
                self._signals.resize = self._resize_quietly
        try:
            self._pump.run()
        except Detached:
            return False
        finally:
            self.close()
        return True

    def _initial_size(self) -> None:
        """Set the terminal's size; the process may need a moment to have a terminal (docker: ten attempts)."""
        for attempt in range(1, 11):
            try:
                self._resize()
                return
            except ClientError:
                sleep(attempt * 0.01)
        self._context.streams.print_error("failed to resize tty, using default size")

    def _resize(self) -> None:
        rows, columns = window_size(self._context.streams.stdout_fd)
        if rows or columns:
            self._context.client.post(self._resize_path, {"h": rows, "w": columns})

    def _resize_quietly(self) -> None:
        try:
            self._resize()
        except ApiError as error:
            if self._context.debug:
                self._context.streams.print_error(f"Error resize: {error}")


def begin_wait(context: Context, container_id: str, *, removed: bool) -> Response:
    """Ask for the end of the container; the wait is registered when this returns. Give the response to `exit_status`, and close it."""
    query = {"condition": "removed" if removed else "next-exit"}
    return context.client.stream("POST", container_path(container_id, "wait"), query, alone=True)


def exit_status(context: Context, waiting: Response) -> int:
    """The exit code of the container once it has ended; docker's 125 when the engine cannot tell."""
    from teul.wire.jsontext import InvalidJson, decode

    try:
        result = decode(waiting.read())
        error = result.get("Error")
    except (ClientError, InvalidJson, AttributeError) as failure:
        context.streams.print_error(f"error waiting for container: {failure}")
        return 125
    if error:
        context.streams.print_error(f"Error waiting for container: {error.get('Message', '')}")
        return 125
    return int(result["StatusCode"])
