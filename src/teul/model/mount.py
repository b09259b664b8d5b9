"""Mounts as a request asks for them (`Mount`) and as inspection reports them (`MountPoint`)."""

from __future__ import annotations

from typing import ClassVar

from teul.model.document import Document


class BindOptions(Document):
    """What applies to mounts of type bind."""

    OMIT_EMPTY: ClassVar[frozenset[str]] = frozenset(
        {"propagation", "non_recursive", "create_mountpoint", "read_only_non_recursive", "read_only_force_recursive"}
    )

    propagation: str = ""
    non_recursive: bool = False
    create_mountpoint: bool = False
    read_only_non_recursive: bool = False
    read_only_force_recursive: bool = False


class VolumeDriver(Document):
    """The driver that a new volume is made with."""

    OMIT_EMPTY: ClassVar[frozenset[str]] = frozenset({"name", "options"})

    name: str = ""
    options: dict[str, str] | None = None


class VolumeOptions(Document):
    """What applies to mounts of type volume."""

    OMIT_EMPTY: ClassVar[frozenset[str]] = frozenset({"no_copy", "labels", "subpath", "driver_config"})

    no_copy: bool = False
    labels: dict[str, str] | None = None
    subpath: str = ""
    driver_config: VolumeDriver | None = None


class ImageOptions(Document):
    """What applies to mounts of type image."""

    OMIT_EMPTY: ClassVar[frozenset[str]] = frozenset({"subpath"})

    subpath: str = ""


class TmpfsOptions(Document):
    """What applies to mounts of type tmpfs. `options` are lists of one (flag) or two (key and value) words."""

    OMIT_EMPTY: ClassVar[frozenset[str]] = frozenset({"size_bytes", "mode", "options"})

    size_bytes: int = 0
    mode: int = 0
    options: list[list[str]] | None = None


class Mount(Document):
    """One entry of HostConfig.Mounts (`docker run --mount`)."""

    OMIT_EMPTY: ClassVar[frozenset[str]] = frozenset(
        {"type", "source", "target", "read_only", "consistency", "bind_options", "volume_options", "image_options", "tmpfs_options"}
    )

    type: str = ""
    source: str = ""
    target: str = ""
    read_only: bool = False
    consistency: str = ""
    bind_options: BindOptions | None = None
    volume_options: VolumeOptions | None = None
    image_options: ImageOptions | None = None
    tmpfs_options: TmpfsOptions | None = None


class MountPoint(Document):
    """One entry of `Mounts` in a container's inspection."""

    OMIT_EMPTY: ClassVar[frozenset[str]] = frozenset({"type", "name", "driver"})

    type: str = ""
    name: str = ""
    source: str = ""
    destination: str = ""
    driver: str = ""
    mode: str = ""
    rw: bool = False
    propagation: str = ""
