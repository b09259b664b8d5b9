"""The user's terminal: is it one, how big is it, and raw mode with a way back."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


def is_terminal(fd: int) -> bool:
    return os.isatty(fd)


def window_size(fd: int) -> tuple[int, int]:
    """(rows, columns), or (0, 0) when `fd` is no terminal."""
    try:
        columns, rows = os.get_terminal_size(fd)
    except OSError:
        return 0, 0
    return rows, columns


class RawTerminal:
    """Within the `with` block every key of the terminal `fd` arrives as it is typed; afterwards the terminal is as it was.

    A descriptor that is no terminal is left alone. `restore` may be called early and more than once.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._saved: list[object] | None = None

    def __enter__(self) -> Self:
        if is_terminal(self._fd):
            import termios  # noqa: PLC0415 - only a terminal needs it

            self._saved = termios.tcgetattr(self._fd)
            termios.tcsetattr(self._fd, termios.TCSANOW, _raw(termios.tcgetattr(self._fd)))  # type: ignore[arg-type]  # as tcgetattr's
        return self

    def __exit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        self.restore()

    def restore(self) -> None:
        if self._saved is not None:
            import termios  # noqa: PLC0415

            saved, self._saved = self._saved, None
            termios.tcsetattr(self._fd, termios.TCSANOW, saved)  # type: ignore[arg-type]  # what tcgetattr gave


class HiddenInput:
    """Within the `with` block what is typed at the terminal `fd` is not shown. Raises `OSError` when it is no terminal."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._saved: list[object] = []

    def __enter__(self) -> Self:
        import termios  # noqa: PLC0415

        try:
            attributes = termios.tcgetattr(self._fd)
        except termios.error as error:
            raise OSError(*error.args) from None
        self._saved = list(attributes)
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(self._fd, termios.TCSANOW, attributes)
        return self

    def __exit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        import termios  # noqa: PLC0415

        termios.tcsetattr(self._fd, termios.TCSANOW, self._saved)  # type: ignore[arg-type]  # what tcgetattr gave


def _raw(attributes: list[object]) -> list[object]:
    """The attributes for raw mode (cfmakeraw(3)), but with output processing left on as moby/term does: the engine's messages and
    the client's end in a bare line feed."""
    import termios  # noqa: PLC0415

    iflag, oflag, cflag, lflag, ispeed, ospeed, characters = attributes
    assert isinstance(iflag, int)
    assert isinstance(cflag, int)
    assert isinstance(lflag, int)
    assert isinstance(characters, list)
    iflag &= ~(
        termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP | termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON
    )
    lflag &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    cflag = (cflag & ~(termios.CSIZE | termios.PARENB)) | termios.CS8
    characters = list(characters)
    characters[termios.VMIN], characters[termios.VTIME] = 1, 0
    return [iflag, oflag, cflag, lflag, ispeed, ospeed, characters]
