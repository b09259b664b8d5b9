"""Sizes as people read them (go-units)."""

from __future__ import annotations

_DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")


def human_size(size_bytes: float, digits: int = 4) -> str:
    """In powers of 1000: `2.746MB`."""
    return scaled_size(size_bytes, 1000.0, _DECIMAL, digits)


def scaled_size(size: float, base: float, names: tuple[str, ...], digits: int) -> str:
    """`size` in the largest of the units `names`, each `base` of the one before, that leaves something before the point."""
    index = 0
    while size >= base and index < len(names) - 1:
        size /= base
        index += 1
    # Go's %g prints an exponent of at least two digits, as Python's does.
    return f"{size:.{digits}g}{names[index]}"
