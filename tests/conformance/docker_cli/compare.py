"""Compares one step's outcome with what is expected of it; the answer is a list of sentences, empty when they agree."""

from __future__ import annotations

import difflib
import re
from typing import Any

from conformance.docker_cli.differences import compare_json, expected, rewrite
from conformance.docker_cli.player import Seen
from conformance.docker_cli.steps import Compare


def compare(golden: Seen, actual: Seen, how: Compare, *, as_recorded: bool = False) -> list[str]:
    """With `as_recorded`, the record itself is what is wanted: for judging the record by another dockerd."""
    wanted, reason = (golden, None) if as_recorded else expected(golden)
    note = f" (not the record's: {reason})" if reason else ""
    problems = (
        []
        if wanted.exit_code == actual.exit_code
        else [f"exit code {actual.exit_code} instead of {wanted.exit_code}{note}: {actual.stderr!r}"]
    )
    if how is Compare.EXIT:
        return problems
    if wanted.stdout is None:
        return problems
    if not reason or wanted.stderr:
        problems += _different("stderr", wanted.stderr, actual.stderr)
    match how:
        case Compare.TEXT:
            problems += _different("stdout", wanted.stdout, actual.stdout)
        case Compare.LINES:
            problems += _different("stdout", *("\n".join(sorted(text.splitlines())) for text in (wanted.stdout, actual.stdout)))
        case Compare.LABELS:
            missing = _labels(rewrite(wanted.stdout)) - _labels(rewrite(actual.stdout))
            problems += [f"stdout: no line {label!r}" for label in sorted(missing)]
        case Compare.JSON:
            problems += [f"stdout: {line}" for line in compare_json(wanted.stdout, actual.stdout, golden.title)]
    return problems


def _different(stream: str, wanted: Any, actual: Any) -> list[str]:
    wanted_text, actual_text = rewrite(str(wanted)), rewrite(str(actual))
    if wanted_text == actual_text:
        return []
    lines = difflib.unified_diff(wanted_text.splitlines(), actual_text.splitlines(), "docker", "teul", lineterm="", n=1)
    return [f"{stream} differs:\n" + "\n".join(line[:300] for line in lines)]


def _labels(text: str) -> set[str]:
    return {match.group() for line in text.splitlines() if (match := re.match(r" *[\w ./-]+:", line))}
