"""User-mode Linux: Debian's kernel as a process of the host, up in seconds. One processor, cgroup v2, no nftables, no cpuset.

Usage: python tests/vm/uml.py [--deadline SECONDS] [--] COMMAND…
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from vm import small_xstate
from vm.machine import GUEST_PATH, Job, MachineMissing, contained, main

# Where the machine keeps no vector registers (vm/small_xstate.py) they are lost at every page fault: its first process, for a start, must
# do without them (guest.hide_vectors does it for all others).
_WITHOUT_VECTORS = "GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX2,-AVX,-AVX_Fast_Unaligned_Load"


class UserModeLinux:
    """Boots `linux.uml` with the host's root as hostfs."""

    kind = "uml"
    lacks = frozenset({"cgroup1", "dockerd", "docker_cli", "macvlan", "nft", "network"})

    def __init__(self, *, memory_megabytes: int = 1024, deadline_seconds: float = 240) -> None:
        self.memory_megabytes = memory_megabytes
        self.deadline_seconds = deadline_seconds

    def job(self, command: Sequence[str], job_path: str) -> Job:
        release = subprocess.run([self._kernel(), "--version"], capture_output=True, check=True, text=True).stdout.strip()
        return Job(
            kind=self.kind,
            command=list(command),
            modules_path=f"/usr/lib/uml/modules/{release}",
            modules=["bridge", "veth", "tun", "fuse"],
            results_type="hostfs",
            results_source="none",
            results_options=job_path,
            without_vectors=small_xstate.is_needed(),
        )

    @contextlib.contextmanager
    def boot(self, job_path: str, console_fd: int) -> Iterator[subprocess.Popen[bytes]]:
        arguments = [
            self._kernel(),
            f"mem={self.memory_megabytes}M",
            "root=/dev/root",
            "rootfstype=hostfs",
            "rootflags=/",
            "ro",
            "quiet",
            "panic=-1",
            # UML keeps its management socket and pid file here, not in ~/.uml.
            f"uml_dir={job_path}/",
            "con0=null,fd:1",
            "con=null",
            f"init={os.path.realpath(sys.executable)}",
            # What the kernel does not know becomes the environment of its first process.
            *([_WITHOUT_VECTORS] if small_xstate.is_needed() else []),
            "--",
            GUEST_PATH,
            job_path,
        ]
        if small_xstate.is_needed():
            arguments[:0] = [sys.executable, "-I", "-S", os.path.abspath(small_xstate.__file__)]
        with contained(arguments, writable_path=job_path, output_fd=console_fd) as process:
            yield process

    @staticmethod
    def _kernel() -> str:
        kernel = shutil.which("linux.uml")
        if kernel is None:
            raise MachineMissing("User-mode Linux is not installed: apt-get install user-mode-linux")
        return kernel


if __name__ == "__main__":
    sys.exit(main(UserModeLinux(), sys.argv[1:]))
