"""Rows of networks and endpoints."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from teul.model.network import AddressRange, Ipam, Network
from teul.store.metadata import networks as store
from teul.store.metadata.database import Database
from teul.store.metadata.networks import HeldAddresses

NETWORK = Network(
    id="n" * 64,
    name="bridge",
    created_at_ns=1,
    driver="bridge",
    ipam=Ipam(ranges=[AddressRange(subnet="172.17.0.0/16", gateway="172.17.0.1")]),
    options={"a": "b"},
)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(str(tmp_path / "teul.db"))
    database.transact_blocking(lambda connection: store.save_network(connection, NETWORK))
    yield database
    database.close()


def save(database: Database, container_id: str, ipv4: str | None, ipv6: str | None = None) -> None:
    held = HeldAddresses(NETWORK.id, container_id, ipv4, ipv6)
    database.transact_blocking(lambda connection: store.save_held(connection, held))


def held(database: Database) -> list[tuple[str, str | None, str | None]]:
    return sorted((row.container_id, row.ipv4, row.ipv6) for row in database.transact_blocking(store.load_held))


def test_a_record_comes_back_as_it_was(database: Database) -> None:
    assert database.transact_blocking(store.load_networks) == [NETWORK]


def test_changing_a_network_takes_nothing_from_its_containers(database: Database) -> None:
    save(database, "a", "172.17.0.2")
    changed = Network(id=NETWORK.id, name="bridge", created_at_ns=1, driver="bridge", options={"c": "d"})
    database.transact_blocking(lambda connection: store.save_network(connection, changed))
    assert database.transact_blocking(store.load_networks) == [changed]
    assert held(database) == [("a", "172.17.0.2", None)]


def test_a_container_holds_what_was_written_last(database: Database) -> None:
    save(database, "a", "172.17.0.2")
    save(database, "a", "172.17.0.3", "fd00::3")
    assert held(database) == [("a", "172.17.0.3", "fd00::3")]


def test_two_containers_never_hold_one_address(database: Database) -> None:
    save(database, "a", "172.17.0.2")
    with pytest.raises(sqlite3.IntegrityError):
        save(database, "b", "172.17.0.2")
    assert held(database) == [("a", "172.17.0.2", None)]


def test_a_container_can_let_go(database: Database) -> None:
    save(database, "a", "172.17.0.2")
    save(database, "b", "172.17.0.3")
    for _ in range(2):
        database.transact_blocking(lambda connection: store.delete_held(connection, NETWORK.id, "a"))
    assert held(database) == [("b", "172.17.0.3", None)]
