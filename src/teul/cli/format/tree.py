"""Images with their platforms below them: the tree of `docker images --tree`, whose every byte this is, and Teul's with the layers.

A column that leaves too little room for the names is left out, with those after it (docker: cli/command/image/tree.go, internal/tui).
"""

from __future__ import annotations

from teul.cli.format.note import INFO_WIDTH, info_header
from teul.cli.format.units import human_size, short_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

_SPACING = 3
_LEAST_WIDTH, _DEFAULT_WIDTH = 20, 80
_LEAST_NAME_WIDTH = 12
_NAME, _PLAIN, _UNTAGGED, _ABSENT = "\x1b[34m\x1b[1m", "\x1b[39m", "\x1b[39m\x1b[2m", "\x1b[39m\x1b[2m"
_TITLE, _WARNING, _IN_USE, _RESET = "\x1b[39m\x1b[1m", "\x1b[93m", "\x1b[38;5;0m\x1b[48;5;14m", "\x1b[0m"
WARNING = "WARNING: This is an experimental feature. The output may change and shouldn't be depended on."


class Line:
    """A line of the tree below the names: what stands in the first column and in the others. `style` is a terminal's."""

    def __init__(self, text: str, identifier: str, sizes: Sequence[str], *, in_use: bool = False, style: str = _PLAIN) -> None:
        self.text = text
        self.identifier = short_id(identifier)
        self.sizes = sizes
        self.in_use = in_use
        self.style = style


class Branch:
    """An image: all its names, the line that the last of them is on, and the lines below it."""

    def __init__(self, names: Sequence[str], line: Line, children: Sequence[Line]) -> None:
        self.names = sorted(names, key=len, reverse=True)
        self.line = line
        self.children = children
        line.text = self.names[-1] if self.names else "<untagged>"
        line.style = _NAME if self.names else _UNTAGGED


class _Column:
    def __init__(self, title: str, width: int, value: Callable[[Line], str], *, right: bool = True) -> None:
        self.title = title
        self.width = width
        self.value = value
        self.right = right

    def cell(self, text: str, paint: Callable[[str], str], *, width: int | None = None) -> str:
        """`width` is that of the text on the screen, if it has colours of its own."""
        room = self.width - (len(text) if width is None else width)
        if room < 0:
            return paint(_cut(text, self.width))
        return " " * room + paint(text) if self.right else paint(text) + " " * room


def docker_branches(images: list[dict[str, Any]]) -> list[Branch]:
    """The tree of what `GET /images/json?manifests=1` answers: platforms, without attestations."""
    return [_branch(image) for image in sorted(images, key=lambda image: -int(image["Created"]))]


def _branch(image: dict[str, Any]) -> Branch:
    manifests = image.get("Manifests") or []
    platforms = [manifest for manifest in manifests if manifest["Kind"] == "image"]
    content_bytes = sum(manifest["Size"]["Content"] for manifest in manifests)
    sizes = (human_size(image["Size"], 3), human_size(content_bytes, 3))
    in_use = image.get("Containers", 0) > 0 or any(manifest["ImageData"].get("Containers") for manifest in platforms)
    children = [
        Line(
            ("└─ " if manifest is platforms[-1] else "├─ ") + platform_text(manifest["ImageData"]["Platform"]),
            manifest["ID"],
            (human_size(manifest["Size"]["Total"], 3), human_size(manifest["Size"]["Content"], 3)),
            in_use=bool(manifest["ImageData"].get("Containers")),
            style=_PLAIN if manifest["Available"] else _ABSENT,
        )
        for manifest in platforms
    ]
    return Branch(image.get("RepoTags") or [], Line("", image["Id"], sizes, in_use=in_use), children)


def platform_text(platform: dict[str, Any]) -> str:
    if not platform.get("os"):
        return "unknown"
    return "/".join(part for part in (platform["os"], platform.get("architecture"), platform.get("variant")) if part)


def layered_branches(images: list[dict[str, Any]], tree: dict[str, Any]) -> list[Branch]:
    """As `docker_branches`, with the layers below their platforms, and what each truly takes: `tree` is `GET /teul/images/layers`."""
    found = {image["Id"]: image for image in tree["Images"]}
    branches = docker_branches(images)
    ordered = sorted(images, key=lambda image: -int(image["Created"]))
    for branch, image in zip(branches, ordered, strict=True):
        measured = found.get(image["Id"])
        if measured is None:  # gone since it was listed
            branch.line.sizes = ("", "", *branch.line.sizes)
            branch.children = []
            continue
        branch.line.sizes = (*_disk(measured), *branch.line.sizes)
        manifests = {manifest["ID"]: manifest for manifest in measured["Manifests"]}
        branch.children = [line for child in branch.children for line in _with_layers(child, manifests, last=child is branch.children[-1])]
    return branches


def _with_layers(child: Line, manifests: dict[str, Any], *, last: bool) -> Iterator[Line]:
    manifest = next(manifest for digest, manifest in manifests.items() if short_id(digest) == child.identifier)
    child.sizes = (*_disk(manifest), *child.sizes)
    yield child
    layers = manifest["Layers"]
    for number, layer in enumerate(layers, 1):
        mark = "└─ " if number == len(layers) else "├─ "
        sizes = (*_disk(layer, layer["Images"]), human_size(layer["Size"], 3), human_size(layer["Content"], 3))
        yield Line(("   " if last else "│  ") + f"{mark}layer {number}", layer["DiffID"], sizes, style=child.style)


def _disk(measured: dict[str, Any], images: int = 0) -> tuple[str, str]:
    shared = human_size(measured["SharedSize"], 3)
    return human_size(measured["DiskSize"], 3), f"{shared} in {images}" if images > 1 else shared


class Tree:
    """How a tree is written. `width` is the terminal's, 0 where there is none; `layers`: with Teul's columns of true sizes."""

    def __init__(self, branches: list[Branch], *, width: int, fancy: bool, layers: bool = False) -> None:
        self._branches = branches
        self._full_width = width
        self._width = max(width or _DEFAULT_WIDTH, _LEAST_WIDTH)
        self._fancy = fancy
        lines = [line for branch in branches for line in branch.children]
        self._marks = any(line.in_use for line in lines)
        docker = [
            _Column("DISK USAGE", 10, lambda line: line.sizes[-2]),
            _Column("CONTENT SIZE", 12, lambda line: line.sizes[-1]),
        ]
        extra = _Column("EXTRA", 5, self._mark, right=False)
        true = [_Column("ON DISK", 8, lambda line: line.sizes[0]), _Column("SHARED", 12, lambda line: line.sizes[1])]
        self._columns = self._fitting(
            [
                _Column("ID", 12, lambda line: line.identifier, right=False),
                *([*true, extra, *docker] if layers else [*docker, extra]),
            ],
            unlimited=layers and not width,
        )

    def _fitting(self, columns: list[_Column], *, unlimited: bool) -> list[_Column]:
        """`columns`, as many as leave room for the names, with one for these in front. The narrowest that holds them all, if it can be."""
        room = self._width
        fitting: list[_Column] = []
        for column in columns:
            needed = column.width + _SPACING
            if room - needed < _LEAST_NAME_WIDTH and not unlimited:
                break
            room -= needed
            fitting.append(column)
        # docker: what stands before a platform counts by its bytes, and an image without a name for nothing.
        widths = [len(name) for branch in self._branches for name in branch.names]
        widths += [len(line.text.encode()) for branch in self._branches for line in branch.children]
        widest = max([len("Image"), *widths])
        return [_Column("IMAGE", widest if unlimited else min(room, widest), lambda line: line.text, right=False), *fitting]

    def render(self) -> str:
        text = self._paint(_WARNING, WARNING) + "\n" + self._legend() + "\n\n"
        # docker: the titles are bold on whatever they are written to.
        titles = (column.cell(column.title, lambda title: f"{_TITLE}{title}{_RESET}") for column in self._columns)
        text += (" " * _SPACING).join(titles) + "\n"
        spacing = "\n" if any(branch.children for branch in self._branches) else ""
        for branch in self._branches:
            for name in branch.names[:-1]:
                text += self._paint(_NAME, _cut(name, self._full_width)) + "\n"
            text += self._row(branch.line, _PLAIN) + spacing
            text += "".join(self._row(child, child.style) + "\n" for child in branch.children) + "\n"
        return text

    def _row(self, line: Line, style: str) -> str:
        first, *others = self._columns
        cells = [first.cell(line.text, lambda text: self._paint(line.style, text))]
        for column in others:
            if column.title == "EXTRA":
                cells.append(column.cell(column.value(line), str, width=self._chip_width() if self._marks else 0))
            else:
                cells.append(column.cell(column.value(line), lambda text: self._paint(style, text)))
        return (" " * _SPACING).join(cells)

    def _legend(self) -> str:
        width = INFO_WIDTH + len(" ") + self._chip_width() + len(" In Use ")
        return " " * max(self._width - width, 0) + info_header(fancy=self._fancy) + " " + self._chip() + " In Use "

    def _chip(self) -> str:
        return f"{_IN_USE} U {_RESET}" if self._fancy else "U"

    def _chip_width(self) -> int:
        return len(" U ") if self._fancy else len("U")

    def _mark(self, line: Line) -> str:
        # docker: where no platform is in use, there is no place for the mark.
        if not self._marks:
            return ""
        return self._chip() if line.in_use else " " * self._chip_width()

    def _paint(self, style: str, text: str) -> str:
        return f"{style}{text}{_RESET}" if self._fancy else text


def _cut(text: str, width: int) -> str:
    """docker: `text` in `width` columns, also when it would just fit; any width if it is 0."""
    return text if not width or len(text) < width else text[: width - 1] + "…"
