"""Docker's seccomp profiles become the OCI runtime spec's."""

from __future__ import annotations

from typing import Any

import pytest

from teul.errors import InvalidParameter
from teul.oci.seccomp_profile import InvalidProfile, default_profile, kernel_version, parse_profile, resolve_profile


def resolve(
    profile: dict[str, Any], *, caps: tuple[str, ...] = (), architecture: str = "amd64", kernel: tuple[int, int] = (6, 1)
) -> dict[str, Any]:
    resolved = resolve_profile(profile, capabilities=frozenset(caps), architecture=architecture, kernel=kernel)
    assert resolved is not None
    return resolved


def names(resolved: dict[str, Any]) -> set[str]:
    return {name for rule in resolved["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" and not rule.get("args") for name in rule["names"]}


def with_rule(**rule: Any) -> dict[str, Any]:
    return {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW", **rule}]}


def test_the_default_profile_opens_with_capabilities() -> None:
    """Docker's profile: mount and setns need CAP_SYS_ADMIN, chroot needs CAP_SYS_CHROOT, ptrace a kernel from 4.8 on."""
    plain = names(resolve(default_profile()))
    assert {"read", "execve", "ptrace", "arch_prctl"} <= plain
    assert not {"mount", "setns", "unshare", "chroot", "bpf", "clone"} & plain
    assert {"mount", "setns", "unshare", "bpf", "clone"} <= names(resolve(default_profile(), caps=("CAP_SYS_ADMIN",)))
    assert "chroot" in names(resolve(default_profile(), caps=("CAP_SYS_CHROOT",)))
    assert "ptrace" not in names(resolve(default_profile(), kernel=(4, 7)))


def test_the_default_profile_hides_clone3_without_sys_admin() -> None:
    """Its flags cannot be looked at; with ENOSYS the C library falls back on clone."""
    rules = [rule for rule in resolve(default_profile())["syscalls"] if rule["names"] == ["clone3"]]
    assert rules == [{"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]
    assert not [rule for rule in resolve(default_profile(), caps=("CAP_SYS_ADMIN",))["syscalls"] if rule.get("errnoRet") == 38]


@pytest.mark.parametrize(
    ("architecture", "tokens"),
    [
        ("amd64", ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]),
        ("arm64", ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]),
        ("riscv64", ["SCMP_ARCH_RISCV64"]),
    ],
)
def test_the_architecture_brings_its_smaller_relatives(architecture: str, tokens: list[str]) -> None:
    assert resolve(default_profile(), architecture=architecture)["architectures"] == tokens


def test_an_architecture_that_is_not_mapped_names_none() -> None:
    assert "architectures" not in resolve(default_profile(), architecture="vax")


def test_the_result_has_nothing_of_docker_left() -> None:
    resolved = resolve(default_profile())
    assert set(resolved) == {"defaultAction", "defaultErrnoRet", "architectures", "syscalls"}
    assert {key for rule in resolved["syscalls"] for key in rule} <= {"names", "action", "errnoRet", "args"}


def test_resolving_leaves_the_profile_alone() -> None:
    before = repr(default_profile())
    resolve(default_profile())
    assert repr(default_profile()) == before


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ({"includes": {"caps": ["CAP_A"]}}, True),
        ({"includes": {"caps": ["CAP_A", "CAP_B"]}}, False),
        ({"excludes": {"caps": ["CAP_B", "CAP_A"]}}, False),
        ({"excludes": {"caps": ["CAP_B"]}}, True),
        ({"includes": {"arches": ["arm64", "amd64"]}}, True),
        ({"includes": {"arches": ["arm64"]}}, False),
        ({"excludes": {"arches": ["amd64"]}}, False),
        ({"includes": {"minKernel": "6.1"}}, True),
        ({"includes": {"minKernel": "6.10"}}, False),
        ({"excludes": {"minKernel": "5.19"}}, False),
        ({"excludes": {"minKernel": "6.2"}}, True),
        ({"includes": None, "excludes": None}, True),
        ({"includes": {"caps": ["CAP_A"]}, "excludes": {"arches": ["amd64"]}}, False),
    ],
)
def test_conditions(condition: dict[str, Any], holds: bool) -> None:
    resolved = resolve(with_rule(**condition), caps=("CAP_A",))
    assert [rule["names"] for rule in resolved["syscalls"]] == ([["read"]] if holds else [])


def test_old_profiles_name_one_call() -> None:
    resolved = resolve({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"name": "read", "action": "SCMP_ACT_ALLOW"}]})
    assert resolved["syscalls"] == [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]


def test_numbers_of_zero_are_kept() -> None:
    assert resolve(with_rule(errnoRet=0, args=[]))["syscalls"][0] == {
        "names": ["read"],
        "action": "SCMP_ACT_ALLOW",
        "errnoRet": 0,
        "args": [],
    }


def test_what_is_common_goes_through() -> None:
    profile = {"defaultAction": "SCMP_ACT_LOG", "flags": ["SECCOMP_FILTER_FLAG_LOG"], "architectures": ["SCMP_ARCH_ARM"], "syscalls": None}
    assert resolve(profile) == {**profile, "syscalls": []}


def test_a_profile_that_says_nothing_is_no_filter() -> None:
    assert resolve_profile({"archMap": []}, capabilities=frozenset(), architecture="amd64", kernel=(6, 1)) is None


@pytest.mark.parametrize(
    ("profile", "text"),
    [
        (
            {"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86"], "archMap": [{"architecture": "SCMP_ARCH_X86_64"}]},
            "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'",
        ),
        (with_rule(name="write"), "both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'"),
        (with_rule(includes={"minKernel": "6"}), 'invalid kernel version: "6", expected "<kernel>.<major>"'),
    ],
)
def test_contradictions_are_refused_in_dockers_words(profile: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidProfile) as caught:
        resolve(profile)
    assert caught.value.message == text
    assert isinstance(caught.value, InvalidParameter)


def test_a_profile_is_parsed_from_json() -> None:
    assert parse_profile('{"defaultAction": "SCMP_ACT_ALLOW"}') == {"defaultAction": "SCMP_ACT_ALLOW"}
    for wrong in ("{", "[]", b"\xff"):
        with pytest.raises(InvalidProfile, match="Decoding seccomp profile failed"):
            parse_profile(wrong)


@pytest.mark.parametrize(
    ("release", "version"),
    [("6.1.0-18-amd64", (6, 1)), ("6.18.44-fc-v595", (6, 18)), ("5.15-rc1", (5, 15)), ("4.19+", (4, 19)), ("7", (7, 0))],
)
def test_kernel_releases(release: str, version: tuple[int, int]) -> None:
    assert kernel_version(release) == version
