"""The points where `tests/faults` makes things go wrong: each is named once in the source, and each is reached by a test."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
SOURCE = PROJECT / "src" / "teul"
NAME = re.compile(r"[a-z]+\.[a-z]+\.[a-z]+")  # room.what.step


def _trees(directory: Path) -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(directory.rglob("*.py")):
        yield str(path.relative_to(PROJECT)), ast.parse(path.read_text(encoding="utf-8"))


@cache
def _reached() -> tuple[tuple[str, ast.Call], ...]:
    """Every call of `failpoints.reach` in the source, with its place."""
    return tuple(
        (f"{path}:{node.lineno}", node)
        for path, tree in _trees(SOURCE)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "failpoints.reach"
    )


def _points() -> list[str]:
    return [ast.literal_eval(call.args[0]) for _, call in _reached()]


def _judged() -> set[str]:
    """The points that the tests' tables of cases name."""
    found: set[str] = set()
    for _, tree in _trees(PROJECT / "tests" / "faults"):
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "cases":
                found |= ast.literal_eval(node.args[0]).keys()
    return found


def test_points_have_literal_names_of_one_style() -> None:
    """Somebody who reads a name finds its place by searching for it."""
    bad = [
        f"{place}: {ast.unparse(call)}"
        for place, call in _reached()
        if len(call.args) != 1
        or call.keywords
        or not isinstance(call.args[0], ast.Constant)
        or not isinstance(call.args[0].value, str)
        or not NAME.fullmatch(call.args[0].value)
    ]
    assert not bad, "a point's name is a literal, `room.what.step`:\n  " + "\n  ".join(bad)


def test_points_are_named_once() -> None:
    twice = [name for name, count in Counter(_points()).items() if count > 1]
    assert not twice, f"two places of one name cannot be told apart: {twice}"


def test_the_module_is_imported_and_not_the_function() -> None:
    """Tests replace the module's attribute; a name that was imported before would not notice."""
    bad = [
        f"{path}:{node.lineno}"
        for path, tree in _trees(SOURCE)
        for node in ast.walk(tree)
        if (isinstance(node, ast.ImportFrom) and node.module == "teul.failpoints")
        or (isinstance(node, ast.Attribute) and node.attr == "reach" and ast.unparse(node) != "failpoints.reach")
    ]
    assert not bad, f"write `from teul import failpoints` and `failpoints.reach(...)`: {bad}"


def test_every_point_is_reached_by_a_test() -> None:
    """That the test comes there it asserts itself: a point that does not strike fails."""
    missing = sorted(set(_points()) - _judged())
    assert not missing, f"say in tests/faults what must hold there: {missing}"


def test_no_test_waits_for_a_point_that_is_not_there() -> None:
    unknown = sorted(_judged() - set(_points()))
    assert not unknown, f"no such failpoints: {unknown}"
