"""The counters of a network namespace's interfaces, as /proc tells them to anybody who sees a process in it."""

from __future__ import annotations

import os

from teul.linux.cgroups import files

# kernel: interfaces that some modules put into every namespace by themselves (net/ipv4/ip_tunnel.c, fb_tunnels_only_for_init_net).
_EVERYWHERE = frozenset(("lo", "tunl0", "sit0", "ip6tnl0", "gre0", "gretap0", "erspan0", "ip6gre0", "ip_vti0", "ip6_vti0", "teql0"))
_COUNTERS = ("bytes", "packets", "errors", "dropped")
_FIELDS = 8  # receiving; as many follow for sending (proc_pid_net(5), /proc/net/dev)


def read_interfaces(pid: int) -> dict[str, dict[str, int]] | None:
    """`rx_bytes`, `tx_dropped` … by interface, in the network namespace of process `pid`; None if that is the caller's own.

    The loopback interface, and the tunnels that the kernel puts into every namespace, are left out. Raises `OSError`.
    """
    if os.readlink(f"/proc/{pid}/ns/net") == os.readlink("/proc/self/ns/net"):
        return None
    return parse_interfaces(files.read(f"/proc/{pid}/net/dev"))


def parse_interfaces(text: str) -> dict[str, dict[str, int]]:
    """/proc/net/dev without its two lines of headings. Pure."""
    interfaces: dict[str, dict[str, int]] = {}
    for line in text.splitlines()[2:]:
        name, _, rest = line.rpartition(":")
        name, numbers = name.strip(), [int(field) for field in rest.split()]
        if name in _EVERYWHERE or len(numbers) < _FIELDS + len(_COUNTERS):
            continue
        received = {f"rx_{counter}": number for counter, number in zip(_COUNTERS, numbers, strict=False)}
        sent = {f"tx_{counter}": number for counter, number in zip(_COUNTERS, numbers[_FIELDS:], strict=False)}
        interfaces[name] = received | sent
    return interfaces
