"""Platforms: how they are written, and which image suits which host."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teul.oci.platform import (
    InvalidPlatform,
    Platform,
    choose,
    decode_platform,
    detected_platform,
    host_platform,
    normalize,
    parse_platform,
    runnable_on,
    suits,
)

AMD64 = Platform(os="linux", architecture="amd64")


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        ("x86_64", "linux/amd64"),
        ("aarch64", "linux/arm64"),
        ("armv7l", "linux/arm/v7"),
        ("armv6l", "linux/arm/v6"),
        ("i686", "linux/386"),
        ("riscv64", "linux/riscv64"),
        ("loongarch64", "linux/loong64"),
    ],
)
def test_the_host_platform_follows_uname(machine: str, expected: str) -> None:
    assert str(host_platform(machine)) == expected


def test_this_machine_has_a_platform() -> None:
    assert host_platform().os == "linux"
    assert host_platform().architecture


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux", "linux/amd64"),
        ("windows", "windows/amd64"),
        ("macos", "darwin/amd64"),
        ("amd64", "linux/amd64"),
        ("x86_64", "linux/amd64"),
        ("arm64", "linux/arm64"),
        ("arm", "linux/arm"),
        ("armel", "linux/arm/v6"),
        ("armhf", "linux/arm"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64/v8"),
        ("linux/arm64/9", "linux/arm64/v9"),
        ("linux/arm/v7", "linux/arm/v7"),
        ("linux/arm", "linux/arm"),
        ("linux/arm/6", "linux/arm/v6"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("linux/i386", "linux/386"),
        ("windows(10.0.17763)/amd64", "windows(10.0.17763)/amd64"),
        ("LINUX/ARM64", "linux/arm64"),
    ],
)
def test_specifiers(text: str, expected: str) -> None:
    assert str(parse_platform(text, AMD64)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("linux/*", '"linux/*": wildcards not yet supported: invalid argument'),
        ("", '"" is an invalid OS component of "": OSAndVersion specifier component must match'),
        ("lin ux/amd64", '"lin ux" is an invalid OS component of "lin ux/amd64"'),
        ("linux/am d64", '"am d64" is an invalid component of "linux/am d64": platform specifier component must match'),
        ("linux/", '"" is an invalid component of "linux/"'),
        ("a/b/c/d", '"a/b/c/d": cannot parse platform specifier: invalid argument'),
        ("nonsense", '"nonsense": unknown operating system or architecture: invalid argument'),
    ],
)
def test_malformed_specifiers_are_refused_with_containerds_words(text: str, message: str) -> None:
    with pytest.raises(InvalidPlatform) as caught:
        parse_platform(text, AMD64)
    assert caught.value.message.startswith(message)


@given(st.text("abcdef0123/()*. -", max_size=30))
def test_any_specifier_is_a_platform_or_our_error(text: str) -> None:
    try:
        parse_platform(text)
    except InvalidPlatform:
        return


def test_a_platform_from_json() -> None:
    platform = decode_platform('{"os": "linux", "architecture": "arm", "variant": "v5", "os.version": "1", "os.features": ["x"]}')
    assert platform == Platform(os="linux", architecture="arm", variant="v5", os_version="1", os_features=["x"])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{", "failed to parse platform: "),
        ('{"os": 1}', "failed to parse platform: "),
        ("[" * 100_000, "failed to parse platform: "),
        ('{"variant": "v5"}', "optional platform fields provided, but OS and Architecture are missing"),
        ('{"os": "linux"}', "both OS and Architecture must be provided"),
        ("{}", "both OS and Architecture must be provided"),
    ],
)
def test_a_wrong_platform_document_is_refused_with_dockers_words(data: str, message: str) -> None:
    with pytest.raises(InvalidPlatform) as caught:
        decode_platform(data)
    assert caught.value.message.startswith(message)


def test_a_platform_without_a_system_is_unknown() -> None:
    assert str(Platform()) == "unknown"


def test_an_amd64_host_takes_the_newest_variant_that_it_can_run() -> None:
    candidates = [
        Platform(os="linux", architecture=name, variant=variant) for name, variant in (("386", None), ("amd64", None), ("arm64", "v8"))
    ]
    assert choose(candidates, AMD64) == 1
    assert choose(candidates[:1], AMD64) == 0
    assert choose(candidates[2:], AMD64) is None
    v3 = Platform(os="linux", architecture="amd64", variant="v3")
    assert choose([*candidates, Platform(os="linux", architecture="amd64", variant="v2")], v3) == 3


def test_an_arm_host_falls_back_to_older_variants() -> None:
    host = Platform(os="linux", architecture="arm", variant="v7")
    candidates = [Platform(os="linux", architecture="arm", variant=variant) for variant in ("v5", "v6", "v8")]
    assert choose(candidates, host) == 1


def test_an_arm64_host_runs_32_bit_programs_last() -> None:
    host = Platform(os="linux", architecture="arm64", variant="v8.2")
    assert [str(platform) for platform in runnable_on(host)] == [
        "linux/arm64/v8.2",
        "linux/arm64",
        "linux/arm/v8",
        "linux/arm/v7",
        "linux/arm/v6",
        "linux/arm/v5",
    ]


def test_a_host_without_variants_runs_its_own() -> None:
    assert [str(platform) for platform in runnable_on(Platform(os="linux", architecture="riscv64"))] == ["linux/riscv64"]
    assert [str(platform) for platform in runnable_on(Platform(os="linux", architecture="arm64"))][:2] == ["linux/arm64", "linux/arm/v8"]


def test_a_candidate_that_does_not_say_is_better_than_nothing() -> None:
    assert choose([Platform(os="linux", architecture="s390x"), None], AMD64) == 1
    assert choose([None, AMD64], AMD64) == 1
    assert choose([], AMD64) is None


def test_an_image_without_a_variant_suits_any() -> None:
    assert suits(Platform(os="linux", architecture="arm64"), Platform(os="linux", architecture="arm64", variant="v9"))
    assert suits(AMD64, AMD64)
    assert suits(Platform(os="linux", architecture="386"), AMD64)
    assert not suits(Platform(os="linux", architecture="arm64"), AMD64)
    assert not suits(Platform(os="linux", architecture="arm", variant="v7"), Platform(os="linux", architecture="arm", variant="v6"))
    assert not suits(Platform(os="windows", architecture="amd64"), AMD64)


@pytest.mark.parametrize(
    ("platform", "expected"),
    [
        (Platform(architecture="AMD64"), "linux/amd64"),
        (Platform(os="Linux", architecture="arm"), "linux/arm/v7"),
        (Platform(os="linux", architecture="arm", variant="8"), "linux/arm/v8"),
        (Platform(os="linux", architecture="arm64", variant="v8"), "linux/arm64"),
        (Platform(os="linux", architecture="i386", variant="x"), "linux/386"),
    ],
)
def test_normal_forms(platform: Platform, expected: str) -> None:
    assert str(normalize(platform)) == expected


V2 = "pni ssse3 cx16 sse4_1 sse4_2 popcnt lahf_lm"
V3 = f"{V2} fma movbe xsave avx f16c bmi1 avx2 bmi2 abm"
V4 = f"{V3} avx512f avx512dq avx512cd avx512bw avx512vl"


@pytest.mark.parametrize(
    ("machine", "flags", "platform"),
    [
        ("x86_64", "", "linux/amd64/v1"),
        ("x86_64", V2, "linux/amd64/v2"),
        ("x86_64", f"{V2} avx2", "linux/amd64/v2"),
        ("x86_64", V3, "linux/amd64/v3"),
        ("x86_64", V4, "linux/amd64/v4"),
        ("x86_64", V4.replace("fma ", ""), "linux/amd64/v2"),
        ("aarch64", "", "linux/arm64/v8"),
        ("armv7l", "", "linux/arm/v7"),
        ("s390x", "", "linux/s390x"),
    ],
)
def test_the_platform_that_the_host_is_detected_to_be(machine: str, flags: str, platform: str) -> None:
    assert str(detected_platform(flags.split(), machine)) == platform
