"""The `mounts` of an OCI spec: Docker's defaults with the client's laid over them. Pure.

docker: oci/defaults.go (the list), daemon/oci_linux.go (withMounts), container/container_unix.go (the three network files).
"""

from __future__ import annotations

from collections.abc import Sequence

from teul.errors import InvalidParameter
from teul.model.host_config import HostConfig
from teul.model.mount import PlannedMount
from teul.oci.runtime_spec import IdMap, Mount
from teul.services.containers.request.id_map import parse_id_map
from teul.services.containers.request.mounts import DEFAULT_PROPAGATION, source_of
from teul.services.containers.request.tmpfs import merge_tmpfs_options
from teul.services.host import HostFacts

# kernel: mount_setattr(2) with AT_RECURSIVE, which "rro" stands for, came with 5.12.
_RECURSIVE_READ_ONLY_SINCE = (5, 12)


def build_mounts(
    host_config: HostConfig,
    host: HostFacts,
    *,
    asked: Sequence[PlannedMount],
    network_files: Sequence[tuple[str, str]],
    writable_cgroups: bool,
    ipc_donor_pid: int | None = None,
) -> list[Mount]:
    """All mounts of a container, in the order in which they are made: Docker's defaults, then the client's from the top down.

    `asked` are the client's; `network_files` are (destination, host path); a bind that the client put at the same place wins.
    `ipc_donor_pid` is the first process of the container whose IPC namespace is joined, and with it its /dev/shm. Raises InvalidParameter.
    """
    taken = {mount.destination for mount in asked}
    mounts = _default_mounts(host_config, writable_cgroups=writable_cgroups)
    if "/dev" in taken:
        mounts = [mount for mount in mounts if not mount["destination"].startswith("/dev/")]
    mounts = [mount for mount in mounts if mount["destination"] not in taken]
    rendered = [render_mount(mount, host) for mount in asked]
    if host_config.ipc_mode == "host" and "/dev/shm" not in taken:
        rendered.append(_mount("/dev/shm", "bind", "/dev/shm", ["rbind", DEFAULT_PROPAGATION]))
    if ipc_donor_pid is not None and "/dev/shm" not in taken:
        # security: the child takes it by the donor's pidfd; the path is for whoever reads the bundle.
        rendered.append(_mount("/dev/shm", "bind", donors_shm(ipc_donor_pid), ["bind", DEFAULT_PROPAGATION]))
    mode = ["ro"] if host_config.readonly_rootfs else []
    rendered += [
        # security: over a symlink that the image has there, not to where it leads, which may be a volume of the client's.
        _mount(destination, "bind", path, ["rbind", *mode, DEFAULT_PROPAGATION, "dest-nofollow"])
        for destination, path in network_files
        if destination not in taken
    ]
    # docker: fewer path components first, so that a mount never covers one that was made below it (mountSort).
    return mounts + sorted(rendered, key=lambda mount: mount["destination"].count("/"))


def donors_shm(pid: int) -> str:
    """The source of a mount that stands for the /dev/shm of the container whose first process this is."""
    return f"/proc/{pid}/root/dev/shm"


def build_id_maps(asked: Sequence[PlannedMount]) -> dict[str, IdMap]:
    """By destination, what the child needs for mounts that show other owners of files."""
    return {mount.destination: parse_id_map(mount.id_map) for mount in asked if mount.id_map}


def root_propagation(mounts: Sequence[Mount]) -> str | None:
    """The propagation of the root that these mounts need. docker: daemon/oci_linux.go withMounts."""
    words = {word for mount in mounts if mount["type"] == "bind" for word in mount["options"]}
    if words & {"shared", "rshared"}:
        return "shared"
    return "rslave" if words & {"slave", "rslave"} else None


def _default_mounts(host_config: HostConfig, *, writable_cgroups: bool) -> list[Mount]:
    sys_mode = [] if host_config.privileged else ["ro"]
    cgroup_mode = [] if writable_cgroups else ["ro"]
    mounts = [
        _mount("/proc", "proc", "proc", ["nosuid", "noexec", "nodev"]),
        _mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        _mount("/dev/pts", "devpts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        _mount("/sys", "sysfs", "sysfs", ["nosuid", "noexec", "nodev", *sys_mode]),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", [*cgroup_mode, "nosuid", "noexec", "nodev"]),
        _mount("/dev/mqueue", "mqueue", "mqueue", ["nosuid", "noexec", "nodev"]),
    ]
    if host_config.ipc_mode in ("", "private", "shareable"):
        options = ["nosuid", "noexec", "nodev", "mode=1777", f"size={host_config.shm_size}"]
        mounts.append(_mount("/dev/shm", "tmpfs", "shm", options))
    return mounts


def render_mount(mount: PlannedMount, host: HostFacts) -> Mount:
    """One of the client's mounts. Raises InvalidParameter."""
    if mount.type == "tmpfs":
        return _mount(mount.destination, "tmpfs", "tmpfs", merge_tmpfs_options(mount.tmpfs_options))
    options = ["bind" if mount.non_recursive else "rbind"]
    if mount.read_only:
        options.append(_read_only_word(mount, host))
    options.append(mount.propagation or DEFAULT_PROPAGATION)
    source = f"{source_of(mount)}/{mount.subpath}" if mount.subpath else source_of(mount)
    return _mount(mount.destination, "bind", source, options)


def _read_only_word(mount: PlannedMount, host: HostFacts) -> str:
    if mount.read_only_non_recursive:
        return "ro"
    if host.kernel >= _RECURSIVE_READ_ONLY_SINCE:
        return "rro"
    if mount.read_only_force_recursive:
        raise InvalidParameter("rro is not supported: kernel is older than 5.12")
    return "ro"


def _mount(destination: str, kind: str, source: str, options: list[str]) -> Mount:
    return {"destination": destination, "type": kind, "source": source, "options": options}
