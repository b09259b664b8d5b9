"""Leaving a terminal by keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teul.errors import InvalidParameter
from teul.wire.detach_keys import DEFAULT_SEQUENCE, DetachKeys, parse_detach_keys


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("", b"\x10\x11"),
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("a", b"a"),
        ("ctrl-@,ctrl-a,ctrl-z", b"\x00\x01\x1a"),
        ("ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", b"\x1b\x1c\x1d\x1e\x1f"),
        ("DEL", b"\x7f"),
        ("x,ctrl-c,y", b"x\x03y"),
    ],
)
def test_sequences_are_read_as_docker_reads_them(text: str, codes: bytes) -> None:
    assert parse_detach_keys(text) == codes


@pytest.mark.parametrize("text", ["ctrl-zz", "ctrl-A", "ab", "a,", "ctrl-", "é", "del"])
def test_a_malformed_sequence_is_refused_in_dockers_words(text: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        parse_detach_keys(text)
    assert caught.value.message == f"Invalid detach keys ({text}) provided"


def test_the_sequence_detaches_and_is_not_passed_on() -> None:
    keys = DetachKeys()
    assert keys.feed(b"ls\r\x10\x11rest") == b"ls\r"
    assert keys.detached
    assert keys.feed(b"more") == b""


def test_the_sequence_is_found_across_reads() -> None:
    keys = DetachKeys()
    assert keys.feed(b"a\x10") == b"a"
    assert not keys.detached
    assert keys.feed(b"\x11") == b""
    assert keys.detached


def test_a_broken_sequence_is_passed_on_whole() -> None:
    keys = DetachKeys()
    assert keys.feed(b"\x10") == b""
    assert keys.feed(b"x") == b"\x10x"
    assert not keys.detached


def test_the_key_that_breaks_a_sequence_begins_no_new_one() -> None:
    """docker: ctrl-p ctrl-p ctrl-q does not detach."""
    keys = DetachKeys()
    assert keys.feed(b"\x10\x10\x11") == b"\x10\x10\x11"
    assert not keys.detached


@given(st.lists(st.sampled_from([b"\x10", b"\x11", b"a", b"b\x10", b"\x10\x11"]), max_size=12))
def test_how_the_input_is_cut_changes_nothing(pieces: list[bytes]) -> None:
    one, many = DetachKeys(), DetachKeys(DEFAULT_SEQUENCE)
    whole = one.feed(b"".join(pieces))
    assert b"".join(many.feed(bytes([byte])) for byte in b"".join(pieces)) == whole
    assert one.detached == many.detached
