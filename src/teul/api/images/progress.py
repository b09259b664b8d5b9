"""How far something has come, as Docker's streams say it: numbers for programs, and a bar of text for those that only print.

docker: pkg/jsonmessage, JSONProgress; the engine does not know its client's terminal and takes it for a wide one.
"""

from __future__ import annotations

from typing import Any

_BAR_CHARACTERS = 50
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def progress_members(current_bytes: int, total_bytes: int) -> dict[str, Any]:
    """The members `progressDetail` and `progress` of a line; without a count there is the former alone, and it is empty."""
    if current_bytes <= 0 and total_bytes <= 0:
        return {"progressDetail": {}}
    detail = {"current": current_bytes} | ({"total": total_bytes} if total_bytes > 0 else {})
    return {"progressDetail": detail, "progress": _bar(current_bytes, total_bytes)}


def _bar(current_bytes: int, total_bytes: int) -> str:
    current = f"{_human_size(current_bytes):>8}"
    if total_bytes <= 0:
        return current
    done = min(_BAR_CHARACTERS, int(current_bytes / total_bytes * 100) // 2)
    numbers = current if current_bytes > total_bytes else f"{current}/{_human_size(total_bytes)}"
    return f"[{'=' * done}>{' ' * (_BAR_CHARACTERS - done)}] {numbers}"


def _human_size(size_bytes: float) -> str:
    """Four digits and a decimal unit: `1.234MB`."""
    for unit in _UNITS:
        if size_bytes < 1000 or unit == _UNITS[-1]:
            return f"{size_bytes:.4g}{unit}"
        size_bytes /= 1000
    raise AssertionError("the last unit takes any size")
