"""The namespaces of a container, and the kernel parameters that are set in them. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from teul.errors import Conflict, InvalidParameter, System, TeulError
from teul.model.container import Container
from teul.model.host_config import HostConfig
from teul.oci.runtime_spec import Namespace, NamespaceKind
from teul.services.containers.request.network import has_own_network
from teul.services.containers.request.security import normal_sysctl
from teul.services.host import HostFacts

_NETWORK_SYSCTLS = {"net.ipv4.ping_group_range": "0 2147483647", "net.ipv4.ip_unprivileged_port_start": "0"}

_FILES: dict[NamespaceKind, str] = {"network": "net", "pid": "pid", "ipc": "ipc"}  # in /proc/PID/ns


def namespace_donors(host_config: HostConfig) -> dict[NamespaceKind, str]:
    """The containers whose namespaces `host_config` joins, by namespace ("network", "pid", "ipc")."""
    modes: dict[NamespaceKind, str] = {"network": host_config.network_mode, "pid": host_config.pid_mode, "ipc": host_config.ipc_mode}
    donors = {name: mode.partition(":")[2] for name, mode in modes.items() if mode.startswith("container:")}
    return {name: donor for name, donor in donors.items() if donor}


def donor_problem(kind: NamespaceKind, donor: Container, container: Container) -> TeulError | None:
    """Why `container`, which is about to start, cannot join this namespace of `donor`'s.

    docker: daemon/container_operations.go, getNetworkedContainer; container_operations_unix.go, getIPCContainer and getPIDContainer.
    """
    if kind == "network":
        if donor.id == container.id:
            return System("cannot join own network namespace")
        state = f"container {donor.name} is {donor.state.status}"
        return None if donor.state.has_process else Conflict(f"cannot join network namespace of a non running container: {state}")
    failed = f"failed to join {kind.upper()} namespace: container {donor.id}"
    if not donor.state.has_process:
        return Conflict(f"{failed} is not running") if kind == "ipc" else System(f"{failed} is not running")
    if kind == "ipc" and donor.host_config.ipc_mode != "shareable" and not donor.host_config.ipc_mode.startswith("container:"):
        return InvalidParameter(f"{failed}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)")
    return None


def build_namespaces(host_config: HostConfig, donor_pids: Mapping[NamespaceKind, int]) -> list[Namespace]:
    """The namespaces that the container gets for itself, and those of donors that it joins, in the order of the spec."""
    wanted: dict[str, bool] = {
        "mount": True,
        "network": host_config.network_mode != "host",
        "uts": host_config.uts_mode != "host",
        "pid": host_config.pid_mode != "host",
        "ipc": host_config.ipc_mode != "host",
        "cgroup": host_config.cgroupns_mode != "host",
    }
    joined: dict[str, str] = {kind: f"/proc/{pid}/ns/{_FILES[kind]}" for kind, pid in donor_pids.items()}
    namespaces: list[Namespace] = []
    for kind, is_wanted in wanted.items():
        if kind in joined:
            namespaces.append({"type": kind, "path": joined[kind]})
        elif is_wanted:
            namespaces.append({"type": kind})
    return namespaces


def build_sysctls(host_config: HostConfig, host: HostFacts) -> dict[str, str]:
    """Kernel parameters of the container's own namespaces: Docker's defaults for its network, and those that the client set."""
    unwritable = {"net.ipv4.ping_group_range"} if host.in_user_namespace else set()
    # kernel: group ids that a user namespace does not map cannot be written.
    known = host.sysctls - unwritable if has_own_network(host_config) else frozenset()
    sysctls = {name: value for name, value in _NETWORK_SYSCTLS.items() if name in known}
    return sysctls | {normal_sysctl(name): value for name, value in (host_config.sysctls or {}).items()}
