"""The records of volumes: in the database, and all of them in memory. Used from the event loop only."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from teul.model.volume import Volume
from teul.services.volumes.request import NoSuchVolume
from teul.store.metadata import volumes as rows
from teul.store.metadata.database import Database


class VolumeRecords:
    """What is known of volumes, those of plug-ins included. Who changes a record has the volume's turn."""

    by_name: Mapping[str, Volume]

    def __init__(self, database: Database) -> None:
        self._database = database
        self._volumes: dict[str, Volume] = {}
        self.by_name = MappingProxyType(self._volumes)

    async def open(self) -> None:
        """Read all records. Once, before anything else."""
        self._volumes.update({volume.name: volume for volume in await self._database.transact(rows.load_volumes)})

    def get(self, name: str) -> Volume:
        """The record of this name. Raises NoSuchVolume."""
        if name not in self._volumes:
            raise NoSuchVolume(name)
        return self._volumes[name]

    async def add(self, volume: Volume) -> None:
        """Write a new record."""
        await self._database.transact(lambda connection: rows.insert_volume(connection, volume))
        self._volumes[volume.name] = volume

    async def forget(self, name: str) -> None:
        """Remove a record. Idempotent."""
        await self._database.transact(lambda connection: rows.delete_volume(connection, name), frees=True)
        self._volumes.pop(name, None)
