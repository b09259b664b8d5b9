"""What a .dockerignore leaves out."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teul.dockerfile.ignore import IgnoreList, parse_ignore_file
from teul.errors import InvalidParameter


@pytest.mark.parametrize(
    ("patterns", "ignored", "kept"),
    [
        ("a", ["a", "a/b", "a/b/c"], ["ab", "b/a", "A"]),
        ("/a", ["a", "a/b"], ["b/a"]),
        ("a/", ["a", "a/b"], ["b/a"]),
        ("./a/../b", ["b"], ["a"]),
        ("*.o", ["x.o", ".o", "x.o/y"], ["d/x.o", "x.ob"]),
        ("*/*.o", ["d/x.o"], ["x.o", "d/e/x.o"]),
        ("**/*.o", ["x.o", "d/x.o", "d/e/x.o"], ["x.ob"]),
        ("**/a/b", ["a/b", "c/a/b", "c/d/a/b/e"], ["a", "ca/b", "a/c/b"]),
        ("a/**/b", ["a/b", "a/c/b", "a/c/d/b"], ["a", "b", "a/cb"]),
        ("a/**", ["a/b", "a/b/c"], ["b"]),
        ("**", ["a", "a/b"], []),
        ("**b", ["b", "ab", "a/b", "a/cb"], ["bc"]),
        ("a?c", ["abc"], ["ac", "a/c", "abbc"]),
        ("a[0-9]", ["a1", "a1/b"], ["ab", "a"]),
        ("a[^0-9]", ["ab"], ["a1"]),
        ("a\\*", ["a*"], ["ab"]),
        ("a.b+(c)|{d}$", ["a.b+(c)|{d}$"], ["aXb+(c)|{d}$"]),
        ("*\n!a", ["b", "b/c"], ["a", "a/b"]),
        ("*.md\n!README*.md\nREADME-secret.md", ["x.md", "README-secret.md"], ["README.md", "README-x.md"]),
        ("a\n!a/b\na/b/c", ["a", "a/x", "a/b/c"], ["a/b", "a/b/d"]),
        ("# a\n \n  b  \n!  c", ["b"], ["a", "c", "# a"]),
        ("\ufeffa", ["a"], ["b"]),
        ("", [], ["a"]),
    ],
)
def test_which_paths(patterns: str, ignored: list[str], kept: list[str]) -> None:
    found = parse_ignore_file(patterns)
    assert [path for path in (*ignored, *kept) if found.ignores(path)] == ignored


@pytest.mark.parametrize(("pattern", "message"), [("!", 'illegal exclusion pattern: "!"'), ("[", "syntax error in pattern"), ("a\\", "syntax error in pattern")])  # fmt: skip
def test_patterns_that_are_none(pattern: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        parse_ignore_file(pattern)
    assert caught.value.message == message


def test_whether_a_directory_that_is_left_out_must_be_looked_into() -> None:
    assert parse_ignore_file("*\n!a").takes_back
    assert not parse_ignore_file("*").takes_back


@given(st.lists(st.sampled_from(["a", "b", "/", "*", "**", "**/", "?", "ab"]), max_size=6).map("".join), st.text("ab/", max_size=8))
def test_a_pattern_means_what_dockers_expression_means(pattern: str, path: str) -> None:
    """moby makes a regular expression of it."""
    path = "/".join(part for part in path.split("/") if part)
    if not pattern.strip("/") or not path or re.search(r"//|\*\*\*", pattern) or pattern.startswith("**") or pattern.endswith("/"):
        return
    parts = path.split("/")
    places = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    wanted = any(re.fullmatch(_expression(pattern), place) for place in places)
    assert IgnoreList([pattern]).ignores(path) is wanted


def _expression(pattern: str) -> str:
    result, position = "", 0
    while position < len(pattern):
        if pattern.startswith("**", position):
            position += 2
            position += pattern.startswith("/", position)
            result += ".*" if position == len(pattern) else "(.*/)?"
        else:
            result += {"*": "[^/]*", "?": "[^/]"}.get(pattern[position], pattern[position])
            position += 1
    return result
