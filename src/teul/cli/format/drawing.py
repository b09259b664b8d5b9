"""Lines on a terminal that are rewritten in place, one per layer. Loaded only when there is something to draw: `rich` is large."""

from __future__ import annotations

from rich.console import Console, ConsoleDimensions
from rich.live import Live
from rich.text import Text

from teul.client.terminal import window_size

_REDRAWN_PER_SECOND = 10
_UNKNOWN_SIZE = ConsoleDimensions(80, 25)


class _Terminal(Console):
    """rich would take the size from whichever of the standard streams is a terminal first, or from the environment."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.stream = open(fd, "w", encoding="utf-8", errors="surrogateescape", closefd=False)
        # No colours: docker has none, and statuses hold brackets and numbers that would be taken for markup.
        super().__init__(file=self.stream, force_terminal=True, color_system=None, highlight=False, markup=False, emoji=False)

    @property
    def size(self) -> ConsoleDimensions:
        rows, columns = window_size(self._fd)
        return ConsoleDimensions(columns, rows) if rows and columns else _UNKNOWN_SIZE

    @size.setter
    def size(self, _: tuple[int, int]) -> None:
        raise AttributeError("the size is the terminal's")


class Drawing:
    """A block of lines at the bottom of the terminal `fd`, by name and in the order in which the names came.

    A line that is wider than the terminal is cut, and while the block is taller, its first lines are shown; at the end all are.
    """

    def __init__(self, fd: int) -> None:
        self._lines: dict[str, str] = {}
        self._text = Text("")
        self._terminal = _Terminal(fd)
        self._live = Live(
            console=self._terminal,
            get_renderable=lambda: self._text,
            refresh_per_second=_REDRAWN_PER_SECOND,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()

    @property
    def is_nameless(self) -> bool:
        """Whether its only line has no name: such a line cannot be told from another one, so they share no block with others."""
        return "" in self._lines

    def show(self, name: str, line: str) -> None:
        """Make `line` the line of `name`. It is drawn within a tenth of a second."""
        self._lines[name] = line
        # A new object, and not a change: another thread draws.
        self._text = Text("\n".join(self._lines.values()), no_wrap=True, overflow="crop")

    def end(self) -> None:
        """Draw the last state, and leave the cursor visible and below it."""
        self._live.stop()
        self._terminal.stream.close()
