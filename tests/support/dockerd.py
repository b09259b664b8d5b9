"""A private dockerd (Debian's docker.io) to compare with, in a mount namespace of its own so that its mounts vanish with it.

By default it also has its own network namespace: nothing on the host changes. With `shared_network` it works in the host's, as on
a user's machine that has Docker installed too; then its bridge and its iptables rules are removed afterwards, by name.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
from functools import partial
from pathlib import Path

from support import processes
from support.docker_host import DockerHost
from support.polling import eventually

_BRIDGE = "docker0"
_CGROUPS = Path("/sys/fs/cgroup")
_PARAMETERS = ("/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv4/conf/all/route_localnet")


def is_installed() -> bool:
    return shutil.which("dockerd") is not None and shutil.which("containerd") is not None


class Dockerd(DockerHost):
    """dockerd and the containerd that it starts."""

    name = "dockerd"

    def __init__(self, *, shared_network: bool = False, extra: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.shared_network = shared_network
        self._extra = extra
        self.cgroup_parent = f"judged-dockerd-{secrets.token_hex(4)}"
        self._tables_before = _nft_tables() if shared_network else set()
        self._parameters_before = {path: Path(path).read_text() for path in _PARAMETERS} if shared_network else {}
        if shared_network and Path("/sys/class/net", _BRIDGE).exists():
            raise RuntimeError(f"{_BRIDGE} exists: another dockerd works in this network namespace")

    def command(self) -> list[str]:
        daemon = [
            "dockerd",
            *("--data-root", str(self.base / "data"), "--exec-root", str(self.base / "exec")),
            *("--pidfile", str(self.base / "pid"), "-H", f"unix://{self.socket_path}"),
            *("--bip", "172.30.0.1/16", "--cgroup-parent", f"/{self.cgroup_parent}", "--log-level", "warn"),
            *self._extra,
        ]
        # /run and /etc/docker are hidden: dockerd writes a key, plugin directories and lock files there.
        script = (
            'mount -t tmpfs tmpfs /run && { [ ! -d /etc/docker ] || mount -t tmpfs tmpfs /etc/docker; } && ip link set lo up && exec "$@"'
        )
        network = [] if self.shared_network else ["--net"]
        return ["unshare", "--mount", *network, "--propagation", "private", "--", "sh", "-c", script, "sh", *daemon]

    def engine_processes(self) -> list[int]:
        """dockerd, containerd and the shims, without the containers' own processes."""
        return [pid for pid in processes.mentioning(str(self.base)) if processes.command_line(pid).split(" ")[0].endswith(_PROGRAMS)]

    def sweep(self) -> None:
        processes.end(self.engine_processes())
        self._remove_cgroups()
        if self.shared_network:
            self._remove_network()

    def _remove_cgroups(self) -> None:
        for parent in [*_CGROUPS.glob(f"*/{self.cgroup_parent}"), *_CGROUPS.glob(self.cgroup_parent)]:
            for directory, _, _ in os.walk(parent, topdown=False):
                processes.end([int(line) for line in Path(directory, "cgroup.procs").read_text().split() if int(line)])
                eventually(partial(_try_remove, directory), f"cgroup {directory} is empty")

    def _remove_network(self) -> None:
        subprocess.run(["ip", "link", "delete", _BRIDGE], check=False, capture_output=True)
        for name in ("ip", "ip6"):
            for table in ("filter", "nat", "raw"):
                if (name, table) in _nft_tables() - self._tables_before:
                    subprocess.run(["nft", "delete", "table", name, table], check=True)
                else:
                    _remove_docker_chains("iptables" if name == "ip" else "ip6tables", table)
        for path, value in self._parameters_before.items():
            Path(path).write_text(value)


_PROGRAMS = ("dockerd", "containerd", "containerd-shim-runc-v2", "containerd-shim", "docker-proxy")


def _nft_tables() -> set[tuple[str, str]]:
    listing = subprocess.run(["nft", "-j", "list", "tables"], check=True, capture_output=True).stdout
    return {(item["table"]["family"], item["table"]["name"]) for item in json.loads(listing)["nftables"] if "table" in item}


def _remove_docker_chains(program: str, table: str) -> None:
    """Delete Docker's chains and every rule that leads to them from a table that was there before dockerd came."""
    saved = subprocess.run([f"{program}-save", "-t", table], check=False, capture_output=True, text=True).stdout
    lines = saved.splitlines()
    chains = [line[1:].split()[0] for line in lines if line.startswith(":DOCKER")]
    if not chains:
        return
    for line in lines:
        if line.startswith("-A ") and (f"-j {chains[0]}" in line or " -j DOCKER" in line or _BRIDGE in line):
            subprocess.run([program, "-t", table, "-D", *line.split()[1:]], check=False, capture_output=True)
    for chain in chains:
        subprocess.run([program, "-t", table, "-F", chain], check=False, capture_output=True)
    for chain in chains:
        subprocess.run([program, "-t", table, "-X", chain], check=False, capture_output=True)
    if table == "filter":
        # docker: dockerd sets this policy when it turns forwarding on, and never takes it back.
        subprocess.run([program, "-P", "FORWARD", "ACCEPT"], check=False, capture_output=True)


def _try_remove(directory: str) -> bool:
    with contextlib.suppress(FileNotFoundError):
        try:
            os.rmdir(directory)
        except OSError:
            return False
    return True
