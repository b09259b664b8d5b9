"""Volumes and the build cache as rows of a list."""

from __future__ import annotations

from time import time

from teul.cli.format.listing import Row
from teul.cli.format.units import human_duration, human_size, short_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, ClassVar

VOLUME_HEADERS = {
    "Name": "VOLUME NAME",
    "Group": "GROUP",
    "Driver": "DRIVER",
    "Scope": "SCOPE",
    "Availability": "AVAILABILITY",
    "Mountpoint": "MOUNTPOINT",
    "Labels": "LABELS",
    "Links": "LINKS",
    "Size": "SIZE",
    "Status": "STATUS",
}
CACHE_HEADERS = {
    "ID": "CACHE ID",
    "Parent": "PARENT",
    "CacheType": "CACHE TYPE",
    "Size": "SIZE",
    "CreatedSince": "CREATED",
    "LastUsedSince": "LAST USED",
    "UsageCount": "USAGE",
    "InUse": "IN USE",
    "Shared": "SHARED",
    "Description": "DESCRIPTION",
}


class VolumeRow(Row):
    """A volume. What only a swarm's volumes have is not available."""

    KIND: ClassVar[str] = "formatter.volumeContext"

    def __init__(self, volume: dict[str, Any]) -> None:
        self.volume = volume
        self.usage: dict[str, Any] | None = volume.get("UsageData")

    def label(self, name: str) -> str:
        return str((self.volume.get("Labels") or {}).get(name, ""))

    FIELDS: ClassVar[Mapping[str, Callable[[Any], str | None]]] = {
        "Name": lambda row: str(row.volume["Name"]),
        "Driver": lambda row: str(row.volume.get("Driver") or ""),
        "Scope": lambda row: str(row.volume.get("Scope") or ""),
        "Mountpoint": lambda row: str(row.volume.get("Mountpoint") or ""),
        "Labels": lambda row: ",".join(sorted(f"{name}={value}" for name, value in (row.volume.get("Labels") or {}).items())),
        "Links": lambda row: "N/A" if row.usage is None else str(row.usage["RefCount"]),
        "Size": lambda row: "N/A" if row.usage is None else human_size(row.usage["Size"]),
        "Group": lambda _row: "N/A",
        "Availability": lambda _row: "N/A",
        "Status": lambda _row: "N/A",
    }
    METHODS: ClassVar[Mapping[str, Callable[..., str]]] = {"Label": label}


class CacheRow(Row):
    """A record of the build cache, its ids cut unless `whole`."""

    def __init__(self, record: dict[str, Any], *, whole: bool = False) -> None:
        self.record = record
        self.whole = whole

    def identifier(self) -> str:
        identifier = str(self.record["ID"])
        return (identifier if self.whole else short_id(identifier)) + ("*" if self.record.get("InUse") else "")

    def parent(self) -> str:
        parent = ", ".join(self.record.get("Parents") or []) or str(self.record.get("Parent") or "")
        return parent if self.whole else short_id(parent)

    FIELDS: ClassVar[Mapping[str, Callable[[Any], str | None]]] = {
        "ID": identifier,
        "Parent": parent,
        "CacheType": lambda row: str(row.record.get("Type") or ""),
        "Description": lambda row: str(row.record.get("Description") or ""),
        "Size": lambda row: human_size(row.record.get("Size") or 0, 3),
        "CreatedAt": lambda row: _point(row.record.get("CreatedAt")),
        "CreatedSince": lambda row: _since(row.record.get("CreatedAt")),
        "LastUsedAt": lambda row: _point(row.record.get("LastUsedAt")),
        "LastUsedSince": lambda row: _since(row.record.get("LastUsedAt")),
        "UsageCount": lambda row: str(row.record.get("UsageCount") or 0),
        "InUse": lambda row: "true" if row.record.get("InUse") else "false",
        "Shared": lambda row: "true" if row.record.get("Shared") else "false",
    }


def _point(text: str | None) -> str:
    """A point in time of the API, which is in UTC, as Go prints it."""
    if not text:
        return ""
    date, _, rest = text.removesuffix("Z").partition("T")
    clock, point, fraction = rest.partition(".")
    fraction = fraction.rstrip("0")
    return f"{date} {clock}{point if fraction else ''}{fraction} +0000 UTC"


def _since(text: str | None) -> str:
    if not text:
        return ""
    from datetime import datetime

    return f"{human_duration(time() - datetime.fromisoformat(text).timestamp())} ago"
