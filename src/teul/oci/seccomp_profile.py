"""Seccomp profiles as Docker writes them: rules that hold only for some capabilities, architectures or kernels.

`resolve_profile` turns one into the OCI runtime spec's `linux.seccomp` for a given container and host; it is pure. The default profile
is Docker's own, in `seccomp-default.json` beside this module.
"""

from __future__ import annotations

import functools
import json
import os
from typing import Any

from teul.errors import InvalidParameter

# From GOARCH, the name that profiles use in `arches`, to the name that they use in `archMap`. moby profiles/seccomp/seccomp_linux.go.
_ARCHITECTURES = {
    "386": ("x86", "SCMP_ARCH_X86"),
    "amd64": ("amd64", "SCMP_ARCH_X86_64"),
    "arm": ("arm", "SCMP_ARCH_ARM"),
    "arm64": ("arm64", "SCMP_ARCH_AARCH64"),
    "loong64": ("loongarch64", "SCMP_ARCH_LOONGARCH64"),
    "mips64": ("mips64", "SCMP_ARCH_MIPS64"),
    "mips64le": ("mipsel64", "SCMP_ARCH_MIPSEL64"),
    "mipsle": ("mipsel", "SCMP_ARCH_MIPSEL"),
    "ppc64": ("ppc64", "SCMP_ARCH_PPC64"),
    "ppc64le": ("ppc64le", "SCMP_ARCH_PPC64LE"),
    "riscv64": ("riscv64", "SCMP_ARCH_RISCV64"),
    "s390x": ("s390x", "SCMP_ARCH_S390X"),
}
_COMMON = ("defaultAction", "defaultErrnoRet", "architectures", "flags", "listenerPath", "listenerMetadata")
_RULE = ("action", "errnoRet", "args")


class InvalidProfile(InvalidParameter):
    """The seccomp profile contradicts itself, or the document is no seccomp profile."""


@functools.cache
def default_profile() -> dict[str, Any]:
    """Docker's default profile. The same object each time: not to be changed."""
    with open(os.path.join(os.path.dirname(__file__), "seccomp-default.json"), "rb") as file:
        profile: dict[str, Any] = json.load(file)
    return profile


def parse_profile(text: str | bytes) -> dict[str, Any]:
    """A profile from JSON, as `--security-opt seccomp=` sends it. Raises `InvalidProfile`."""
    try:
        profile = json.loads(text)
    except ValueError as error:
        raise InvalidProfile(f"Decoding seccomp profile failed: {error}") from error
    except RecursionError as error:
        raise InvalidProfile("Decoding seccomp profile failed: exceeded max depth") from error
    if not isinstance(profile, dict):
        raise InvalidProfile("Decoding seccomp profile failed: it is not an object")
    return profile


def kernel_version(release: str) -> tuple[int, int]:
    """Major and minor of a `uname` release such as "6.1.0-18-amd64"."""
    major, _, rest = release.partition(".")
    minor = rest.partition(".")[0].partition("-")[0]
    return int(major), int("".join(character for character in minor if character.isdigit()) or 0)


def resolve_profile(
    profile: dict[str, Any], *, capabilities: frozenset[str], architecture: str, kernel: tuple[int, int]
) -> dict[str, Any] | None:
    """OCI `linux.seccomp` for a container with these bounding capabilities on this host (`architecture` as in GOARCH).

    None where the profile says nothing at all, which means no filter. Raises `InvalidProfile`. Source: moby profiles/seccomp,
    setupSeccomp.
    """
    if not profile.get("defaultAction") and not profile.get("syscalls"):
        return None
    if profile.get("architectures") and profile.get("archMap"):
        raise InvalidProfile(
            "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'"
        )
    name, token = _ARCHITECTURES.get(architecture, (architecture, ""))
    result = {key: profile[key] for key in _COMMON if profile.get(key) is not None}
    for entry in profile.get("archMap") or []:
        if entry.get("architecture") == token:
            result["architectures"] = [token, *(entry.get("subArchitectures") or [])]
            break
    result["syscalls"] = [
        _plain_rule(rule)
        for rule in profile.get("syscalls") or []
        if _holds(rule, capabilities=capabilities, architecture=name, kernel=kernel)
    ]
    return result


def _plain_rule(rule: dict[str, Any]) -> dict[str, Any]:
    """A rule as OCI knows it: without its conditions, and always with `names`."""
    names = rule.get("names") or []
    if rule.get("name"):  # profiles were written like this before Docker 17.05
        if names:
            raise InvalidProfile("both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'")
        names = [rule["name"]]
    return {"names": names, **{key: rule[key] for key in _RULE if rule.get(key) is not None}}


def _holds(rule: dict[str, Any], *, capabilities: frozenset[str], architecture: str, kernel: tuple[int, int]) -> bool:
    """Whether a rule applies: none of the conditions in its `excludes` holds, and all of those in its `includes` do."""
    excludes, includes = rule.get("excludes") or {}, rule.get("includes") or {}
    if architecture in (excludes.get("arches") or ()) or capabilities.intersection(excludes.get("caps") or ()):
        return False
    if excludes.get("minKernel") and kernel >= _minimum_kernel(excludes["minKernel"]):
        return False
    if includes.get("arches") and architecture not in includes["arches"]:
        return False
    if not capabilities.issuperset(includes.get("caps") or ()):
        return False
    return not includes.get("minKernel") or kernel >= _minimum_kernel(includes["minKernel"])


def _minimum_kernel(text: str) -> tuple[int, int]:
    major, dot, minor = text.partition(".")
    if not dot or not major.isdigit() or not minor.isdigit():
        raise InvalidProfile(f'invalid kernel version: "{text}", expected "<kernel>.<major>"')
    return int(major), int(minor)
