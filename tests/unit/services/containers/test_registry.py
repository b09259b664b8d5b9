"""The records of containers, and what they declare to use."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.container_records import SOME_IMAGE, container_record
from teul.oci.digest import Digest
from teul.services.containers.registry import ContainerRegistry
from teul.services.usage import Usage
from teul.store.metadata.database import Database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(str(tmp_path / "teul.db"))
    yield database
    database.close()


async def test_a_container_uses_its_image_from_its_first_record_to_its_last(database: Database) -> None:
    usage: Usage[Digest] = Usage()
    registry = ContainerRegistry(database, image_usage=usage, network_usage=Usage())
    container = container_record()
    assert not usage.is_used(SOME_IMAGE)
    await registry.add(container)
    assert usage.users(SOME_IMAGE) == [container]
    await registry.remove(container)
    assert not usage.is_used(SOME_IMAGE)


async def test_the_next_engine_knows_who_uses_what(database: Database) -> None:
    await ContainerRegistry(database, image_usage=Usage(), network_usage=Usage()).add(container_record())
    usage: Usage[Digest] = Usage()
    registry = ContainerRegistry(database, image_usage=usage, network_usage=Usage())
    await registry.open()
    assert usage.users(SOME_IMAGE) == registry.all()
    assert usage.users(SOME_IMAGE)[0] is registry.all()[0], "the live record, not a copy of it"


async def test_a_record_that_could_not_be_kept_uses_nothing(database: Database) -> None:
    usage: Usage[Digest] = Usage()
    registry = ContainerRegistry(database, image_usage=usage, network_usage=Usage())
    await registry.add(container_record("a" * 64, name="taken"))
    with pytest.raises(sqlite3.IntegrityError):
        await registry.add(container_record("b" * 64, Digest.of(b"another image"), name="taken"))
    assert not usage.is_used(Digest.of(b"another image"))


async def test_a_record_that_could_not_be_removed_still_uses_its_image(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    usage: Usage[Digest] = Usage()
    registry = ContainerRegistry(database, image_usage=usage, network_usage=Usage())
    container = container_record()
    await registry.add(container)

    async def fail(work: object) -> None:
        raise sqlite3.OperationalError("the disk is full")

    monkeypatch.setattr(database, "transact", fail)
    with pytest.raises(sqlite3.OperationalError):
        await registry.remove(container)
    assert usage.users(SOME_IMAGE) == [container]
