"""The order in which docker lists what has a name: numbers inside of names by their value, `web2` before `web10`."""

from __future__ import annotations


def natural_key(text: str) -> list[tuple[int, int, int]]:
    """A key to sort by. Digits come before everything else; of equal numbers the one with fewer zeros in front comes first."""
    key: list[tuple[int, int, int]] = []
    data = text.encode("utf-8", "surrogateescape")
    position = 0
    while position < len(data):
        end = position
        while end < len(data) and data[end : end + 1].isdigit():
            end += 1
        if end == position:
            key.append((1, data[position], 0))
            position += 1
            continue
        digits = data[position:end]
        key.append((0, int(digits), len(digits) - len(digits.lstrip(b"0"))))
        position = end
    return key
