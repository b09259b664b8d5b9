"""A minimal initramfs: busybox, the modules that the root needs, and the script that mounts the root and hands over to the guest."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from teul.wire.elf import parse_elf
from vm.guest import read_dependencies
from vm.machine import MachineMissing

INIT = """#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
for module in $(/bin/busybox cat /modules/order); do
    /bin/busybox insmod /modules/$module
done
for word in $(/bin/busybox cat /proc/cmdline); do
    case $word in
        teul.init=*) init=${word#*=} ;;
        teul.guest=*) guest=${word#*=} ;;
        teul.job=*) job=${word#*=} ;;
    esac
done
/bin/busybox umount /proc
/bin/busybox mount -t virtiofs -o ro root /root
/bin/busybox mount -t devtmpfs devtmpfs /root/dev
exec /bin/busybox switch_root /root $init $guest $job
"""


def build_initramfs(path: str, *, modules_path: str, modules: Sequence[str]) -> None:
    """Write the archive to `path`; `modules` are loaded in their order, each after what it depends on. Raises MachineMissing."""
    dependencies = read_dependencies(modules_path)
    files = list(dict.fromkeys(file for name in modules for file in dependencies.get(name, [])))
    busybox = _read("/bin/busybox")
    if parse_elf(busybox).interpreter is not None:
        raise MachineMissing("/bin/busybox is not static: apt-get install busybox-static")
    with open(path, "wb") as archive:
        archive.writelines(_entry(directory, stat.S_IFDIR | 0o755) for directory in ("bin", "dev", "proc", "root", "modules"))
        archive.write(_entry("init", stat.S_IFREG | 0o755, INIT.encode()))
        archive.write(_entry("bin/busybox", stat.S_IFREG | 0o755, busybox))
        archive.write(_entry("modules/order", stat.S_IFREG | 0o644, "\n".join(map(os.path.basename, files)).encode()))
        archive.writelines(
            _entry(f"modules/{os.path.basename(file)}", stat.S_IFREG | 0o644, _read(os.path.join(modules_path, file))) for file in files
        )
        archive.write(_entry("TRAILER!!!", 0))


def _entry(name: str, mode: int, data: bytes = b"") -> bytes:
    """One entry of a cpio archive in the "newc" format (kernel Documentation/driver-api/early-userspace/buffer-format.rst)."""
    encoded = name.encode() + b"\0"
    # c_ino, c_mode, c_uid, c_gid, c_nlink, c_mtime, c_filesize, c_maj, c_min, c_rmaj, c_rmin, c_namesize, c_chksum
    fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
    header = b"070701" + b"".join(b"%08x" % field for field in fields) + encoded
    return _padded(header) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
