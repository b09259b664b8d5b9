"""A `Digest` that exists is valid, and nothing changes it."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teul.oci.digest import Digest, InvalidDigest, chain_id, chain_ids, find_digest

HEX = "7173b809ca12ec5dee4506cd86be934c4596dd234ee82c0662eac04a8c2c71dc"
TEXT = f"sha256:{HEX}"


def test_a_digest_has_an_algorithm_and_hex_digits() -> None:
    digest = Digest(TEXT)
    assert (digest.algorithm, digest.hex, digest.short, str(digest)) == ("sha256", HEX, HEX[:12], TEXT)
    assert repr(digest) == f"Digest('{TEXT}')"


# The texts are go-digest's: clients have seen them for years.
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "invalid checksum digest format"),
        ("sha256", "invalid checksum digest format"),
        ("sha256:", "invalid checksum digest format"),
        (":" + HEX, "invalid checksum digest format"),
        ("sha256:" + HEX[:-1], "invalid checksum digest length"),
        ("sha256:" + HEX + "0", "invalid checksum digest length"),
        ("sha512:" + HEX, "invalid checksum digest length"),
        ("sha256:" + HEX.upper(), "invalid checksum digest format"),
        ("sha256:" + HEX[:-1] + "\n", "invalid checksum digest format"),
        ("sha256:" + "../" * 21 + "x", "invalid checksum digest format"),
        ("md5:d41d8cd98f00b204e9800998ecf8427e", "unsupported digest algorithm"),
        ("sha1+b64:abc=", "unsupported digest algorithm"),
        ("SHA256:" + HEX, "invalid checksum digest format"),
    ],
)
def test_what_is_no_digest_is_refused_with_go_digests_words(text: str, message: str) -> None:
    with pytest.raises(InvalidDigest) as caught:
        Digest(text)
    assert caught.value.message == message
    assert find_digest(text) is None


def test_a_digest_of_bytes_is_that_of_hashlib() -> None:
    assert Digest.of(b"abc") == Digest("sha256:" + hashlib.sha256(b"abc").hexdigest())
    assert Digest.of(b"abc", "sha512").hex == hashlib.sha512(b"abc").hexdigest()


def test_the_hasher_is_that_of_the_algorithm() -> None:
    digest = Digest.of(b"abc", "sha384")
    hasher = digest.hasher()
    hasher.update(b"abc")
    assert hasher.hexdigest() == digest.hex


def test_digests_are_values() -> None:
    one, same, other = Digest.of(b"1"), Digest.of(b"1"), Digest.of(b"2")
    assert one == same
    assert one != other
    assert one != str(one), "a digest is not its text: comparing with unchecked text must not succeed by accident"
    assert len({one, same, other}) == 2
    assert sorted([one, other]) == sorted([other, one])


def test_a_digest_does_not_change() -> None:
    digest = Digest(TEXT)
    with pytest.raises(AttributeError):
        digest._text = "sha256:x"
    with pytest.raises(AttributeError):
        del digest._text
    assert str(digest) == TEXT


@given(st.text())
def test_any_text_is_a_digest_or_our_error(text: str) -> None:
    digest = find_digest(text)
    if digest is not None:
        assert str(digest) == text


def test_chain_ids_follow_the_specification() -> None:
    """ChainID(L0|…|Ln) = digest(ChainID(L0|…|Ln-1) + " " + DiffID(Ln)); that of one layer is its diff_id."""
    first, second, third = (Digest.of(name) for name in (b"a", b"b", b"c"))
    two = Digest.of(f"{first} {second}".encode())
    assert chain_ids([first, second, third]) == [first, two, Digest.of(f"{two} {third}".encode())]
    assert chain_id([first, second]) == two
    assert chain_id([]) is None
