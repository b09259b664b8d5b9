"""Where blobs were seen: in the same registry only, the most recent first, and not for ever."""

from __future__ import annotations

import pytest

from teul.oci.digest import Digest
from teul.oci.reference import parse_reference
from teul.services.images import origins
from teul.services.images.origins import BlobOrigins

BLOB = Digest.of(b"blob")
TARGET = parse_reference("example.org/target:1")


def paths(known: BlobOrigins, digest: Digest = BLOB) -> list[str]:
    return [reference.name for reference in known.seen(TARGET, digest)]


def test_the_most_recent_is_first_and_other_registries_do_not_count() -> None:
    known = BlobOrigins()
    for name in ("example.org/a:1", "example.org/b:1", "example.com/c:1", "example.org/target:2", "example.org/a:2"):
        known.note(parse_reference(name), [BLOB])
    assert paths(known) == ["example.org/a", "example.org/b"]
    known.forget(parse_reference("example.org/a"), BLOB)
    assert paths(known) == ["example.org/b"]
    known.forget(parse_reference("example.net/x"), BLOB)
    assert paths(known, Digest.of(b"other")) == []


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origins, "_MAX_BLOBS", 2)
    known = BlobOrigins()
    others = [Digest.of(data) for data in (b"one", b"two")]
    known.note(parse_reference("example.org/a"), [BLOB])
    known.note(parse_reference("example.org/a"), others)
    assert paths(known) == []
    assert paths(known, others[1]) == ["example.org/a"]
    for number in range(20):
        known.note(parse_reference(f"example.org/r{number}"), others)
    assert paths(known, others[0]) == [f"example.org/r{number}" for number in range(19, 11, -1)]
