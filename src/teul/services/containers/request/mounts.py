"""The mounts that a client asks for (`Binds`, `Mounts`, `Tmpfs`), parsed and checked with Docker's rules and texts. Pure.

docker: volume/mounts/linux_parser.go (the grammar of `-v` and the checks of `--mount`), daemon/volumes.go (who wins when two want
the same place).
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Collection, Sequence

import msgspec

from teul.errors import InvalidParameter
from teul.model.container import Container
from teul.model.host_config import HostConfig
from teul.model.mount import BindOptions, ImageOptions, Mount, MountPoint, PlannedMount, TmpfsOptions, VolumeDriver, VolumeOptions
from teul.services.containers.request.id_map import OWNER, parse_id_map

PROPAGATIONS = ("private", "rprivate", "slave", "rslave", "shared", "rshared")
DEFAULT_PROPAGATION = "rprivate"
_LABELS = frozenset({"z", "Z"})
_CONSISTENCIES = frozenset({"consistent", "cached", "delegated"})
_TMPFS_FLAGS = frozenset({"exec", "noexec"})


def plan_mounts(
    host_config: HostConfig,
    *,
    inherited: Sequence[PlannedMount] = (),
    volumes: Collection[str] = (),
    shallow_read_only: bool = False,
) -> list[PlannedMount]:
    """All mounts that a request asks for, each place once. Raises InvalidParameter.

    `inherited` are those of other containers (`VolumesFrom`); `volumes` are the places, also the image's, that get a volume without a name
    if there is nothing else; `shallow_read_only` is as of `CreateContainer`. docker: daemon/volumes.go registerMountPoints,
    daemon/create_unix.go.
    """
    planned: dict[str, PlannedMount] = {mount.destination: mount for mount in inherited}
    asked: set[str] = set()
    tmpfs = host_config.tmpfs or {}
    for bind in host_config.binds or ():
        mount = _judged(parse_bind(bind, volume_driver=host_config.volume_driver), shallow_read_only=shallow_read_only)
        if mount.destination in asked or mount.destination in tmpfs:
            raise _duplicate(mount.destination)
        asked.add(mount.destination)
        planned[mount.destination] = mount
    for request in host_config.mounts or ():
        mount = _judged(parse_mount(request), shallow_read_only=shallow_read_only)
        if mount.destination in asked:
            raise _duplicate(request.target)
        asked.add(mount.destination)
        planned[mount.destination] = mount
    for destination, options in tmpfs.items():
        # docker: a --tmpfs covers a --mount of the same place.
        planned[destination] = PlannedMount(type="tmpfs", destination=destination, tmpfs_options=options)
    for place in volumes:
        destination = clean_path(place)
        if destination not in planned:
            point = MountPoint(type="volume", destination=destination, rw=True)
            planned[destination] = PlannedMount(
                type="volume", destination=destination, is_anonymous=True, driver=host_config.volume_driver, point=point
            )
    return list(planned.values())


def _judged(mount: PlannedMount, *, shallow_read_only: bool) -> PlannedMount:
    if shallow_read_only and mount.type == "bind" and mount.read_only and not mount.read_only_force_recursive:
        return msgspec.structs.replace(mount, read_only_non_recursive=True)
    return mount


def mounts_of(container: Container) -> list[PlannedMount]:
    """The mounts that a container has."""
    return plan_mounts(container.host_config) if container.planned is None else container.planned


def has_shallow_binds(container: Container) -> bool:
    """Whether it was created with `shallow_read_only`, as far as that makes a difference: `-v` has no word for it."""
    said = {clean_path(mount.target) for mount in container.host_config.mounts or ()}
    return any(mount.read_only_non_recursive and mount.destination not in said for mount in mounts_of(container))


def source_of(mount: PlannedMount) -> str:
    """Where on the host a bind or a volume comes from."""
    if mount.type != "volume":
        return mount.source
    assert mount.point is not None, mount
    return mount.point.source


def inherit(mounts: Sequence[PlannedMount], *, read_only: bool) -> list[PlannedMount]:
    """The mounts of a container for another one. docker: what is in memory is not shared, and nothing is copied into a volume again."""
    found = []
    for mount in mounts:
        if mount.type == "tmpfs" or mount.point is None:
            continue
        is_read_only = mount.read_only or read_only
        point = msgspec.structs.replace(mount.point, mode="", rw=not is_read_only)
        found.append(msgspec.structs.replace(mount, read_only=is_read_only, no_copy=True, point=point))
    return found


def parse_volumes_from(text: str) -> tuple[str, bool]:
    """`CONTAINER[:MODE]`: the container, and whether its mounts are to be read-only. Raises InvalidParameter."""
    if not text:
        raise InvalidParameter("volumes-from specification cannot be an empty string")
    reference, _, mode = text.partition(":")
    words = mode.split(",") if mode else []
    if not _is_mode(mode) or any(word in PROPAGATIONS or _family(word) in ("copy", "idmap") for word in words):
        raise InvalidParameter(f"invalid mode: {mode}")
    if not reference:
        raise InvalidParameter('invalid name or ID supplied: ""')
    return reference, "ro" in words


def parse_bind(raw: str, *, volume_driver: str = "") -> PlannedMount:
    """`/host:/container[:options]`, or `volume:/container[:options]`. Raises InvalidParameter."""
    source, target, mode = _split_bind(raw)
    words = mode.split(",") if mode else []
    if not _is_mode(mode):
        raise InvalidParameter(f"invalid mode: {mode}")
    id_map = next((word.partition("=")[2] or OWNER for word in words if _family(word) == "idmap"), "")
    propagation = next((word for word in words if word in PROPAGATIONS), "")
    if not source.startswith("/"):
        if propagation:
            raise _invalid_spec(raw, 'invalid mount config for type "volume": field BindOptions must not be specified')
        _check_target(Mount(type="volume", target=target), raw)
        options = VolumeOptions(
            no_copy="nocopy" in words, driver_config=VolumeDriver(name=volume_driver) if volume_driver else None, id_map=id_map
        )
        mount = Mount(type="volume", source=source, target=target, read_only="ro" in words, volume_options=options)
        return _volume(mount, mode=mode)
    if "nocopy" in words:
        raise _invalid_spec(raw, 'invalid mount config for type "bind": field VolumeOptions must not be specified')
    _check_target(Mount(type="bind", target=target), raw)
    return _bind(
        Mount(
            type="bind",
            source=source,
            target=target,
            read_only="ro" in words,
            bind_options=BindOptions(propagation=propagation, id_map=id_map),
        ),
        mode=mode,
        create_source=True,
    )


def parse_mount(mount: Mount) -> PlannedMount:
    """One of HostConfig.Mounts. Whether a bind's source exists, and which image is meant, is the caller's question.

    Raises InvalidParameter.
    """
    _check_mount(mount)
    if mount.type == "bind":
        return _bind(mount, mode="", create_source=mount.bind_options is not None and mount.bind_options.create_mountpoint)
    if mount.type == "tmpfs":
        destination = clean_path(mount.target)
        return PlannedMount(
            type="tmpfs",
            destination=destination,
            tmpfs_options=render_tmpfs_options(mount.tmpfs_options, read_only=mount.read_only),
            point=MountPoint(type="tmpfs", destination=destination, rw=not mount.read_only),
        )
    if mount.type == "volume":
        return _volume(mount, mode="")
    return _image(mount)


def render_tmpfs_options(options: TmpfsOptions | None, *, read_only: bool) -> str:
    """The options of a `--mount type=tmpfs` in the words of mount(8). Raises InvalidParameter."""
    words = ["ro"] if read_only else []
    if options is None:
        return ",".join(words)
    if options.mode:
        words.append(f"mode={options.mode:o}")
    if options.size_bytes:
        words.append(f"size={_shortest_size(options.size_bytes)}")
    for option in options.options or ():
        if not 1 <= len(option) <= 2:
            raise InvalidParameter("invalid option array length")
        if option[0] not in _TMPFS_FLAGS:
            raise InvalidParameter(f"invalid option: {option[0]}")
        words.append("=".join(option))
    return ",".join(words)


def clean_path(path: str) -> str:
    """Go's path.Clean: normpath(3) would keep two leading slashes."""
    return posixpath.normpath("/" + path.lstrip("/")) if path.startswith("/") else posixpath.normpath(path)


def check_not_root(target: str) -> None:
    """Raises InvalidParameter if `target` is the root directory."""
    if clean_path(target.replace("\\", "/")) == "/":
        raise InvalidParameter("invalid specification: destination can't be '/'")


def check_absolute(path: str) -> None:
    """Raises InvalidParameter unless `path` is absolute."""
    if not path.startswith(("/", "\\")):
        raise InvalidParameter(f"invalid mount path: '{path}' mount path must be absolute")


def _split_bind(raw: str) -> tuple[str, str, str]:
    parts = raw.split(":")
    if not parts[0] or len(parts) > 3:
        raise _invalid_spec(raw)
    if len(parts) == 1:
        return "", parts[0], ""
    if len(parts) == 2:
        if _is_mode(parts[1]):
            raise _invalid_spec(raw)  # "/place:ro" says where, but not what
        return parts[0], parts[1], ""
    return parts[0], parts[1], parts[2]


def _is_mode(mode: str) -> bool:
    """Whether `mode` has options of `-v` only, at most one of each family."""
    if not mode:
        return True
    families = [_family(word) for word in mode.split(",")]
    return None not in families and len(set(families)) == len(families)


def _family(word: str) -> str | None:
    if word in ("rw", "ro"):
        return "access"
    if word in _LABELS:
        return "label"
    if word in PROPAGATIONS:
        return "propagation"
    if word == "nocopy":
        return "copy"
    name, equals, value = word.partition("=")
    if name == "idmap" and bool(equals) == bool(value):
        return "idmap"
    return "consistency" if word in _CONSISTENCIES else None


def _bind(mount: Mount, *, mode: str, create_source: bool) -> PlannedMount:
    options = mount.bind_options or BindOptions()
    source, destination = clean_path(mount.source), clean_path(mount.target)
    propagation = options.propagation or DEFAULT_PROPAGATION
    return PlannedMount(
        type="bind",
        source=source,
        destination=destination,
        read_only=mount.read_only,
        propagation=propagation,
        non_recursive=options.non_recursive,
        read_only_non_recursive=options.read_only_non_recursive,
        read_only_force_recursive=options.read_only_force_recursive,
        create_source=create_source,
        id_map=_id_map(options.id_map),
        point=MountPoint(
            type="bind",
            source=source,
            destination=destination,
            mode=mode,
            rw=not mount.read_only,
            propagation=propagation,
            id_map=options.id_map,
        ),
    )


def _volume(mount: Mount, *, mode: str) -> PlannedMount:
    options = mount.volume_options or VolumeOptions()
    driver = options.driver_config or VolumeDriver()
    destination = clean_path(mount.target)
    # docker: "z" where nothing was said of sharing; without effect where SELinux is off.
    point = MountPoint(
        type="volume", name=mount.source, destination=destination, mode=mode or "z", rw=not mount.read_only, id_map=options.id_map
    )
    return PlannedMount(
        type="volume",
        destination=destination,
        name=mount.source,
        is_anonymous=not mount.source,
        driver=driver.name,
        driver_options=driver.options,
        labels=options.labels,
        no_copy=options.no_copy,
        subpath=options.subpath,
        read_only=mount.read_only,
        id_map=_id_map(options.id_map),
        point=point,
    )


def _id_map(text: str) -> str:
    """`text`, which is empty or can be parsed. Raises InvalidParameter."""
    if text:
        parse_id_map(text)
    return text


def _image(mount: Mount) -> PlannedMount:
    destination = clean_path(mount.target)
    return PlannedMount(
        type="image",
        source=mount.source,
        destination=destination,
        subpath=(mount.image_options or ImageOptions()).subpath,
        read_only=True,
        point=MountPoint(type="image", name=mount.source, destination=destination, propagation=DEFAULT_PROPAGATION),
    )


def _check_mount(mount: Mount) -> None:
    try:
        if not mount.target:
            raise InvalidParameter("field Target must not be empty")
        check_not_root(mount.target)
        check_absolute(mount.target)
        _CHECKS.get(mount.type, _check_unknown)(mount)
    except InvalidParameter as error:
        raise InvalidParameter(f"invalid mount config for type {json.dumps(mount.type)}: {error.message}") from None


def _check_bind(mount: Mount) -> None:
    _require("Source", mount.source)
    options = mount.bind_options or BindOptions()
    if options.propagation and options.propagation not in PROPAGATIONS:
        raise InvalidParameter(f"invalid propagation mode: {options.propagation}")
    _refuse("VolumeOptions", mount.volume_options)
    _refuse("ImageOptions", mount.image_options)
    check_absolute(mount.source)
    # docker: dockerd finds these three conflicts at start, with the same texts.
    if not mount.read_only and options.read_only_non_recursive:
        raise InvalidParameter("mount options conflict: !ReadOnly && BindOptions.ReadOnlyNonRecursive")
    if not mount.read_only and options.read_only_force_recursive:
        raise InvalidParameter("mount options conflict: !ReadOnly && BindOptions.ReadOnlyForceRecursive")
    if options.read_only_non_recursive and options.read_only_force_recursive:
        raise InvalidParameter("mount options conflict: ReadOnlyNonRecursive && BindOptions.ReadOnlyForceRecursive")


def _check_volume(mount: Mount) -> None:
    _refuse("BindOptions", mount.bind_options)
    _refuse("ImageOptions", mount.image_options)
    if mount.volume_options is not None and mount.volume_options.subpath:
        if not mount.source:
            raise InvalidParameter("must not set Subpath when using anonymous volumes")
        _check_subpath(mount.volume_options.subpath)
    if mount.read_only and not mount.source:
        raise InvalidParameter("must not set ReadOnly mode when using anonymous volumes")


def _check_tmpfs(mount: Mount) -> None:
    _refuse("BindOptions", mount.bind_options)
    _refuse("ImageOptions", mount.image_options)
    _refuse("Source", mount.source or None)
    render_tmpfs_options(mount.tmpfs_options, read_only=mount.read_only)


def _check_image(mount: Mount) -> None:
    _refuse("BindOptions", mount.bind_options)
    _refuse("VolumeOptions", mount.volume_options)
    _require("Source", mount.source)
    if mount.image_options is not None and mount.image_options.subpath:
        _check_subpath(mount.image_options.subpath)


def _check_unknown(_mount: Mount) -> None:
    raise InvalidParameter("mount type unknown")


_CHECKS = {"bind": _check_bind, "volume": _check_volume, "tmpfs": _check_tmpfs, "image": _check_image}


def _check_target(mount: Mount, raw: str) -> None:
    try:
        _require("Target", mount.target)
        check_not_root(mount.target)
        check_absolute(mount.target)
    except InvalidParameter as error:
        raise _invalid_spec(raw, f'invalid mount config for type "{mount.type}": {error.message}') from None


def _check_subpath(path: str) -> None:
    """Go's filepath.IsLocal: relative, and not leading out."""
    if path.startswith("/") or posixpath.normpath(path).split("/")[0] == "..":
        raise InvalidParameter("subpath must be a relative path within the volume")


def _require(name: str, value: str) -> None:
    if not value:
        raise InvalidParameter(f"field {name} must not be empty")


def _refuse(name: str, value: object) -> None:
    if value is not None:
        raise InvalidParameter(f"field {name} must not be specified")


def _invalid_spec(raw: str, reason: str = "") -> InvalidParameter:
    text = f"invalid volume specification: '{raw}'"
    return InvalidParameter(f"{text}: {reason}" if reason else text)


def _duplicate(destination: str) -> InvalidParameter:
    return InvalidParameter(f"Duplicate mount point: {destination}")


def _shortest_size(size_bytes: int) -> str:
    for suffix, divisor in (("g", 1 << 30), ("m", 1 << 20), ("k", 1 << 10)):
        if size_bytes % divisor == 0:
            return f"{size_bytes // divisor}{suffix}"
    return str(size_bytes)
