"""Patterns mean what Go's path.Match says; the table is from its tests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teul.oci.pattern import InvalidPattern, matches_pattern


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("abc", "abc", True),
        ("*", "abc", True),
        ("*c", "abc", True),
        ("a*", "a", True),
        ("a*", "ab/c", False),
        ("a*/b", "abc/b", True),
        ("a*/b", "a/c/b", False),
        ("a*b*c*d*e*/f", "axbxcxdxe/f", True),
        ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", False),
        ("a**b", "axxb", True),
        ("a*b?c*x", "abxbbxdbxebxczzx", True),
        ("ab[c]", "abc", True),
        ("ab[b-d]", "abc", True),
        ("ab[e-g]", "abc", False),
        ("ab[^c]", "abc", False),
        ("ab[^e-g]", "abc", True),
        ("a\\*b", "a*b", True),
        ("a\\*b", "ab", False),
        ("a?b", "a☺b", True),
        ("a[^a]b", "a☺b", True),
        ("a???b", "a☺b", False),
        ("[a-\u03b6]*", "\u03b1", True),
        ("a?b", "a/b", False),
        ("a*b", "a/b", False),
        ("[\\]a]", "]", True),
        ("[\\-]", "-", True),
        ("[x\\-]", "z", False),
        ("[b-a]", "a", False),
        ("[^b-a]", "a", True),
        ("*x", "xxx", True),
        ("(.+)", "abc", False),
        ("a.c", "abc", False),
    ],
)
def test_matching(pattern: str, text: str, expected: bool) -> None:
    assert matches_pattern(pattern, text) is expected


@pytest.mark.parametrize("pattern", ["[]a]", "[-]", "[x-]", "[-x]", "[", "[^", "[^bc", "a[", "\\", "[a\\", "[a-b-c]"])
def test_malformed_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(InvalidPattern, match="syntax error in pattern"):
        matches_pattern(pattern, "a")


@given(st.text("ab*?[]^-\\/☺", max_size=20), st.text("ab/☺", max_size=8))
def test_any_pattern_answers_or_is_refused(pattern: str, text: str) -> None:
    try:
        matches_pattern(pattern, text)
    except InvalidPattern:
        return
