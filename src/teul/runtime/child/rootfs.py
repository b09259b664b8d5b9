"""What the container will see: its root, mounts, devices, and what is hidden from it.

Everything happens in the child's own mount namespace, below a descriptor of the new root, so nothing of it exists on the
host and no path of the image is ever resolved outside of the image.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from teul.linux import mounts, paths
from teul.linux.overlay import mount_overlay
from teul.runtime.child.mount_options import MountOptions

if TYPE_CHECKING:
    from teul.oci.runtime_spec import Device, Mount, Spec

_LINKS = (("/proc/self/fd", "fd"), ("/proc/self/fd/0", "stdin"), ("/proc/self/fd/1", "stdout"), ("/proc/self/fd/2", "stderr"))
_KERNEL_VIEWS = ("proc", "sysfs")
# runc: libcontainer/rootfs_linux.go checkProcMount. Files that lxcfs and the like lay over the kernel's.
_COVERED_IN_PROC = frozenset(
    (
        *("/proc/cpuinfo", "/proc/diskstats", "/proc/meminfo", "/proc/stat", "/proc/swaps", "/proc/uptime", "/proc/loadavg"),
        *("/proc/slabinfo", "/proc/net/dev", "/proc/sys/kernel/ns_last_pid", "/proc/sys/crypto/fips_enabled"),
    )
)
_DEVICE_KINDS = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}


class Rootfs:
    """The root under construction; `fd` is its top directory."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._path = spec["root"]["path"]
        self._devpts: str | None = None
        self.fd = -1
        self.proc_fd = -1

    def mount_root(self, given: list[int]) -> None:
        """Mount the overlay (or bind the given directory) at the bundle's rootfs and open it.

        `given` are the mounts that the overlay's `lower` names by number, among others; those that it names are closed.
        """
        # No mount that is made in this namespace may travel to the host; what the host mounts later may still reach `rslave` binds.
        mounts.set_propagation("/", mounts.MS_SLAVE | mounts.MS_REC)
        overlay = self._spec["teul"].get("rootfs")
        lower = [given[layer] if isinstance(layer, int) else layer for layer in overlay["lower"]] if overlay else []
        if overlay:
            self.fd = mount_overlay(lower, overlay["upper"], overlay["work"], self._path)
        else:
            self.fd = mounts.clone_tree(self._path, recursive=True)
            mounts.attach_at(self.fd, self._path)
        # security: without the marks of the overlay in between, and past the container's own files: nothing for a program to get at.
        for layer in lower:
            if isinstance(layer, int):
                os.close(layer)
        mounts.set_attributes(self.fd, propagation=mounts.MS_PRIVATE, recursive=True)

    def mount(self, mount: Mount, *, source_fd: int | None = None) -> None:
        """Carry out one entry of the spec's `mounts`; `source_fd` is a source that was cloned already."""
        options = MountOptions(mount.get("options") or [])
        destination = mount["destination"]
        kind = mount.get("type") or "bind"
        if kind == "bind" or options.bind:
            self._bind(mount["source"], destination, options, source_fd)
        elif kind == "cgroup":
            self._cgroup(destination, options)
        else:
            if source_fd is None:
                mount_fd = mounts.new_filesystem(kind, options.data, options.add, source=mount.get("source") or kind)
            else:
                mount_fd = source_fd
                mounts.set_attributes(mount_fd, add=options.add, clear=mounts.MOUNT_ATTR_RDONLY & ~options.add)
            _propagate(mount_fd, options)
            self._attach(mount_fd, destination, directory=True)
            if kind in _KERNEL_VIEWS:
                self._check_no_symlink(destination)
            if kind == "proc":
                self.proc_fd = os.dup(mount_fd)
            elif kind == "devpts":
                self._devpts = destination
            os.close(mount_fd)

    def make_devices(self) -> None:
        """Device nodes and the usual links in /dev. The umask must be 0.

        Not where /dev is a bind: whatever is made there would be made on the host.
        """
        if any(self._is_bind_of_dev(mount) for mount in self._spec.get("mounts") or []):
            return
        for device in self._spec["linux"].get("devices") or []:
            self._make_device(device)
        try:
            dev_fd = paths.open_in_root(self.fd, "/dev", os.O_PATH | os.O_DIRECTORY)
        except FileNotFoundError:
            return
        links = [*_LINKS]
        if self._devpts is not None:
            links.append(("pts/ptmx", "ptmx"))
        if os.path.exists("/proc/kcore"):
            links.append(("/proc/kcore", "core"))
        for target, name in links:
            try:
                os.symlink(target, name, dir_fd=dev_fd)
            except FileExistsError:
                continue  # the image has it, in a root without a fresh /dev
        os.close(dev_fd)

    @staticmethod
    def _is_bind_of_dev(mount: Mount) -> bool:
        is_bind = mount.get("type") in (None, "bind") or MountOptions(mount.get("options") or []).bind
        return is_bind and os.path.normpath(mount["destination"]) == "/dev"

    def bind_console(self, slave_fd: int) -> None:
        """Put the terminal at /dev/console."""
        console_fd = mounts.clone_tree("", dir_fd=slave_fd)
        self._attach(console_fd, "/dev/console", directory=False)
        os.close(console_fd)

    def hide(self) -> None:
        """Mask the spec's masked paths, and make its read-only paths read-only."""
        linux = self._spec["linux"]
        for path in linux.get("readonlyPaths") or []:
            self._make_readonly(path)
        for path in linux.get("maskedPaths") or []:
            self._mask(path)

    def enter(self) -> None:
        """Make it the process's root. Afterwards there is no way back to the host's files."""
        os.fchdir(self.fd)
        mounts.pivot_root_here()
        propagation = self._spec["linux"].get("rootfsPropagation")
        if propagation:
            # The root alone: every mount below it has what its own entry asked for.
            mounts.set_propagation("/", MountOptions([propagation]).propagation)

    def make_read_only(self) -> None:
        """Have the root read-only, if the spec says so: after everything that is made in it."""
        if self._spec["root"].get("readonly"):
            mounts.set_attributes(self.fd, add=mounts.MOUNT_ATTR_RDONLY)

    def write_sysctl(self, name: str, value: str) -> None:
        """Set one kernel parameter of the namespaces that were entered, before the root is.

        Through the container's own /proc, of which parts become read-only later; where a bind is there, through the host's, which shows who
        looks at it their own parameters just as well.
        """
        path = "/proc/sys/" + name.replace(".", "/")
        if self.proc_fd < 0:
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        else:
            fd = os.open(path.removeprefix("/proc/"), os.O_WRONLY | os.O_CLOEXEC, dir_fd=self.proc_fd)
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)

    def _check_no_symlink(self, destination: str) -> None:
        """security: a /proc that is mounted where the image's symlink points leaves "/proc" to the container (CVE-2019-16884, -19921)."""
        try:
            os.close(paths.open_in_root(self.fd, destination, os.O_PATH | os.O_DIRECTORY, symlinks=False))
        except OSError as error:
            raise OSError(error.errno, f"filesystem at `{destination}` must be mounted on an ordinary directory") from error

    def _attach(self, mount_fd: int, destination: str, *, directory: bool, follow: bool = True) -> None:
        path = os.path.normpath(destination)
        if path.startswith("/proc/") and path not in _COVERED_IN_PROC:
            raise _inside_proc(destination)
        if path == "/proc" and mounts.filesystem_type(mount_fd) != mounts.PROC_SUPER_MAGIC:
            raise OSError(errno.EINVAL, f'"{destination}" cannot be mounted because it is not of type proc')
        target_fd = paths.make_target_in_root(self.fd, destination, directory=directory, follow=follow)
        try:
            # security: a path that only leads there, by a symlink of the image, is found out by where it has led.
            if mounts.filesystem_type(target_fd) == mounts.PROC_SUPER_MAGIC and path not in _COVERED_IN_PROC:
                raise _inside_proc(destination)
            mounts.attach(mount_fd, target_fd, path=destination)
        finally:
            os.close(target_fd)

    def _bind(self, source: str, destination: str, options: MountOptions, source_fd: int | None) -> None:
        mount_fd = mounts.clone_tree(source, recursive=options.recursive) if source_fd is None else source_fd
        try:
            if options.add or options.clear:
                mounts.set_attributes(mount_fd, add=options.add, clear=options.clear, recursive=options.recursive_readonly)
            _propagate(mount_fd, options)
            self._attach(mount_fd, destination, directory=stat.S_ISDIR(os.fstat(mount_fd).st_mode), follow=options.follow)
        finally:
            os.close(mount_fd)

    def _cgroup(self, destination: str, options: MountOptions) -> None:
        """The container's own view of its cgroup: one mount on v2, a directory of v1 hierarchies otherwise."""
        hierarchies = _cgroup_v1_hierarchies()
        if not hierarchies:
            mount_fd = mounts.new_filesystem("cgroup2", options.data, options.add, source="cgroup")
            self._attach(mount_fd, destination, directory=True)
            os.close(mount_fd)
            return
        attributes = options.add & ~mounts.MOUNT_ATTR_RDONLY
        tmpfs_fd = mounts.new_filesystem("tmpfs", [("mode", "755")], attributes, source="tmpfs")
        self._attach(tmpfs_fd, destination, directory=True)
        for name, controllers in hierarchies:
            data: list[tuple[str, str | None]] = (
                [("none", None), ("name", controllers[0][5:])] if controllers[0].startswith("name=") else []
            )
            data = data or [(controller, None) for controller in controllers]
            mount_fd = mounts.new_filesystem("cgroup", data, options.add, source="cgroup")
            os.mkdir(name, 0o755, dir_fd=tmpfs_fd)
            target_fd = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=tmpfs_fd)
            mounts.attach(mount_fd, target_fd, path=f"{destination}/{name}")
            os.close(target_fd)
            os.close(mount_fd)
            for controller in controllers:
                if controller != name and len(controllers) > 1:
                    os.symlink(name, controller, dir_fd=tmpfs_fd)
        if options.add & mounts.MOUNT_ATTR_RDONLY:
            mounts.set_attributes(tmpfs_fd, add=mounts.MOUNT_ATTR_RDONLY)
        os.close(tmpfs_fd)

    def _make_device(self, device: Device) -> None:
        path = device["path"]
        parent_fd = paths.make_directories_in_root(self.fd, os.path.dirname(path))
        try:
            name = os.path.basename(path)
            mode = _DEVICE_KINDS[device["type"]] | (device.get("fileMode") or 0o666)
            number = os.makedev(device.get("major") or 0, device.get("minor") or 0)
            try:
                os.mknod(name, mode, number, dir_fd=parent_fd)
            except FileExistsError:
                return
            uid, gid = device.get("uid") or 0, device.get("gid") or 0
            if uid or gid:
                os.chown(name, uid, gid, dir_fd=parent_fd, follow_symlinks=False)
        finally:
            os.close(parent_fd)

    def _make_readonly(self, path: str) -> None:
        try:
            target_fd = paths.open_in_root(self.fd, path, os.O_PATH)
        except (FileNotFoundError, NotADirectoryError):
            return
        mount_fd = mounts.clone_tree("", dir_fd=target_fd, recursive=True)
        mounts.set_attributes(mount_fd, add=mounts.MOUNT_ATTR_RDONLY)
        mounts.attach(mount_fd, target_fd, path=path)
        os.close(mount_fd)
        os.close(target_fd)

    def _mask(self, path: str) -> None:
        try:
            target_fd = paths.open_in_root(self.fd, path, os.O_PATH)
        except (FileNotFoundError, NotADirectoryError):
            return
        if stat.S_ISDIR(os.fstat(target_fd).st_mode):
            mount_fd = mounts.new_filesystem("tmpfs", [], mounts.MOUNT_ATTR_RDONLY, source="tmpfs")
        else:
            mount_fd = self._clone_null()
        mounts.attach(mount_fd, target_fd, path=path)
        os.close(mount_fd)
        os.close(target_fd)

    def _clone_null(self) -> int:
        """A null device to mask files with. security: never the host's node writably, whose mode a container could change for all."""
        null_fd = os.open("/dev/null", os.O_PATH | os.O_CLOEXEC)
        try:
            own_fd = paths.open_in_root(self.fd, "/dev/null", os.O_PATH | os.O_NOFOLLOW, symlinks=False)
        except OSError:
            own_fd = -1  # the container has none
        try:
            ours = own_fd >= 0 and os.fstat(own_fd).st_rdev == os.makedev(1, 3)
            mount_fd = mounts.clone_tree("", dir_fd=own_fd if ours else null_fd)
        finally:
            os.close(null_fd)
            if own_fd >= 0:
                os.close(own_fd)
        if not ours:
            mounts.set_attributes(mount_fd, add=mounts.MOUNT_ATTR_RDONLY)
        return mount_fd


def _inside_proc(destination: str) -> OSError:
    return OSError(errno.EINVAL, f'"{destination}" cannot be mounted because it is inside /proc')


def _propagate(mount_fd: int, options: MountOptions) -> None:
    propagation = options.propagation or mounts.MS_PRIVATE
    mounts.set_attributes(mount_fd, propagation=propagation, recursive=options.recursive_propagation or not options.propagation)


def _cgroup_v1_hierarchies() -> list[tuple[str, list[str]]]:
    """(directory name, controllers) of each v1 hierarchy that this process is in; none on a pure v2 host."""
    hierarchies: list[tuple[str, list[str]]] = []
    with open("/proc/self/cgroup", encoding="ascii") as file:
        for line in file:
            controllers = line.split(":")[1]
            if controllers:
                name = controllers.removeprefix("name=")
                hierarchies.append((name, controllers.split(",")))
    return hierarchies
