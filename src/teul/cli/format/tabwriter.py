"""Columns that line up: Go's `text/tabwriter` as docker uses it. Pure.

A cell is what a tab ends; what follows a line's last tab is in no column. A column is a run of consecutive lines that have a cell at that
place, and is as wide as its widest cell, so two tables in one text do not disturb each other.
"""

from __future__ import annotations


class TabWriter:
    """`minimum` is the least width of a column, its `padding` included."""

    def __init__(self, *, minimum: int, padding: int) -> None:
        self._minimum = minimum
        self._padding = padding

    def render(self, text: str) -> str:
        lines = [line.split("\t") for line in text.split("\n")]
        widths: list[list[int]] = [[] for _ in lines]
        self._measure(lines, widths, 0, len(lines))
        return "\n".join(self._line(cells, line_widths) for cells, line_widths in zip(lines, widths, strict=True))

    def _measure(self, lines: list[list[str]], widths: list[list[int]], start: int, end: int) -> None:
        """Find the columns that begin at the present depth of the lines from `start` to `end`."""
        column = len(widths[start]) if start < end else 0
        line = start
        while line < end:
            if column >= len(lines[line]) - 1:
                line += 1
                continue
            first = line
            while line < end and column < len(lines[line]) - 1:
                line += 1
            width = max(self._minimum, *(display_width(lines[index][column]) + self._padding for index in range(first, line)))
            for index in range(first, line):
                widths[index].append(width)
            self._measure(lines, widths, first, line)

    @staticmethod
    def _line(cells: list[str], widths: list[int]) -> str:
        padded = [cell + " " * (width - display_width(cell)) for cell, width in zip(cells, widths, strict=False)]
        return "".join(padded) + cells[-1]


def display_width(text: str) -> int:
    """The columns that `text` takes: East Asian wide characters take two."""
    if text.isascii():
        return len(text)
    from unicodedata import east_asian_width

    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)
