"""Takes out of an output what differs from run to run and from machine to machine; leaves everything else as it is."""

from __future__ import annotations

import os
import re
from typing import Any

_RULES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\x1b\[[0-9;?]*[A-Za-z]", ""),
        (r"\r+\n", "\n"),
        # busybox's shell draws its line again whenever the window's size is told to it: what counts is the last drawing.
        (r"[^\n]*\r(?=/\S* [#$])", ""),
        (r"(?:^|(?<=\n))/\S* [#$] ?", ""),
        (r"\bjudged-dockerd-[0-9a-f]+", "<parent>"),
        (r"\b[0-9a-f]{64}\b", "<id>"),
        (r"\b(?=[0-9a-f]*[0-9])[0-9a-f]{12}\b", "<short-id>"),
        (r"\b\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:Z| ?[+-]\d{2}:?\d{2})?(?: UTC)?", "<time>"),
        (r"(?:Less than a|About an?|\d+) (?:second|minute|hour|day|week|month|year)s?(?= ago|\b)", "<while>"),
        (r"\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b", "<mac>"),
        (r"\b(?:172\.(?:1[6-9]|2\d|3[01])|192\.168)\.\d{1,3}\.\d{1,3}\b", "<ip>"),
        # Columns are as wide as their widest cell, which may be one of the above.
        (r"(?<=\S) {2,}", "  "),
        (r" +(?=\n|$)", ""),
    )
)


class Normaliser:
    """Knows the names of one engine's run: its directory, the archives' directory and the ids of the base images."""

    def __init__(self, names: dict[str, str]) -> None:
        # Longest first, so that a path is not cut by one of its parents.
        self._names = sorted(names.items(), key=lambda item: -len(item[0]))
        self._kernel = os.uname().release

    def text(self, text: str) -> str:
        for value, name in self._names:
            text = text.replace(value, name)
        text = text.replace(self._kernel, "<kernel>")
        for pattern, replacement in _RULES:
            text = pattern.sub(replacement, text)
        return text

    def value(self, value: Any) -> Any:
        """The same for a JSON value: keys that are ids, too."""
        match value:
            case str():
                return self.text(value)
            case list():
                return [self.value(item) for item in value]
            case dict():
                return {self.text(key): self.value(item) for key, item in value.items()}
        return value
