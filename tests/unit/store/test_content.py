"""Blobs are what their names say, or are not given out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from teul.errors import Integrity, NotFound
from teul.oci.digest import Digest
from teul.store.content import ContentStore

DIGEST = Digest.of(b"data")


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    store = ContentStore(str(tmp_path / "blobs"))
    store.open()
    store.open()
    return store


def test_what_is_put_can_be_read(store: ContentStore) -> None:
    assert store.put(b"data") == DIGEST
    assert store.put(b"data") == DIGEST, "twice is fine"
    assert store.has(DIGEST)
    assert store.read(DIGEST, limit_bytes=4) == b"data"
    assert os.listdir(os.path.dirname(store.path(DIGEST))) == [DIGEST.hex]


def test_a_file_is_adopted_under_its_digest(store: ContentStore, tmp_path: Path) -> None:
    source = tmp_path / "file"
    source.write_bytes(b"data")
    digest = Digest.of(b"data", "sha512")
    store.adopt(str(source), digest)
    assert not source.exists()
    assert store.read(digest, limit_bytes=4) == b"data"
    assert os.stat(store.path(digest)).st_mode & 0o777 == 0o600


def test_a_missing_blob_is_not_found(store: ContentStore) -> None:
    with pytest.raises(NotFound, match="not found"):
        store.read(DIGEST, limit_bytes=10)
    assert not store.has(DIGEST)
    store.remove(DIGEST)


def test_damage_is_noticed_by_whoever_reads(store: ContentStore) -> None:
    store.put(b"data")
    Path(store.path(DIGEST)).write_bytes(b"dat!")
    with pytest.raises(Integrity, match="another digest"):
        store.read(DIGEST, limit_bytes=10)
    with pytest.raises(Integrity, match="larger than 3 bytes"):
        store.read(DIGEST, limit_bytes=3)


def test_the_sweep_leaves_known_blobs_only(store: ContentStore) -> None:
    store.put(b"data")
    store.put(b"other")
    Path(store.path(DIGEST) + ".1.new").write_bytes(b"unfinished")
    assert store.sweep({DIGEST}) == 2
    assert store.has(DIGEST)
    assert not store.has(Digest.of(b"other"))
    store.remove(DIGEST)
    assert not store.has(DIGEST)
