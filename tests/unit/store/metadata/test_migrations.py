"""A root of an older Teul goes on working."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from teul.model.container import Container
from teul.model.volume import VolumeMount
from teul.oci.descriptor import OCI_CONFIG
from teul.oci.digest import Digest
from teul.store.metadata import containers as rows
from teul.store.metadata import images, volumes
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


def test_what_plugins_have_mounted_is_remembered_in_an_old_root(tmp_path: Path) -> None:
    path = tmp_path / "teul.db"
    old_root(path, [])
    mount = VolumeMount(id="m", volume="v", driver="store", container_id="c", destination="/x")
    own = VolumeMount(id="n", volume="v", driver="store", container_id="", destination="")
    database = Database(str(path))
    try:
        assert database.transact_blocking(volumes.load_mounts) == []
        for each in (mount, own):
            database.transact_blocking(lambda connection, each=each: volumes.insert_mount(connection, each))  # type: ignore[misc]
        assert database.transact_blocking(volumes.load_mounts) == [mount, own]
        database.transact_blocking(lambda connection: volumes.delete_mount(connection, "m"))
        assert database.transact_blocking(volumes.load_mounts) == [own]
    finally:
        database.close()


def test_images_known_by_their_configs_become_known_by_their_manifests(tmp_path: Path) -> None:
    """With their names and containers; of an image that was deleted under its containers there is the config alone."""
    path = tmp_path / "teul.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.row_factory = sqlite3.Row
    for migrate in MIGRATIONS[:2]:
        migrate(connection)
    connection.execute("PRAGMA user_version=2")
    configs, manifest = [str(Digest.of(name)) for name in (b"config", b"deleted")], str(Digest.of(b"manifest"))
    connection.execute("INSERT INTO images VALUES (?, ?, NULL, 5, '[]', 1)", (configs[0], manifest))
    connection.execute("INSERT INTO images VALUES (?, '', NULL, 5, '[]', 2)", (configs[1],))
    connection.execute("INSERT INTO tags VALUES ('docker.io/library/a:1', ?, 3)", (configs[0],))
    for number, image_id in enumerate((*configs, "sha256:0")):
        record = json.dumps({**RECORD, "id": f"c{number}", "name": f"n{number}", "image_id": image_id})
        connection.execute("INSERT INTO containers VALUES (?, ?, ?, ?)", (f"c{number}", f"n{number}", image_id, record))
    connection.execute("INSERT INTO containers VALUES ('d', 'damaged', ?, '{')", (configs[0],))
    connection.close()
    assert {name: container.image_id for name, container in read(path).items()} == {"n0": manifest, "n1": configs[1], "n2": "sha256:0"}
    database = Database(str(path))
    try:
        found = database.transact_blocking(images.read_all)
        [damaged] = database.transact_blocking(rows.damaged_containers)
    finally:
        database.close()
    assert found.images == [
        images.ImageRow(Digest(manifest), "", False, 1),
        images.ImageRow(Digest(configs[1]), OCI_CONFIG, True, 2),
    ]
    assert found.tags == [images.TagRow("docker.io/library/a:1", Digest(manifest), 3)]
    assert (damaged.name, damaged.image_id) == ("damaged", manifest)
