"""Where a container's mounts come from: made on the host if need be, and opened where a path alone would not do.

What is inside of a volume, containers change as they like. A path into it is resolved once, by the kernel, and what was found is what is
mounted, whatever is put in its place meanwhile.

docker: daemon/volume/mounts/mounts.go (Setup), daemon/volume/safepath.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import msgspec

from teul.errors import InvalidParameter, NotFound, Refusal, System
from teul.linux import mounts, paths
from teul.linux.mountinfo import mount_of
from teul.linux.overlay import stack_layers
from teul.model.mount import PlannedMount
from teul.oci.digest import Digest
from teul.runtime.child.mount_options import MountOptions
from teul.services.containers.request.mounts import source_of
from teul.services.containers.spec.mounts import render_mount
from teul.services.host import HostFacts
from teul.services.images.service import Images

_SHARED = (("shared:",), "shared")
_SLAVE = (("shared:", "master:"), "shared or slave")
_NEEDED: dict[str, tuple[tuple[str, ...], str]] = {"shared": _SHARED, "rshared": _SHARED, "slave": _SLAVE, "rslave": _SLAVE}


class SourceNotAccessible(NotFound):
    """There is nothing at the place in a volume that is to be mounted. The text is Docker's, with Go's words for the cause."""

    def __init__(self, base: str, subpath: str, missing: str) -> None:
        super().__init__(f"cannot access path {base}/{subpath}: lstat {base}/{missing}: no such file or directory")


class SourceLeadsOut(InvalidParameter):
    """The place in a volume that is to be mounted is not in the volume: a symbolic link leads out. The text is Docker's."""

    def __init__(self, base: str, subpath: str) -> None:
        super().__init__(f"path concatenation escapes the base directory, base: {base}, subpath: {subpath}")


def make_bind_sources(planned: Sequence[PlannedMount]) -> None:
    """docker: `-v` makes a missing host directory; `--mount` wants it to be there. Blocking. Raises System."""
    for mount in planned:
        if mount.type != "bind":
            continue
        if mount.create_source:
            try:
                os.makedirs(mount.source, exist_ok=True)
            except FileExistsError:
                continue  # a file: it is bound as it is
            except OSError as error:
                raise System(f"error while creating mount source path '{mount.source}': {error}") from error
        elif not os.path.lexists(mount.source):
            raise System(f'invalid mount config for type "bind": bind source path does not exist: {mount.source}')


def check_propagation(planned: Sequence[PlannedMount]) -> None:
    """Raises Refusal, in Docker's words, where a bind is to pass mounts on, and its source is of a mount that does not. Blocking.

    docker: daemon/oci_linux.go, ensureShared and ensureSharedOrSlave.
    """
    for mount in planned:
        wanted, what = _NEEDED.get(mount.propagation, ((), ""))
        if not wanted:
            continue
        source_fd = os.open(mount.source, os.O_PATH | os.O_CLOEXEC)
        try:
            place, fields = mount_of(source_fd)
        finally:
            os.close(source_fd)
        if not any(field.startswith(wanted) for field in fields):
            raise Refusal(f"path {mount.source} is mounted on {place} but it is not a {what} mount")


def choose_images(planned: Sequence[PlannedMount], images: Images) -> list[PlannedMount]:
    """The mounts, those of images with what their names mean now. Raises NotFound, InvalidParameter.

    docker: inspection shows where dockerd has mounted the image on the host. Here it is mounted in the container only; its id is shown.
    """
    chosen = []
    for mount in planned:
        if mount.type != "image" or mount.image_id or mount.point is None:
            chosen.append(mount)
            continue
        image = images.resolve(mount.source)
        image_id = str(image.image_id)
        point = msgspec.structs.replace(mount.point, source=image_id)
        manifest = str(image.chosen.descriptor.digest)
        chosen.append(msgspec.structs.replace(mount, image_id=image_id, image_manifest=manifest, point=point))
    return chosen


@contextmanager
def open_sources(planned: Sequence[PlannedMount], images: Images) -> Iterator[dict[str, int]]:
    """Detached mounts of those sources that a path is not enough for, by the mounts' destinations, while the context lasts.

    Blocking. The volumes must be mounted. Raises `SourceNotAccessible`, `SourceLeadsOut`, System, NotFound.
    """
    with ExitStack() as stack:
        found = {}
        for mount in planned:
            if mount.type == "volume" and mount.subpath:
                found[mount.destination] = open_subpath(source_of(mount), mount.subpath)
                stack.callback(os.close, found[mount.destination])
            elif mount.type == "image":
                found[mount.destination] = _open_image(mount, images)
                stack.callback(os.close, found[mount.destination])
        yield found


def open_whole(mount: PlannedMount, images: Images, host: HostFacts) -> int:
    """A detached mount as the container is to have it, but for the ids that it shows; whatever kind it is, but a tmpfs. Blocking.

    Raises as `open_sources`, and InvalidParameter.
    """
    make_bind_sources([mount])
    options = MountOptions(render_mount(mount, host)["options"])
    try:
        check_propagation([mount])
        with open_sources([mount], images) as found:
            opened = found.get(mount.destination)
            mount_fd = os.dup(opened) if opened is not None else mounts.clone_tree(source_of(mount), recursive=options.recursive)
    except OSError as error:
        raise System(f"error while mounting {source_of(mount)}: {error}") from error
    try:
        if options.add or options.clear:
            mounts.set_attributes(mount_fd, add=options.add, clear=options.clear, recursive=options.recursive_readonly)
        mounts.set_attributes(mount_fd, propagation=options.propagation or mounts.MS_PRIVATE, recursive=options.recursive_propagation)
    except OSError as error:
        os.close(mount_fd)
        raise System(f"error while mounting {source_of(mount)}: {error}") from error
    return mount_fd


def identify(mount: PlannedMount) -> tuple[int, int] | None:
    """Device and inode of what a bind or a volume mounts, None for others. Blocking. Raises as `open_sources`."""
    if mount.type not in ("bind", "volume"):
        return None
    try:
        mount_fd = (
            open_subpath(source_of(mount), mount.subpath or ".")
            if mount.type == "volume"
            else os.open(mount.source, os.O_PATH | os.O_CLOEXEC)
        )
    except OSError:
        return (0, 0)  # it is gone from the host, and what is mounted cannot be known again
    try:
        status = os.fstat(mount_fd)
    finally:
        os.close(mount_fd)
    return status.st_dev, status.st_ino


def _open_image(mount: PlannedMount, images: Images) -> int:
    """A detached mount of an image's files, or of a place in them."""
    image = images.get(Digest(mount.image_id)).for_manifest(Digest(mount.image_manifest))
    try:
        with images.lower(image) as lower:
            mount_fd = stack_layers(lower)
        if not mount.subpath:
            return mount_fd
        try:
            return open_subpath_at(mount_fd, mount.source, mount.subpath)
        finally:
            os.close(mount_fd)
    except OSError as error:
        # kernel: before 6.15 what is mounted nowhere cannot be cloned in part.
        hint = "a place in an image needs Linux 6.15" if mount.subpath and error.errno == errno.EINVAL else None
        raise System(f"error while mounting image {mount.source}: {error}", hint=hint) from error


def open_subpath(base: str, subpath: str) -> int:
    """A detached mount of what is at `subpath` in the host directory `base`, and of all that is mounted below. Blocking.

    Symbolic links count as long as they stay inside. Raises as `open_sources`.
    """
    try:
        base_fd = os.open(base, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            return open_subpath_at(base_fd, base, subpath)
        finally:
            os.close(base_fd)
    except OSError as error:
        raise System(f"error while mounting {subpath} of {base}: {error}") from error


def open_subpath_at(base_fd: int, base: str, subpath: str) -> int:
    """As `open_subpath`, of an opened directory; `base` is what it is called in errors. Raises `OSError` as well."""
    try:
        place_fd = paths.open_beneath(base_fd, subpath, os.O_PATH)
    except FileNotFoundError:
        raise SourceNotAccessible(base, subpath, _first_missing(base_fd, subpath)) from None
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise SourceLeadsOut(base, subpath) from None
        raise
    try:
        return mounts.clone_tree("", dir_fd=place_fd, recursive=True)
    finally:
        os.close(place_fd)


def _first_missing(base_fd: int, subpath: str) -> str:
    """The beginning of `subpath` that ends with what is not there."""
    parts = [part for part in subpath.split("/") if part not in ("", ".")]
    for count in range(1, len(parts)):
        beginning = "/".join(parts[:count])
        try:
            os.close(paths.open_beneath(base_fd, beginning, os.O_PATH))
        except OSError:
            return beginning
    return "/".join(parts)
