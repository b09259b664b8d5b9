"""`WWW-Authenticate`, as registries write it and as they should not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teul.registry.challenges import Challenge, parse_challenges


@pytest.mark.parametrize(
    ("headers", "challenges"),
    [
        (['Basic realm="a"'], [Challenge("basic", {"realm": "a"})]),
        (["BASIC REALM=a"], [Challenge("basic", {"realm": "a"})]),
        (["Basic"], [Challenge("basic", {})]),
        (
            ['Bearer realm="https://a.example/token",service="a.example",scope="repository:x/y:pull,push"'],
            [Challenge("bearer", {"realm": "https://a.example/token", "service": "a.example", "scope": "repository:x/y:pull,push"})],
        ),
        (["Bearer realm=https://a/token, service=b"], [Challenge("bearer", {"realm": "https://a/token", "service": "b"})]),
        ([r'Basic realm="say \"hi\" \\ there"'], [Challenge("basic", {"realm": 'say "hi" \\ there'})]),
        (['Basic realm = "a" ,  charset="UTF-8"'], [Challenge("basic", {"realm": "a", "charset": "UTF-8"})]),
        (['Negotiate YWJj==, Basic realm="a"'], [Challenge("negotiate", {}), Challenge("basic", {"realm": "a"})]),
        (['Negotiate, Basic realm="a", Bearer realm="b"'],
         [Challenge("negotiate", {}), Challenge("basic", {"realm": "a"}), Challenge("bearer", {"realm": "b"})]),
        (['Basic realm="a"', 'Bearer realm="b"'], [Challenge("basic", {"realm": "a"}), Challenge("bearer", {"realm": "b"})]),
        ([',, Basic realm="a",,'], [Challenge("basic", {"realm": "a"})]),
        (['Bearer realm="a", realm="b"'], [Challenge("bearer", {"realm": "a"})]),
        (['Bearer realm="", service=""'], [Challenge("bearer", {"realm": "", "service": ""})]),
        (['Bearer realm="unterminated'], [Challenge("bearer", {})]),
        (['realm="a"'], []),
        (["", "   ", "@@@"], []),
    ],
)  # fmt: skip
def test_challenges_are_read(headers: list[str], challenges: list[Challenge]) -> None:
    assert parse_challenges(headers) == challenges


@given(st.lists(st.text(alphabet='Basic realm="a\\,=; \t@é') | st.text(), max_size=3))
def test_any_header_gives_challenges_or_none(headers: list[str]) -> None:
    assert all(challenge.scheme == challenge.scheme.lower() for challenge in parse_challenges(headers))
