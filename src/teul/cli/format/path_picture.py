"""Paths of packets as a picture: SVG without anything from outside, in the reader's own choice of light or dark. Pure.

A path is a row of boxes, one for each step, from the sender to where it ends. Every text may be somebody else's, and is escaped.
"""

from __future__ import annotations

from teul.cli.format.paths import MARKS, harmless, heading, verdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

_WIDTH, _GAP, _MARGIN = 208, 28, 24
_LINE, _LETTER = 16, 6.4  # the height of a line; how wide a letter is, more or less, at this size
_COLUMNS = 5  # boxes beside each other; further ones go into another row
_MOST_LINES = 9
# Colours in place of variables of CSS, which not everything that shows SVG knows.
_STYLE = """
text { font: 12px ui-sans-serif, system-ui, sans-serif; fill: #1b1f24; }
.paper { fill: #ffffff; }
.title { font-weight: 600; font-size: 15px; }
.where { font-weight: 600; }
.dim { fill: #57606a; font-size: 11px; }
.box { fill: #f6f8fa; stroke: #8c959f; stroke-width: 1; }
.arrow { stroke: #8c959f; stroke-width: 1.5; fill: none; }
.translated { stroke: #1a7f37; }
.unsure { stroke: #9a6700; stroke-width: 2; }
.dropped, .refused { stroke: #cf222e; stroke-width: 2; }
.says-reaches { fill: #1a7f37; }
.says-unsure { fill: #9a6700; }
.says-dropped, .says-refused { fill: #cf222e; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; }
.paper { fill: #0d1117; }
.dim { fill: #9198a1; }
.box { fill: #161b22; stroke: #656c76; }
.translated { stroke: #3fb950; }
.unsure { stroke: #d29922; }
.dropped, .refused { stroke: #f85149; }
.says-reaches { fill: #3fb950; }
.says-unsure { fill: #d29922; }
.says-dropped, .says-refused { fill: #f85149; }
}
"""
_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"}


def draw(explanation: dict[str, Any]) -> str:
    """The picture of what `GET /teul/containers/{id}/network/explanation` answers."""
    width = 2 * _MARGIN + _COLUMNS * _WIDTH + (_COLUMNS - 1) * _GAP
    parts: list[str] = []
    y = _MARGIN + 12
    state = "" if explanation["Running"] else ", not running"
    parts.append(_text(_MARGIN, y, f"{explanation['Name']}{state}", "title"))
    for line in [*explanation["Notes"], *(_network(each) for each in explanation["Networks"]), *explanation["Names"]]:
        for part in _wrapped(line, width - 2 * _MARGIN):
            y += _LINE
            parts.append(_text(_MARGIN, y, part, "dim"))
    for path in explanation["Paths"]:
        y, drawn = _path(path, y + 34, width)
        parts += drawn
    height = y + _MARGIN
    title = escape(f"How packets get to {explanation['Name']} and from it")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n"
        '<defs><marker id="tip" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto">'
        '<path d="M0,0 L8,4 L0,8" class="arrow"/></marker></defs>\n'
        f'<rect class="paper" width="{width}" height="{height}"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def escape(text: str) -> str:
    """Text as it may stand in a document and in an attribute; without what XML cannot hold at all."""
    return "".join(_ESCAPES.get(letter, letter) for letter in harmless(text))


def _network(network: dict[str, Any]) -> str:
    return f"{network['Name']} ({network['Driver']}): {', '.join(network['Addresses'])} {network['Bridge']}"


def _path(path: dict[str, Any], top: int, width: int) -> tuple[int, list[str]]:
    """Where it ends, and what there is to draw."""
    result = str(path["Verdict"]["Result"])
    parts = [_text(_MARGIN, top, heading(path), "where")]
    y = top
    for line in _wrapped(verdict(path), width - 2 * _MARGIN):
        y += _LINE
        parts.append(_text(_MARGIN, y, line, f"says-{result}"))
    y += 12
    steps: Sequence[dict[str, Any]] = path["Steps"]
    for start in range(0, len(steps), _COLUMNS):
        row = [_box_lines(number, step) for number, step in enumerate(steps[start : start + _COLUMNS], start + 1)]
        height = 14 + _LINE * max(len(lines) for lines in row)
        if start:
            parts.append(_arrow(_MARGIN + 16, y - 16, _MARGIN + 16, y))
        for column, (lines, step) in enumerate(zip(row, steps[start:], strict=False)):
            x = _MARGIN + column * (_WIDTH + _GAP)
            parts += _box(x, y, height, lines, str(step["Action"]))
            if column + 1 < len(row):
                parts.append(_arrow(x + _WIDTH, y + height // 2, x + _WIDTH + _GAP, y + height // 2))
        y += height + 16
    remedy = path["Verdict"]["Remedy"]
    for line in _wrapped(f"what to do: {remedy}", width - 2 * _MARGIN) if remedy else ():
        y += _LINE - 4
        parts.append(_text(_MARGIN, y, line, "dim"))
    return y, parts


def _box_lines(number: int, step: dict[str, Any]) -> list[tuple[str, str]]:
    room = _WIDTH - 16
    title = f"{number} {MARKS.get(step['Action'], '')} {step['Where']}"
    lines = [(line, "where") for line in _wrapped(title, room * 7 // 8)]  # bold letters are wider
    lines += [(line, "") for line in _wrapped(step["What"], room)]
    lines += [(line, "dim") for evidence in step["Evidence"] for line in _wrapped(evidence, room)]
    return lines if len(lines) <= _MOST_LINES else [*lines[: _MOST_LINES - 1], ("…", "dim")]


def _box(x: int, y: int, height: int, lines: Sequence[tuple[str, str]], action: str) -> Iterator[str]:
    kind = action if action in MARKS else ""
    yield f'<rect class="box {kind}" x="{x}" y="{y}" width="{_WIDTH}" height="{height}" rx="6"/>'
    for number, (line, style) in enumerate(lines):
        yield _text(x + 8, y + 18 + number * _LINE, line, style)


def _arrow(x1: int, y1: int, x2: int, y2: int) -> str:
    return f'<line class="arrow" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" marker-end="url(#tip)"/>'


def _text(x: int, y: int, text: str, style: str) -> str:
    return f'<text x="{x}" y="{y}" class="{style}">{escape(text)}</text>'


def _wrapped(text: object, width: int) -> list[str]:
    """Lines of `text` that fit; a word that is too long is broken."""
    room = max(int(width / _LETTER), 1)
    lines = [""]
    for word in harmless(text).split(" "):
        rest = word
        if lines[-1] and len(lines[-1]) + 1 + len(rest) <= room:
            lines[-1] += f" {rest}"
            continue
        if lines[-1]:
            lines.append("")
        while len(rest) > room:
            lines[-1], rest = rest[:room], rest[room:]
            lines.append("")
        lines[-1] = rest
    return lines
