"""Device rules: parsing, and what they come to on cgroup v1."""

from __future__ import annotations

import errno

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from teul.linux.bpf import DeviceRule
from teul.linux.cgroups import devices

DENY_ALL = {"allow": False, "access": "rwm"}


def rule(allow: bool, kind: str, major: int | None, minor: int | None, access: str) -> dict[str, object]:
    return {"allow": allow, "type": kind, "major": major, "minor": minor, "access": access}


def test_absent_parts_of_a_rule_mean_all() -> None:
    assert devices.parse_rules([{"allow": True}, {"type": "u", "major": -1, "minor": 3, "access": "mr"}]) == [
        (True, "a", None, None, "rwm"),
        (False, "c", None, 3, "rm"),
    ]


@pytest.mark.parametrize("wrong", [{"type": "x"}, {"access": "rx"}, {"major": -2}, {"minor": 1 << 31}])
def test_a_rule_that_is_none_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(OSError, match="invalid device") as caught:
        devices.parse_rules([wrong])
    assert caught.value.errno == errno.EINVAL


def test_dockers_list_is_denial_and_exceptions() -> None:
    rules = devices.parse_rules(
        [DENY_ALL, rule(True, "c", None, None, "m"), rule(True, "c", 1, 3, "rwm"), rule(True, "c", 136, None, "rw")]
    )
    assert devices.v1_writes(rules) == [
        ("devices.deny", "a"),
        ("devices.allow", "c *:* m"),
        ("devices.allow", "c 1:3 rwm"),
        ("devices.allow", "c 136:* rwm"),
    ]


def test_a_narrow_exception_carries_what_wider_ones_allow() -> None:
    """One v1 exception must grant all that an open(2) asks for: r by one and w by another would refuse O_RDWR."""
    rules = devices.parse_rules([DENY_ALL, rule(True, "b", 8, None, "r"), rule(True, "b", 8, 1, "w")])
    assert ("devices.allow", "b 8:1 rw") in devices.v1_writes(rules)


def test_a_privileged_container_inherits() -> None:
    """Below a parent that is restricted itself the kernel would refuse the word `a`."""
    rules = devices.parse_rules([DENY_ALL, {"allow": True, "access": "rwm"}])
    assert devices.is_allow_all(rules)
    assert devices.v1_writes(rules) == []


def test_all_but_one_is_a_denial() -> None:
    rules = devices.parse_rules([{"allow": True}, rule(False, "b", 8, 0, "w")])
    assert not devices.is_allow_all(rules)
    assert devices.v1_writes(rules) == [("devices.deny", "b 8:0 w")]


def test_both_kinds_at_once_are_two_exceptions() -> None:
    rules = devices.parse_rules([DENY_ALL, rule(True, "a", 7, 1, "r")])
    assert devices.v1_writes(rules)[1:] == [("devices.allow", "b 7:1 r"), ("devices.allow", "c 7:1 r")]


def test_a_later_refusal_takes_an_exception_back() -> None:
    rules = devices.parse_rules([DENY_ALL, rule(True, "c", 1, 3, "rwm"), rule(True, "c", 1, 5, "r"), rule(False, "c", 1, None, "wr")])
    assert devices.v1_writes(rules) == [("devices.deny", "a"), ("devices.allow", "c 1:3 m")]


def test_a_hole_in_a_wildcard_is_refused_not_ignored() -> None:
    """The kernel would ignore it without a word, and leave the device open."""
    rules = devices.parse_rules([DENY_ALL, rule(True, "c", 1, None, "rwm"), rule(False, "c", 1, 3, "w")])
    with pytest.raises(OSError, match=r"device rule c 1:3 w cannot be set on cgroup v1: it makes a hole in c 1:\* rwm"):
        devices.v1_writes(rules)


numbers = st.none() | st.sampled_from([1, 2])
rules_strategy = st.lists(
    st.tuples(st.booleans(), st.sampled_from("abc"), numbers, numbers, st.sampled_from(["r", "rw", "m", "rwm"])), max_size=6
)


@settings(max_examples=400, derandomize=True)
@given(rules_strategy, st.sampled_from("bc"), st.sampled_from([1, 2, 3]), st.sampled_from([1, 2, 3]), st.sampled_from("rwm"))
def test_folded_rules_mean_the_same(rules: list[DeviceRule], kind: str, major: int, minor: int, letter: str) -> None:
    expected = False
    for allow, rule_kind, rule_major, rule_minor, access in rules:
        if rule_kind in {"a", kind} and rule_major in {None, major} and rule_minor in {None, minor} and letter in access:
            expected = allow
    try:
        default, exceptions = devices.fold(rules)
    except OSError:
        assume(False)
    excepted = any(
        each == kind and each_major in {None, major} and each_minor in {None, minor} and letter in access
        for (each, each_major, each_minor), access in exceptions.items()
    )
    assert (default != excepted) == expected
