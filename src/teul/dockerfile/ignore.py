"""`.dockerignore`, and the patterns of `--exclude`: which paths of a context are left out. Pure.

Source: the Dockerfile reference, ".dockerignore file"; moby patternmatcher and its ignorefile for what that leaves open. As in
patterns.py, a pattern is followed as the set of all its places at once: the time is that of the path's length times the pattern's.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass

from teul.errors import InvalidParameter
from teul.oci.pattern import matches_pattern

_META = re.compile(r"[*?\[\]\\]")


class IgnoreList:
    """Patterns in their order; one that begins with `!` takes back what those before it have left out."""

    def __init__(self, patterns: Iterable[str]) -> None:
        """Raises InvalidParameter for a pattern that is none."""
        self._patterns = [_compile(cleaned) for text in patterns if (cleaned := text.strip())]

    @property
    def takes_back(self) -> bool:
        """Whether something inside a directory that is left out may be there all the same."""
        return any(pattern.takes_back for pattern in self._patterns)

    def ignores(self, path: str) -> bool:
        """Whether `path`, relative and without dots, is left out: by itself or with a directory that it is in."""
        parts = path.split("/")
        places = ["/".join(parts[:count]) for count in range(len(parts), 0, -1)]
        ignored = False
        for pattern in self._patterns:
            if pattern.takes_back is ignored and any(map(pattern.matches, places)):
                ignored = not pattern.takes_back
        return ignored


def parse_ignore_file(text: str) -> IgnoreList:
    """The patterns of a `.dockerignore`, one to a line; lines that begin with `#` are comments. Raises InvalidParameter."""
    patterns = []
    for line in text.removeprefix("\ufeff").splitlines():
        pattern = line.strip()
        if line.startswith("#") or not pattern:
            continue
        sign, pattern = ("!", pattern[1:].strip()) if pattern.startswith("!") else ("", pattern)
        if pattern:
            pattern = _clean(pattern)
            pattern = pattern[1:] if len(pattern) > 1 and pattern.startswith("/") else pattern
        patterns.append(sign + pattern)
    return IgnoreList(patterns)


def _clean(path: str) -> str:
    """As Go's filepath.Clean: unlike here, there two slashes at the beginning are one."""
    cleaned = posixpath.normpath(path)
    return "/" + cleaned.lstrip("/") if cleaned.startswith("//") else cleaned


@dataclass(frozen=True, slots=True)
class _Pattern:
    """`steps` are characters, classes of them, and the marks below. Place n is before step n."""

    steps: tuple[str | re.Pattern[str], ...]
    takes_back: bool

    def matches(self, path: str) -> bool:
        last = len(self.steps)
        places = self._entered({0})
        for character in path:
            moved: set[int] = set()
            for place in places:
                step = self.steps[place] if place < last else ""
                if isinstance(step, re.Pattern):
                    if step.fullmatch(character):
                        moved.add(place + 1)
                elif step == _ANY:
                    if character != "/":
                        moved.add(place + 1)
                elif step == _STAR:
                    if character != "/":
                        moved.add(place)
                elif step == _EVERYTHING:
                    moved.add(place)
                elif step == _INSIDE:
                    moved.add(place)
                    if character == "/":
                        moved.add(place + 1)
                elif step == character:
                    moved.add(place + 1)
            places = self._entered(moved)
            if not places:
                return False
        return last in places

    def _entered(self, places: set[int]) -> set[int]:
        """With those that are come to without a character."""
        todo = list(places)
        while todo:
            place = todo.pop()
            step = self.steps[place] if place < len(self.steps) else ""
            following = {_STAR: (1,), _EVERYTHING: (1,), _DIRECTORIES: (1, 2)}.get(step, ()) if isinstance(step, str) else ()
            for distance in following:
                if place + distance not in places:
                    places.add(place + distance)
                    todo.append(place + distance)
        return places


# One character but a slash; any of those; anything at all; directories, none or several, of which `_INSIDE` is the middle.
_ANY, _STAR, _EVERYTHING, _DIRECTORIES, _INSIDE = "any", "star", "everything", "directories", "inside"


def _compile(text: str) -> _Pattern:
    pattern = _clean(text)
    takes_back = pattern.startswith("!")
    if takes_back:
        pattern = pattern[1:]
        if not pattern:
            raise InvalidParameter('illegal exclusion pattern: "!"')
    matches_pattern(pattern, ".")  # raises for one that is malformed
    if pattern.startswith("**") and not pattern.startswith("**/") and not _META.search(pattern[2:]):
        # docker: stars right before a name may end inside of another one, if there is nothing else in the pattern.
        return _Pattern((_EVERYTHING, *pattern[2:]), takes_back)
    steps: list[str | re.Pattern[str]] = []
    position = 0
    while position < len(pattern):
        character = pattern[position]
        position += 1
        if character == "*" and pattern.startswith("*", position):
            position += 1
            position += pattern.startswith("/", position)
            steps += [_EVERYTHING] if position == len(pattern) else [_DIRECTORIES, _INSIDE]
        elif character == "*":
            steps.append(_STAR)
        elif character == "?":
            steps.append(_ANY)
        elif character == "[":
            end = _class_end(pattern, position)
            steps.append(re.compile(pattern[position - 1 : end], re.DOTALL))
            position = end
        elif character == "\\" and position < len(pattern):
            steps.append(pattern[position])
            position += 1
        else:
            steps.append(character)
    return _Pattern(tuple(steps), takes_back)


def _class_end(pattern: str, position: int) -> int:
    """Where the class that opened before `position` has ended; that it ends is known."""
    position += pattern.startswith("^", position)
    while pattern[position] != "]":
        position += 2 if pattern[position] == "\\" else 1
    return position + 1
