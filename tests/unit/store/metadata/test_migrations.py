"""A root of an older Teul goes on working."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from teul.model.container import Container
from teul.store.metadata import containers as rows
from teul.store.metadata.database import Database
from teul.store.metadata.migrations import MIGRATIONS

ENDPOINT = {"network_name": "bridge", "network_id": "n", "endpoint_id": "e", "ipv4": "172.17.0.2", "ipv4_prefix": 16}
RECORD = {
    "created_at_ns": 1,
    "image_id": "sha256:0",
    "image_reference": "i",
    "path": "sh",
    "args": [],
    "config": {},
    "host_config": {},
}


def old_root(path: Path, records: list[dict[str, object]]) -> None:
    """As the first schema wrote it: each record has one endpoint or none."""
    connection = sqlite3.connect(path)
    MIGRATIONS[0](connection)
    connection.execute("PRAGMA user_version=1")
    for record in records:
        values = (record["id"], record["name"], "sha256:0", json.dumps({**RECORD, **record}))
        connection.execute("INSERT INTO containers (id, name, image_id, record) VALUES (?, ?, ?, ?)", values)
    connection.commit()
    connection.close()


def read(path: Path) -> dict[str, Container]:
    database = Database(str(path))
    try:
        return {container.name: container for container in database.transact_blocking(rows.all_containers)}
    finally:
        database.close()


def test_the_one_endpoint_of_a_record_becomes_endpoints_by_network(tmp_path: Path) -> None:
    path = tmp_path / "teul.db"
    old_root(
        path,
        [
            {"id": "a", "name": "attached", "endpoint": ENDPOINT},
            {"id": "b", "name": "stopped", "endpoint": None},
            {"id": "c", "name": "silent"},
        ],
    )
    for _ in range(2):  # a migrated root is opened as it is
        found = read(path)
        assert set(found) == {"attached", "stopped", "silent"}
        [(name, endpoint)] = found["attached"].endpoints.items()
        assert (name, endpoint.ipv4, endpoint.ipv4_prefix) == ("bridge", "172.17.0.2", 16)
        assert found["stopped"].endpoints == found["silent"].endpoints == {}
