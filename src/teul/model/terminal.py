"""The size of a terminal."""

from __future__ import annotations

from teul.errors import InvalidParameter

# kernel: `struct winsize` has 16 bits for each (asm-generic/termios.h). docker: dockerd lets more pass, and cuts the rest off.
LARGEST = (1 << 16) - 1


def check_console_size(size: tuple[int, int] | None) -> None:
    """Raise InvalidParameter unless `size`, (height, width), can be a terminal's."""
    if size is not None and not all(0 <= number <= LARGEST for number in size):
        raise InvalidParameter(f"invalid ConsoleSize [{size[0]},{size[1]}]: value out of range")
