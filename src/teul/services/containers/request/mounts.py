"""The mounts that a client asks for (`Binds`, `Mounts`, `Tmpfs`), parsed and checked with Docker's rules and texts. Pure.

docker: volume/mounts/linux_parser.go (the grammar of `-v` and the checks of `--mount`), daemon/volumes.go (who wins when two want
the same place).
"""

from __future__ import annotations

import json
import posixpath
from dataclasses import dataclass

from teul.errors import InvalidParameter, NotImplementedHere
from teul.model.host_config import HostConfig
from teul.model.mount import BindOptions, Mount, MountPoint, TmpfsOptions

PROPAGATIONS = ("private", "rprivate", "slave", "rslave", "shared", "rshared")
DEFAULT_PROPAGATION = "rprivate"
_LABELS = frozenset({"z", "Z"})
_CONSISTENCIES = frozenset({"consistent", "cached", "delegated"})
_TMPFS_FLAGS = frozenset({"exec", "noexec"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedMount:
    """A mount to make. `point` is what inspection shows; None for HostConfig.Tmpfs, which Docker does not list there.

    `create_source`: a missing host directory is made at start. `tmpfs_options` is the text of a tmpfs's options.
    """

    type: str
    destination: str
    source: str = ""
    read_only: bool = False
    propagation: str = ""
    non_recursive: bool = False
    read_only_non_recursive: bool = False
    read_only_force_recursive: bool = False
    create_source: bool = False
    tmpfs_options: str = ""
    point: MountPoint | None = None


def plan_mounts(host_config: HostConfig) -> list[PlannedMount]:
    """All mounts that `host_config` asks for, each place once. Raises InvalidParameter, NotImplementedHere."""
    planned: dict[str, PlannedMount] = {}
    for bind in host_config.binds or ():
        mount = parse_bind(bind)
        if mount.destination in planned or mount.destination in (host_config.tmpfs or {}):
            raise _duplicate(mount.destination)
        planned[mount.destination] = mount
    for request in host_config.mounts or ():
        mount = parse_mount(request)
        if mount.destination in planned:
            raise _duplicate(request.target)
        planned[mount.destination] = mount
    for destination, options in (host_config.tmpfs or {}).items():
        # docker: a --tmpfs covers a --mount of the same place.
        planned[destination] = PlannedMount(type="tmpfs", destination=destination, tmpfs_options=options)
    return list(planned.values())


def mount_points(host_config: HostConfig) -> list[MountPoint]:
    """The `Mounts` of an inspection."""
    return [mount.point for mount in plan_mounts(host_config) if mount.point is not None]


def parse_bind(raw: str) -> PlannedMount:
    """`/host:/container[:options]`. Raises InvalidParameter; NotImplementedHere for a volume."""
    source, target, mode = _split_bind(raw)
    words = mode.split(",") if mode else []
    if not _is_mode(mode):
        raise InvalidParameter(f"invalid mode: {mode}")
    if not source.startswith("/"):
        _check_target(Mount(type="volume", target=target), raw)
        what = f'"{source}" (in {raw})' if source else f"an anonymous one at {target}"
        raise NotImplementedHere(f"volumes are not supported yet: {what}", hint="bind a host directory: -v /absolute/path:" + target)
    propagation = next((word for word in words if word in PROPAGATIONS), "")
    if "nocopy" in words:
        raise _invalid_spec(raw, 'invalid mount config for type "bind": field VolumeOptions must not be specified')
    _check_target(Mount(type="bind", target=target), raw)
    return _bind(
        Mount(type="bind", source=source, target=target, read_only="ro" in words, bind_options=BindOptions(propagation=propagation)),
        mode=mode,
        create_source=True,
    )


def parse_mount(mount: Mount) -> PlannedMount:
    """One of HostConfig.Mounts. Whether a bind's source exists is the caller's question. Raises InvalidParameter, NotImplementedHere."""
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
    raise NotImplementedHere(f"mounts of type {mount.type} are not supported yet: {mount.source or 'anonymous'} at {mount.target}")


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
    return "consistency" if word in _CONSISTENCIES else None


def _bind(mount: Mount, *, mode: str, create_source: bool) -> PlannedMount:
    options = mount.bind_options or BindOptions()
    source, destination = clean_path(mount.source), clean_path(mount.target)
    propagation = options.propagation or DEFAULT_PROPAGATION
    if propagation in ("shared", "rshared"):
        raise NotImplementedHere(f"mount propagation {propagation} is not supported yet: {mount.source} at {mount.target}")
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
        point=MountPoint(type="bind", source=source, destination=destination, mode=mode, rw=not mount.read_only, propagation=propagation),
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
