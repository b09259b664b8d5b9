"""Notes that docker's command line adds to its output, set apart by a heading."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_PLAIN = " Info -> "
_FANCY = "\x1b[1m\x1b[106m\x1b[30mi\x1b[0m\x1b[0m \x1b[96mInfo → \x1b[0m\x1b[0m"
INFO_WIDTH = 9  # of the heading, on the screen


def info_header(*, fancy: bool) -> str:
    """The heading of a note, with colours where `fancy` (docker: internal/tui)."""
    return _FANCY if fancy else _PLAIN


def print_note(write: Callable[[str], None], text: str, *, fancy: bool) -> None:
    """`text`, its lines one below the other, with colours where `fancy` (docker: internal/tui)."""
    lines = [f"\x1b[3m{line}\x1b[0m" if fancy else line for line in text.split("\n")]
    write("\n" + info_header(fancy=fancy) + ("\n" + " " * INFO_WIDTH).join(lines) + "\n")
