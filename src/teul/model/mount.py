"""Mounts as a request asks for them (`Mount`), as a container has them (`PlannedMount`), and as inspection reports them (`MountPoint`)."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from teul.model.document import Document


class BindOptions(Document):
    """What applies to mounts of type bind."""

    OMIT_EMPTY: ClassVar[frozenset[str]] = frozenset(
        {"propagation", "non_recursive", "create_mountpoint", "read_only_non_recursive", "read_only_force_recursive", "id_map"}
    )

    propagation: str = ""
    non_recursive: bool = False
    create_mountpoint: bool = False
    read_only_non_recursive: bool = False
    read_only_force_recursive: bool = False
    id_map: str = ""  # Teul's, as is that of volumes


class VolumeDriver(Document):
    """The driver that a new volume is made with."""

    OMIT_EMPTY: ClassVar[frozenset[str]] = frozenset({"name", "options"})

    name: str = ""
    options: dict[str, str] | None = None


class VolumeOptions(Document):
    """What applies to mounts of type volume."""

    OMIT_EMPTY: ClassVar[frozenset[str]] = frozenset({"no_copy", "labels", "subpath", "driver_config", "id_map"})

    no_copy: bool = False
    labels: dict[str, str] | None = None
    subpath: str = ""
    driver_config: VolumeDriver | None = None
    id_map: str = ""


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

    OMIT_EMPTY: ClassVar[frozenset[str]] = frozenset({"type", "name", "driver", "id_map"})

    type: str = ""
    name: str = ""
    source: str = ""
    destination: str = ""
    driver: str = ""
    mode: str = ""
    rw: bool = False
    propagation: str = ""
    id_map: str = ""


class PlannedMount(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A mount that a container has whenever it runs. `point` is what inspection shows; None for HostConfig.Tmpfs, which is not listed.

    `source` is a host path, for binds; a volume has a `name` instead, also one that nobody has named (`is_anonymous`), and `driver`,
    `driver_options` and `labels` to make it with; `subpath` is the place in it. `create_source`: a missing host directory is made at start.
    `no_copy`: the volume gets nothing of the image's. `tmpfs_options` is the text of a tmpfs's options. An image's `source` is what the
    client called it; `image_id` and `image_manifest`, a digest, are what that was when the container was made.
    `id_map` says which owners of files are shown (`request.id_map`).
    """

    type: str
    destination: str
    source: str = ""
    name: str = ""
    is_anonymous: bool = False
    driver: str = ""
    driver_options: dict[str, str] | None = None
    labels: dict[str, str] | None = None
    no_copy: bool = False
    subpath: str = ""
    image_id: str = ""
    image_manifest: str = ""
    read_only: bool = False
    propagation: str = ""
    non_recursive: bool = False
    read_only_non_recursive: bool = False
    read_only_force_recursive: bool = False
    create_source: bool = False
    id_map: str = ""
    tmpfs_options: str = ""
    point: MountPoint | None = None
