"""The records of containers, and what they declare to use."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.container_records import SOME_IMAGE, container_record
from teul.errors import Conflict
from teul.model.lifecycle import Status
from teul.oci.digest import Digest
from teul.services.containers.registry import ContainerRegistry
from teul.services.usage import Usage
from teul.store.metadata import containers as rows
from teul.store.metadata.database import Database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(str(tmp_path / "teul.db"))
    yield database
    database.close()


async def test_a_container_uses_its_image_from_its_first_record_to_its_last(database: Database) -> None:
    usage: Usage[Digest] = Usage()
    registry = ContainerRegistry(database, image_usage=usage, network_usage=Usage(), volume_usage=Usage())
    container = container_record()
    assert not usage.is_used(SOME_IMAGE)
    await registry.add(container)
    assert usage.users(SOME_IMAGE) == [container]
    await registry.remove(container)
    assert not usage.is_used(SOME_IMAGE)


async def test_the_next_engine_knows_who_uses_what(database: Database) -> None:
    await ContainerRegistry(database, image_usage=Usage(), network_usage=Usage(), volume_usage=Usage()).add(container_record())
    usage: Usage[Digest] = Usage()
    registry = ContainerRegistry(database, image_usage=usage, network_usage=Usage(), volume_usage=Usage())
    await registry.open()
    assert usage.users(SOME_IMAGE) == registry.all()
    assert usage.users(SOME_IMAGE)[0] is registry.all()[0], "the live record, not a copy of it"


async def test_a_record_that_could_not_be_kept_uses_nothing(database: Database) -> None:
    usage: Usage[Digest] = Usage()
    registry = ContainerRegistry(database, image_usage=usage, network_usage=Usage(), volume_usage=Usage())
    await registry.add(container_record("a" * 64, name="taken"))
    with pytest.raises(sqlite3.IntegrityError):
        await registry.add(container_record("b" * 64, Digest.of(b"another image"), name="taken"))
    assert not usage.is_used(Digest.of(b"another image"))


async def test_a_record_that_could_not_be_removed_still_uses_its_image(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    usage: Usage[Digest] = Usage()
    registry = ContainerRegistry(database, image_usage=usage, network_usage=Usage(), volume_usage=Usage())
    container = container_record()
    await registry.add(container)

    async def fail(work: object, *, frees: bool) -> None:
        raise sqlite3.OperationalError("the disk is full")

    monkeypatch.setattr(database, "transact", fail)
    with pytest.raises(sqlite3.OperationalError):
        await registry.remove(container)
    assert usage.users(SOME_IMAGE) == [container]


async def test_a_change_that_cannot_be_written_is_none(database: Database) -> None:
    registry = ContainerRegistry(database, image_usage=Usage(), network_usage=Usage(), volume_usage=Usage())
    await registry.add(container_record("a" * 64, name="taken"))
    container = container_record("b" * 64, name="old")
    await registry.add(container)
    with pytest.raises(sqlite3.IntegrityError):
        await registry.change(container, name="taken")
    assert container.name == "old"


async def test_what_is_saved_beside_a_change_does_not_take_it_back(database: Database) -> None:
    """Both write the whole record; the one that comes second must know what the first has written."""
    registry = ContainerRegistry(database, image_usage=Usage(), network_usage=Usage(), volume_usage=Usage())
    container = container_record()
    await registry.add(container)
    for number in range(20):
        container.restart_count = number
        await asyncio.gather(registry.change(container, name=f"name-{number}"), registry.save(container))
        [row] = await database.transact(rows.all_containers)
        assert (row.name, row.restart_count) == (f"name-{number}", number)


async def test_a_record_that_cannot_be_read_is_shown_and_left_as_it_is(database: Database) -> None:
    await ContainerRegistry(database, image_usage=Usage(), network_usage=Usage(), volume_usage=Usage()).add(container_record(name="spoilt"))
    await database.transact(lambda connection: connection.execute("UPDATE containers SET record = CAST(X'FF' AS TEXT)"))
    registry = ContainerRegistry(database, image_usage=Usage(), network_usage=Usage(), volume_usage=Usage())
    await registry.open()
    container = registry.get("spoilt")
    assert container.state.status is Status.DEAD
    for attempt in (registry.save(container), registry.change(container, name="other")):
        with pytest.raises(Conflict, match="its record cannot be read"):
            await attempt
    await registry.remove(container)
    assert await database.transact(rows.damaged_containers) == []


async def test_containers_exchange_their_names(database: Database) -> None:
    """In one transaction: the next engine finds either both as before or both exchanged, and so does this one."""
    registry = ContainerRegistry(database, image_usage=Usage(), network_usage=Usage(), volume_usage=Usage())
    one, other = container_record("a" * 64, name="one"), container_record("b" * 64, name="other")
    for container in (one, other):
        registry.reserve_name(container.name, container.id)
        await registry.add(container)
    await registry.change_together((one, {"name": "other"}), (other, {"name": "one"}))
    assert (registry.get("one"), registry.get("other")) == (other, one)
    with pytest.raises(Conflict):
        registry.reserve_name("one", "c" * 64)
    await registry.remove(other)
    assert registry.find("one") is None
    assert registry.get("other") is one
    following = ContainerRegistry(database, image_usage=Usage(), network_usage=Usage(), volume_usage=Usage())
    await following.open()
    assert following.get("other").id == "a" * 64


async def test_nothing_is_exchanged_where_it_cannot_be_written(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = ContainerRegistry(database, image_usage=Usage(), network_usage=Usage(), volume_usage=Usage())
    one, other = container_record("a" * 64, name="one"), container_record("b" * 64, name="other")
    for container in (one, other):
        registry.reserve_name(container.name, container.id)
        await registry.add(container)

    def refuse(*_: object) -> None:
        raise sqlite3.OperationalError("no")

    monkeypatch.setattr(rows, "update", refuse)
    with pytest.raises(sqlite3.OperationalError):
        await registry.change_together((one, {"name": "other"}), (other, {"name": "one"}))
    assert (registry.get("one"), registry.get("other")) == (one, other)
    assert (one.name, other.name) == ("one", "other")
