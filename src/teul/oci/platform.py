"""Platforms: which operating system and processor an image is for, how they are written, and which one suits a host.

The specifier grammar, the normal forms and the order of preference are those of the containerd project's `platforms` package, which
every Docker client and builder shares.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence

import msgspec

from teul.errors import InvalidParameter

_COMPONENT = re.compile(r"[A-Za-z0-9_.-]+")
_OS_AND_VERSION = re.compile(r"([A-Za-z0-9_-]+)(?:\(([A-Za-z0-9_.-]*)\))?")
_SYSTEMS = frozenset({
    "aix", "android", "darwin", "dragonfly", "freebsd", "hurd", "illumos", "ios", "js", "linux", "nacl", "netbsd", "openbsd", "plan9",
    "solaris", "windows", "zos",
})  # fmt: skip
_ARCHITECTURES = frozenset({
    "386", "amd64", "amd64p32", "arm", "armbe", "arm64", "arm64be", "ppc64", "ppc64le", "loong64", "mips", "mipsle", "mips64",
    "mips64le", "mips64p32", "mips64p32le", "ppc", "riscv", "riscv64", "s390", "s390x", "sparc", "sparc64", "wasm",
})  # fmt: skip
# uname -m to GOARCH, where they differ beyond what `_normal_architecture` does.
_MACHINES = {"armv7l": ("arm", "v7"), "armv6l": ("arm", "v6"), "i686": ("386", ""), "loongarch64": ("loong64", "")}

# What /proc/cpuinfo has of an x86-64 processor of levels 2, 3 and 4, each beside those before. spec: x86-64 psABI, "Micro-Architecture
# Levels". kernel: it takes the flags of registers away that it does not save.
_LEVELS = (
    frozenset({"pni", "ssse3", "cx16", "sse4_1", "sse4_2", "popcnt", "lahf_lm"}),
    frozenset({"fma", "movbe", "xsave", "avx", "f16c", "bmi1", "avx2", "bmi2", "abm"}),
    frozenset({"avx512f", "avx512dq", "avx512cd", "avx512bw", "avx512vl"}),
)


class InvalidPlatform(InvalidParameter):
    """The text or document does not name a platform."""


class Platform(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """spec: OCI image-spec image-index.md, property `platform`."""

    architecture: str = ""
    os: str = ""
    os_version: str | None = msgspec.field(default=None, name="os.version")
    os_features: list[str] | None = msgspec.field(default=None, name="os.features")
    variant: str | None = None

    def __str__(self) -> str:
        """`linux/arm64/v8`; `unknown` when there is no operating system."""
        if not self.os:
            return "unknown"
        system = f"{self.os}({self.os_version})" if self.os_version else self.os
        return "/".join(part for part in (system, self.architecture, self.variant) if part)


def host_platform(machine: str | None = None) -> Platform:
    """The platform of this host, or of a host whose `uname -m` says `machine`."""
    name = machine if machine is not None else os.uname().machine
    architecture, variant = _MACHINES.get(name) or _normal_architecture(name, "")
    return Platform(os="linux", architecture=architecture, variant=variant or None)


def detected_platform(flags: Collection[str], machine: str | None = None) -> Platform:
    """As `host_platform`, with the variant of an amd64 or arm64 processor, of which /proc/cpuinfo has these `flags`."""
    host = host_platform(machine)
    if host.architecture == "amd64":
        levels = (level for level, wanted in enumerate(_LEVELS, 2) if not all(wanted <= set(flags) for wanted in _LEVELS[: level - 1]))
        return msgspec.structs.replace(host, variant=f"v{next(levels, len(_LEVELS) + 2) - 1}")
    return msgspec.structs.replace(host, variant=host.variant or "v8") if host.architecture == "arm64" else host


def parse_platform(specifier: str, host: Platform | None = None) -> Platform:
    """Parse `os[(version)][/architecture[/variant]]`, or a lone operating system or architecture, the rest being the host's.

    Raises `InvalidPlatform`.
    """
    host = host or host_platform()
    if "*" in specifier:
        raise InvalidPlatform(f'"{specifier}": wildcards not yet supported: invalid argument')
    parts = specifier.split("/", 3)
    system = _OS_AND_VERSION.fullmatch(parts[0])
    if system is None:
        raise InvalidPlatform(
            f'"{parts[0]}" is an invalid OS component of "{specifier}": OSAndVersion specifier component must match '
            f'"^{_OS_AND_VERSION.pattern}$": invalid argument'
        )
    for part in parts[1:]:
        if _COMPONENT.fullmatch(part) is None:
            raise InvalidPlatform(
                f'"{part}" is an invalid component of "{specifier}": platform specifier component must match '
                f'"^{_COMPONENT.pattern}$": invalid argument'
            )
    if len(parts) > 3:
        raise InvalidPlatform(f'"{specifier}": cannot parse platform specifier: invalid argument')
    if len(parts) == 1:
        return _complete(specifier, _normal_system(system[1]), system[2] or None, host)
    architecture, variant = _normal_architecture(parts[1], parts[2] if len(parts) == 3 else "")
    if len(parts) == 2 and (architecture, variant) == ("arm", "v7"):
        variant = ""
    if len(parts) == 3 and architecture == "arm64" and not variant:
        variant = "v8"
    return Platform(os=_normal_system(system[1]), os_version=system[2] or None, architecture=architecture, variant=variant or None)


def decode_platform(data: str | bytes) -> Platform:
    """A platform from the JSON that API clients send. Raises `InvalidPlatform` with Docker's words."""
    try:
        platform = msgspec.json.decode(data, type=Platform)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidPlatform(f"failed to parse platform: {error}") from error
    if not platform.os and not platform.architecture and (platform.variant or platform.os_version or platform.os_features):
        raise InvalidPlatform("optional platform fields provided, but OS and Architecture are missing")
    if not platform.os or not platform.architecture:
        raise InvalidPlatform("both OS and Architecture must be provided")
    return platform


def normalize(platform: Platform) -> Platform:
    """The one spelling of a platform: `aarch64` is `arm64`, its `v8` goes without saying, `arm` alone is `v7`."""
    architecture, variant = _normal_architecture(platform.architecture, platform.variant or "")
    return msgspec.structs.replace(platform, os=_normal_system(platform.os), architecture=architecture, variant=variant or None)


def runnable_on(host: Platform) -> list[Platform]:
    """The platforms that run on `host` without emulation, best first: the host itself, then older variants, then the 32-bit relative."""
    host = normalize(host)
    choices = [host]
    if host.architecture == "amd64":
        choices += _variants("amd64", _number(host.variant, 1) - 1, 1)
        choices.append(Platform(os=host.os, architecture="386"))
    elif host.architecture == "arm":
        choices += _variants("arm", _number(host.variant, 7) - 1, 5)
    elif host.architecture == "arm64":
        if host.variant:
            choices.append(Platform(os=host.os, architecture="arm64"))
        choices += _variants("arm", 8, 5)
    return [normalize(msgspec.structs.replace(choice, os=host.os)) for choice in choices]


def choose(candidates: Sequence[Platform | None], host: Platform) -> int | None:
    """The index of the candidate that suits `host` best, None if none does. A candidate without a platform suits last of all."""
    normal = [normalize(candidate) if candidate is not None and candidate.architecture else None for candidate in candidates]
    for wanted in runnable_on(host):
        for index, candidate in enumerate(normal):
            if candidate is not None and _same(candidate, wanted):
                return index
    return normal.index(None) if None in normal else None


def suits(image: Platform, wanted: Platform) -> bool:
    """Whether an image that says it is for `image` may answer a request for `wanted`. An image without a variant suits any variant."""
    normal = normalize(image)
    if any(_same(normal, choice) for choice in runnable_on(wanted)):
        return True
    wanted = normalize(wanted)
    return not image.variant and (normal.os, normal.architecture) == (wanted.os, wanted.architecture)


def is_same(one: Platform, other: Platform) -> bool:
    """Whether both are one platform, however they spell it."""
    return _same(normalize(one), normalize(other))


def _same(one: Platform, other: Platform) -> bool:
    return (one.os, one.architecture, one.variant) == (other.os, other.architecture, other.variant)


def _variants(architecture: str, newest: int, oldest: int) -> list[Platform]:
    return [Platform(architecture=architecture, variant=f"v{number}") for number in range(newest, oldest - 1, -1)]


def _number(variant: str | None, default: int) -> int:
    text = (variant or "").removeprefix("v")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else default


def _complete(specifier: str, system: str, version: str | None, host: Platform) -> Platform:
    if system in _SYSTEMS:
        return Platform(os=system, os_version=version, architecture=host.architecture, variant=host.variant)
    architecture, variant = _normal_architecture(specifier, "")
    if architecture not in _ARCHITECTURES:
        raise InvalidPlatform(f'"{specifier}": unknown operating system or architecture: invalid argument')
    return Platform(os=host.os, architecture=architecture, variant=None if (architecture, variant) == ("arm", "v7") else variant or None)


def _normal_system(system: str) -> str:
    system = system.lower() or "linux"
    return "darwin" if system == "macos" else system


def _normal_architecture(architecture: str, variant: str) -> tuple[str, str]:
    architecture, variant = architecture.lower(), variant.lower()
    match architecture:
        case "i386":
            return "386", ""
        case "x86_64" | "x86-64" | "amd64":
            return "amd64", "" if variant == "v1" else variant
        case "aarch64" | "arm64":
            if variant in ("8", "v8", "v8.0"):
                return "arm64", ""
            return "arm64", "v9" if variant in ("9", "9.0", "v9.0") else variant
        case "armhf":
            return "arm", "v7"
        case "armel":
            return "arm", "v6"
        case "arm":
            if variant in ("", "7"):
                return "arm", "v7"
            return "arm", f"v{variant}" if variant in ("5", "6", "8") else variant
        case _:
            return architecture, variant
