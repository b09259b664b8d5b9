"""The grammar of references, against a table that the distribution project's own tests and Docker's behaviour give."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teul.errors import InvalidParameter
from teul.oci.digest import Digest
from teul.oci.pattern import InvalidPattern
from teul.oci.reference import DEFAULT_DOMAIN, InvalidReference, Reference, parse_reference, parse_reference_or_id, repository_and_tag

HEX = "a" * 64
DIGEST = f"sha256:{HEX}"


# text, canonical, familiar
NAMES = [
    ("busybox", "docker.io/library/busybox", "busybox"),
    ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
    ("docker.io/busybox", "docker.io/library/busybox", "busybox"),
    ("docker.io/library/busybox", "docker.io/library/busybox", "busybox"),
    (f"index.{DEFAULT_DOMAIN}/busybox", "docker.io/library/busybox", "busybox"),
    (f"index.{DEFAULT_DOMAIN}/someone/thing", "docker.io/someone/thing", "someone/thing"),
    ("someone/thing:x", "docker.io/someone/thing:x", "someone/thing:x"),
    ("library/a/b", "docker.io/library/a/b", "library/a/b"),
    ("localhost/thing", "localhost/thing", "localhost/thing"),
    ("localhost:5000/thing", "localhost:5000/thing", "localhost:5000/thing"),
    ("127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b"),
    ("[::1]:5000/thing", "[::1]:5000/thing", "[::1]:5000/thing"),
    ("[2001:db8::1]/thing", "[2001:db8::1]/thing", "[2001:db8::1]/thing"),
    ("example.test/thing", "example.test/thing", "example.test/thing"),
    ("Upper/thing", "Upper/thing", "Upper/thing"),
    ("xn--n3h.test/thing", "xn--n3h.test/thing", "xn--n3h.test/thing"),
    ("a/b/c/d", "docker.io/a/b/c/d", "a/b/c/d"),
    # A host and port without a path are a repository and a tag, surprising as that may be.
    ("example.test:5000", "docker.io/library/example.test:5000", "example.test:5000"),
    ("a__b/c--d.e_f", "docker.io/a__b/c--d.e_f", "a__b/c--d.e_f"),
    # What has a dot but is no domain is taken for a path, as Docker does.
    ("a_b.c/d", "a_b.c/d", "a_b.c/d"),
    (f"busybox@{DIGEST}", f"docker.io/library/busybox@{DIGEST}", f"busybox@{DIGEST}"),
    (f"busybox:1@{DIGEST}", f"docker.io/library/busybox:1@{DIGEST}", f"busybox:1@{DIGEST}"),
    ("x:" + "t" * 128, "docker.io/library/x:" + "t" * 128, "x:" + "t" * 128),
    ("x:_1.-A", "docker.io/library/x:_1.-A", "x:_1.-A"),
]


@pytest.mark.parametrize(("text", "canonical", "familiar"), NAMES)
def test_a_name_has_one_canonical_and_one_familiar_spelling(text: str, canonical: str, familiar: str) -> None:
    reference = parse_reference(text)
    assert (reference.canonical, reference.familiar, str(reference)) == (canonical, familiar, familiar)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "invalid reference format"),
        (" busybox", "invalid reference format"),
        ("busybox ", "invalid reference format"),
        ("busybox\n", "invalid reference format"),
        (":latest", "invalid reference format"),
        ("busybox:", "invalid reference format"),
        ("busybox:-x", "invalid reference format"),
        ("x:" + "t" * 129, "invalid reference format"),
        ("a//b", "invalid reference format"),
        ("a/b/", "invalid reference format"),
        ("-a", "invalid reference format"),
        ("a..b", "invalid reference format"),
        ("a___b", "invalid reference format"),
        ("../etc/passwd", "invalid reference format"),
        ("[fe80::1%25eth0]/x", "invalid reference format"),
        ("x@sha256:short", "invalid reference format"),
        ("UPPER", "invalid reference format: repository name (library/UPPER) must be lowercase"),
        ("some/UPPER:x", "invalid reference format: repository name (some/UPPER) must be lowercase"),
        (HEX, f"invalid repository name ({HEX}), cannot specify 64-byte hexadecimal strings"),
        ("a/" * 127 + "abc", "repository name must not be more than 255 characters"),
        (f"x@md5:{'a' * 32}", "unsupported digest algorithm"),
        (f"x@sha256:{'a' * 63}", "invalid checksum digest length"),
        ("x@SHA256:" + "a" * 64, "invalid reference format: repository name (library/x@SHA256) must be lowercase"),
        ("a_B.c/d", "repository name must be lowercase"),
    ],
)
def test_what_is_no_name_is_refused_with_dockers_words(text: str, message: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        parse_reference(text)
    assert caught.value.message == message


def test_an_id_is_told_from_a_name() -> None:
    assert parse_reference_or_id(HEX) == Digest(DIGEST)
    assert parse_reference_or_id(DIGEST) == Digest(DIGEST)
    assert parse_reference_or_id("busybox") == parse_reference("busybox")
    assert parse_reference_or_id("sha256:abc") == Reference("docker.io", "library/sha256", "abc")


def test_tags_and_digests_are_put_on_and_taken_off() -> None:
    reference = parse_reference("busybox")
    assert reference.is_name_only
    assert reference.with_default_tag().familiar == "busybox:latest"
    assert reference.with_tag("1").with_default_tag().familiar == "busybox:1"
    pinned = reference.with_digest(Digest(DIGEST))
    assert pinned.with_default_tag().familiar == f"busybox@{DIGEST}", "a digest says it all"
    assert reference.with_tag("1").without_tag() == reference
    with pytest.raises(InvalidReference, match="invalid tag format"):
        reference.with_tag("not a tag")


def test_the_parameters_repo_and_tag_make_one_reference() -> None:
    assert repository_and_tag("", "x") is None
    assert repository_and_tag("busybox", "") == parse_reference("busybox:latest")
    assert repository_and_tag("busybox:1", "2") == parse_reference("busybox:2")
    with pytest.raises(InvalidReference, match="cannot import digest reference"):
        repository_and_tag(f"busybox@{DIGEST}", "")


def test_a_pattern_matches_a_name_in_either_spelling_with_or_without_the_tag() -> None:
    reference = parse_reference("someone/busybox:1.36")
    assert all(reference.matches(pattern) for pattern in ("someone/busybox", "someone/busybox:1.*", "*/busy???", "someone/*:1.36"))
    assert all(reference.matches(pattern) for pattern in ("docker.io/someone/busybox", "docker.io/*/busybox:*", "*/*/*"))
    assert not any(reference.matches(pattern) for pattern in ("busybox", "*busybox", "someone/busybox:2", "docker.io/busybox", "*/*/*/*"))
    assert parse_reference("busybox").matches("docker.io/library/busybox:latest")
    with pytest.raises(InvalidPattern):
        reference.matches("[")


_component = st.from_regex(r"[a-z0-9]+(?:[._-][a-z0-9]+)?", fullmatch=True)
_domains = st.sampled_from(["docker.io", "localhost", "localhost:5000", "example.test", "[::1]:80", "UP"])


@given(
    _domains, st.lists(_component, min_size=1, max_size=3), st.none() | st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
)
def test_every_rendering_parses_to_the_same_reference(domain: str, path: list[str], tag: str | None) -> None:
    text = f"{domain}/{'/'.join(path)}" + (f":{tag}" if tag else "")
    reference = parse_reference(text)
    assert parse_reference(reference.canonical) == reference
    # `localhost` alone would be read as a domain again if it were a first component; docker has the same wart.
    if reference.path.split("/")[0] not in ("localhost", "library") and "." not in reference.path.split("/")[0]:
        assert parse_reference(reference.familiar) == reference


@given(st.text(max_size=80) | st.text("abAB:/@._-[]0", max_size=40))
def test_any_text_is_a_reference_or_our_error(text: str) -> None:
    try:
        reference = parse_reference_or_id(text)
    except InvalidParameter:
        return
    assert parse_reference_or_id(str(reference) if isinstance(reference, Digest) else reference.canonical) == reference
