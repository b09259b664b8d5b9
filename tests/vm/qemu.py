"""QEMU: Debian's cloud kernel on emulated hardware, slow and complete: two processors, nftables, user networking, cgroup v2.

Usage: python tests/vm/qemu.py [--deadline SECONDS] [--] COMMAND…

The kernel package is fetched with apt-get and unpacked into the cache, never installed. The root is shared by virtiofs, since that
kernel has no 9p.
"""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from vm.initramfs import build_initramfs
from vm.machine import GUEST_PATH, PROJECT_PATH, Job, MachineFailed, MachineMissing, contained, main

KERNEL_METAPACKAGE = "linux-image-cloud-amd64"
CACHE_PATH = os.path.join(PROJECT_PATH, ".cache", "vm")
BOOT_MODULES = ("virtio_pci", "virtiofs")
MODULES = (
    "virtio_net",
    "tun",
    "loop",
    "fuse",
    "bridge",
    "veth",
    "macvlan",
    "ipvlan",
    "dummy",
    "8021q",
    "br_netfilter",
    "nf_tables",
    "nft_nat",
    "nft_masq",
    "nft_ct",
    "nft_chain_nat",
)


class Qemu:
    """Boots the cloud kernel under TCG with the host's root as virtiofs."""

    kind = "qemu"
    lacks = frozenset({"cgroup1", "dockerd", "docker_cli"})

    def __init__(self, *, memory_megabytes: int = 2048, deadline_seconds: float = 900) -> None:
        self.memory_megabytes = memory_megabytes
        self.deadline_seconds = deadline_seconds

    def job(self, command: Sequence[str], job_path: str) -> Job:
        for program, package in (
            ("qemu-system-x86_64", "qemu-system-x86"),
            ("depmod", "kmod"),
            ("busybox", "busybox-static"),
            ("ip", "iproute2"),
        ):
            if shutil.which(program) is None:
                raise MachineMissing(f"{program} is not installed: apt-get install {package}")
        return Job(
            kind=self.kind,
            command=list(command),
            modules_path=_modules_path(_ensure_kernel()),
            modules=MODULES,
            results_type="virtiofs",
            results_source="results",
            results_options="",
            # The addresses of QEMU's user network are fixed.
            network_commands=[
                ["ip", "address", "add", "10.0.2.15/24", "dev", "eth0"],
                ["ip", "link", "set", "eth0", "up"],
                ["ip", "route", "add", "default", "via", "10.0.2.2"],
            ],
        )

    @contextlib.contextmanager
    def boot(self, job_path: str, console_fd: int) -> Iterator[subprocess.Popen[bytes]]:
        kernel_path = _ensure_kernel()
        build_initramfs(f"{job_path}/initramfs", modules_path=_modules_path(kernel_path), modules=BOOT_MODULES)
        with contextlib.ExitStack() as stack:
            for tag, shared_path in (("root", "/"), ("results", job_path)):
                daemon = [_virtiofsd(), "-f", f"--socket-path={job_path}/{tag}.sock", "-o", f"source={shared_path}", "-o", "sandbox=chroot"]
                stack.enter_context(contained(daemon, writable_path=job_path, output_fd=console_fd))
            for tag in ("root", "results"):
                _wait_for(f"{job_path}/{tag}.sock")
            command = self._command(job_path, kernel_path)
            yield stack.enter_context(contained(command, writable_path=job_path, output_fd=console_fd))

    def _command(self, job_path: str, kernel_path: str) -> list[str]:
        (kernel,) = glob.glob(f"{kernel_path}/boot/vmlinuz-*")
        init = f"teul.init={os.path.realpath(sys.executable)} teul.guest={GUEST_PATH} teul.job={job_path}"
        return [
            "qemu-system-x86_64",
            *("-nodefaults", "-no-user-config", "-nographic", "-no-reboot"),
            *("-accel", "tcg,thread=multi", "-cpu", "Nehalem", "-smp", "2", "-m", f"{self.memory_megabytes}M"),
            # virtiofs reads the guest's memory from the other process.
            *("-object", f"memory-backend-memfd,id=memory,size={self.memory_megabytes}M,share=on", "-machine", "q35,memory-backend=memory"),
            *("-kernel", kernel, "-initrd", f"{job_path}/initramfs"),
            *("-append", f"console=ttyS0 quiet panic=-1 net.ifnames=0 {init}"),
            *("-serial", "stdio"),
            *_shared_directory(job_path, "root"),
            *_shared_directory(job_path, "results"),
            # restrict: what a test sends stays in the machine.
            *("-netdev", "user,id=net,restrict=on", "-device", "virtio-net-pci,netdev=net,romfile="),
        ]


def _shared_directory(job_path: str, tag: str) -> list[str]:
    return ["-chardev", f"socket,id={tag},path={job_path}/{tag}.sock", "-device", f"vhost-user-fs-pci,chardev={tag},tag={tag}"]


def _wait_for(path: str) -> None:
    deadline = time.monotonic() + 10
    while not os.path.exists(path):
        if time.monotonic() > deadline:
            raise MachineFailed(f"virtiofsd did not start: {path} does not appear")
        time.sleep(0.02)


def _virtiofsd() -> str:
    for path in ("/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd"):
        if os.access(path, os.X_OK):
            return path
    raise MachineMissing("virtiofsd is not installed: apt-get install qemu-system-common (Debian 12) or virtiofsd (later)")


def _modules_path(kernel_path: str) -> str:
    (path,) = glob.glob(f"{kernel_path}/lib/modules/*")
    return path


def _ensure_kernel() -> str:
    """The unpacked kernel package of the newest version that apt knows, fetched when the cache does not have it."""
    depends = subprocess.run(["apt-cache", "depends", KERNEL_METAPACKAGE], capture_output=True, check=True, text=True).stdout
    package = next((line.split()[-1] for line in depends.splitlines() if "Depends: linux-image-" in line), None)
    if package is None:
        raise MachineMissing(f"apt knows no {KERNEL_METAPACKAGE}: apt-get update")
    kernel_path = os.path.join(CACHE_PATH, package)
    if os.path.isdir(kernel_path):
        return kernel_path
    unfinished_path = f"{kernel_path}.unfinished"
    shutil.rmtree(unfinished_path, ignore_errors=True)
    os.makedirs(unfinished_path)
    subprocess.run(
        ["apt-get", "-q", "download", package], cwd=unfinished_path, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    (archive,) = glob.glob(f"{unfinished_path}/*.deb")
    subprocess.run(["dpkg-deb", "-x", archive, unfinished_path], check=True)
    os.unlink(archive)
    release = package.removeprefix("linux-image-")
    # The package leaves this to its installation.
    subprocess.run(["depmod", "--basedir", unfinished_path, release], check=True)
    os.rename(unfinished_path, kernel_path)
    return kernel_path


if __name__ == "__main__":
    sys.exit(main(Qemu(), sys.argv[1:]))
