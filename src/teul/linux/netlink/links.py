"""The few exchanges with the kernel that make a container's network: its links, and their addresses and routes inside.

`prepare_inside`, `create_link` and `configure_inside` are on the path of every container start: one send with several messages,
of which only the last asks for an acknowledgement (the kernel answers in order, and reports a failure unasked). stdlib only.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import time

from teul.linux.netlink import messages
from teul.linux.netlink.socket import Netlink, os_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal, NotRequired, TypedDict

    class Plan(TypedDict):
        """One link of a container, JSON all through: a veth pair, or with a `kind` a link that is born of a `parent`, an interface."""

        host_name: str  # of the host's end; where there is none, a name for the time that the link's own may not be had
        bridge: str  # the bridge that the host's end becomes a port of
        mac: str  # of the container's end; "" for the kernel's choice
        mtu: int  # 0 for the parent's
        container_name: str  # of the container's end: eth0, eth1, …
        addresses: list[str]  # with prefix lengths: "172.17.0.2/16"
        gateway: str | None  # the default route's, None for none
        gateway6: str | None
        isolated: bool  # from the bridge's other ports that are isolated
        hairpin: bool  # what the container sends may come back to it: to a port of its own that is published on the host
        kind: NotRequired[Literal["macvlan", "ipvlan"]]
        parent: NotRequired[str]
        mode: NotRequired[str]  # as the kind has them, see `messages`
        flag: NotRequired[str]  # of ipvlan
        device_routes: NotRequired[list[int]]  # IP versions of which the link itself, without a gateway, is the default route
        sysctls: NotRequired[list[tuple[str, str]]]  # settings of the link, by their paths below /proc/sys
else:
    Plan = dict

_FORWARDING_SECONDS = 0.25
_PREDECESSOR_SECONDS = 2.0
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_LOOPBACK_INDEX = 1  # linux/net_namespace.h, LOOPBACK_IFINDEX


def prepare_inside(plans: Sequence[Plan]) -> None:
    """Right after the namespace was made, before `create_link`: links born in it get no IPv6 unless a plan has an IPv6 address.

    Docker's containers have IPv6 off on links without an address, too; without this a neighbour's router advertisement would
    configure one. Setting the default for links to come is cheap; switching a live link is not (`configure_inside` does it if need be).
    """
    if not any(_wants_ipv6(plan) for plan in plans):
        _write_sysctl("net/ipv6/conf/default/disable_ipv6", b"1")


def create_link(plan: Plan, netns_pid: int, host: Netlink, *, netns_fd: int = -1) -> None:
    """Make the container's link, of whichever kind: see `create_veth` and `create_child`. All or nothing. Raises `OSError`."""
    if "kind" in plan:
        create_child(plan, netns_pid, host, netns_fd=netns_fd)
    else:
        create_veth(plan, netns_pid, host, netns_fd=netns_fd)


def create_child(plan: Plan, netns_pid: int, host: Netlink, *, netns_fd: int = -1) -> None:
    """Make a link that is born of an interface of the host, down, in the container's namespace; the host sees nothing of it.

    Namespace and `host` are as of `create_veth`. Raises `OSError`.
    """
    # docker: the texts of libnetwork's drivers.
    parent = host.get_link(name=plan["parent"])
    if parent is None:
        raise OSError(errno.ENODEV, f"the requested parent interface {plan['parent']} was not found on the Docker host")
    name = plan["container_name"]
    # kernel: what says that somebody is alone on the parent already.
    taken = errno.EINVAL if plan["mode"] == "passthru" else 0
    try:
        try:
            _execute_patiently(host, [_new_child(plan, name, parent.ifindex, netns_pid, netns_fd)], name, taken)
        except FileExistsError:
            # kernel: before 6.15 the name must be free where the request is made, and there is an eth0 on most hosts.
            _execute_patiently(host, [_new_child(plan, plan["host_name"], parent.ifindex, netns_pid, netns_fd)], name, taken)
    except OSError as error:
        raise OSError(error.errno, f"failed to create the {plan['kind']} port: {error.strerror}") from error


def create_veth(plan: Plan, netns_pid: int, host: Netlink | None = None, *, netns_fd: int = -1) -> None:
    """Make the container's link: one end on the bridge and up, the other, down, in the namespace of process `netns_pid`.

    Runs in the host's namespace, or with a socket `host` that was opened there (`netns_pid` is counted in the caller's pid namespace).
    `netns_fd` names the namespace in place of the process. All or nothing. Raises `OSError`.
    """
    if host is None:
        with Netlink() as opened:
            create_veth(plan, netns_pid, opened, netns_fd=netns_fd)
        return
    name = plan["host_name"]
    bridge = host.get_link(name=plan["bridge"])
    if bridge is None:
        raise os_error(errno.ENODEV, "", messages.get_link(), plan["bridge"])
    requests = [
        messages.new_veth(
            name=name,
            mtu=plan["mtu"],
            peer_name=plan["container_name"],
            peer_mac=plan["mac"],
            peer_netns_pid=netns_pid,
            peer_netns_fd=netns_fd,
        ),
        messages.set_link(name=name, is_up=True, master=bridge.ifindex),
    ]
    if _has_ipv6():
        # Before the link is up, or its link-local address is on its way already.
        requests.insert(1, messages.set_no_link_local(name=name))
    if plan.get("isolated"):
        requests.append(messages.set_isolated(name=name))
    if plan.get("hairpin"):
        # kernel: br_netfilter, where it is on (as for Docker), sends back what address translation has led to the same bridge by itself.
        requests.append(messages.set_hairpin(name=name))
    try:
        host.execute(*requests, subject=name)
    except OSError as error:
        # EEXIST: the link is somebody else's. After any other failure a link of this name is the one made here.
        if error.errno != errno.EEXIST:
            _delete_quietly(host, name, error)
        raise


def configure_inside(plans: Sequence[Plan], host: Netlink | None = None) -> None:
    """In the container's namespace: loopback up, each link's addresses, the link up, default routes. In the order of `plans`.

    With `host`, a socket opened in the host's namespace, this also waits until the bridges forward what the links send. Without, a
    program that is quick to connect (within a millisecond or so) may lose its first ARP request and wait a second for the next.
    """
    requests = [messages.set_link(index=_LOOPBACK_INDEX, is_up=True)]
    for plan in plans:
        name = plan["container_name"]
        index = _settle_child(plan) if "kind" in plan else socket.if_nametoindex(name)
        _ensure_ipv6(name, is_on=_wants_ipv6(plan))
        if "kind" in plan:
            _enable_child(plan, index)
        else:
            requests += _enabling(plan, index)
        # After the link is up, for only then is the gateway within reach.
        requests += [messages.new_default_route(link_index=index, gateway=gateway) for gateway in _gateways(plan)]
        for version in plan.get("device_routes", ()):
            requests.append(messages.new_default_route(link_index=index, gateway="", family=_FAMILIES[version]))
    with Netlink() as inside:
        inside.execute(*requests, subject=", ".join(plan["container_name"] for plan in plans))
    for plan in plans:
        for name, value in plan.get("sysctls", ()):
            _apply_sysctl(name, value)
    if host is not None:
        for plan in plans:
            if "kind" not in plan:
                await_forwarding(plan, host)


def delete_inside(name: str) -> None:
    """In the container's namespace: delete a link that has no end elsewhere, by its name. Idempotent. Raises `OSError`."""
    with Netlink() as inside:
        try:
            inside.execute(messages.delete_link(name=name), subject=name)
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise


def set_default_routes(gateways: dict[int, tuple[str, str]]) -> None:
    """In the container's namespace: make these the ways out, by IP version: the link's name and the gateway's address ("" for none).

    Raises `OSError`. A default route of a version that is not given is left as it is: the kernel took it away with its link.
    """
    requests = [
        messages.new_default_route(link_index=socket.if_nametoindex(name), gateway=gateway, family=_FAMILIES[version], replaces=True)
        for version, (name, gateway) in gateways.items()
    ]
    if requests:
        with Netlink() as inside:
            inside.execute(*requests, subject=", ".join(name for name, _gateway in gateways.values()))


def await_forwarding(plan: Plan, host: Netlink) -> None:
    """Wait until the bridge's port forwards and the bridge itself sends; give up silently after a quarter of a second.

    A link's carrier comes up when its second end does, but the bridge hears of it from a kernel worker that queues for the RTNL lock.
    Until then the port drops everything. kernel: from 6.8 on RTM_GETLINK does that work at once, so the first question is the
    last; before 6.8 the question has to be repeated.
    """
    deadline = time.monotonic() + _FORWARDING_SECONDS
    while True:
        port = host.get_link(name=plan["host_name"])
        bridge = host.get_link(name=plan["bridge"])
        if port is None or bridge is None or (port.port_forwarding and bridge.has_carrier) or time.monotonic() > deadline:
            return
        time.sleep(0.0005)


def set_loopback_up() -> None:
    """Bring `lo` up in the caller's namespace; the kernel gives it its addresses."""
    with Netlink() as inside:
        inside.execute(messages.set_link(index=_LOOPBACK_INDEX, is_up=True), subject="lo")


def _new_child(plan: Plan, name: str, parent: int, netns_pid: int, netns_fd: int) -> messages.Message:
    if plan["kind"] == "macvlan":
        return messages.new_macvlan(
            name=name, parent=parent, mode=plan["mode"], mac=plan["mac"], mtu=plan["mtu"], netns_pid=netns_pid, netns_fd=netns_fd
        )
    return messages.new_ipvlan(
        name=name, parent=parent, mode=plan["mode"], flag=plan["flag"], mtu=plan["mtu"], netns_pid=netns_pid, netns_fd=netns_fd
    )


def _settle_child(plan: Plan) -> int:
    """Give a link what it could not be born with, and return its index."""
    name, mac = plan["container_name"], plan["mac"] if plan["mode"] == "passthru" else ""
    with Netlink() as inside:
        link = inside.get_link(name=name) or inside.get_link(name=plan["host_name"])
        if link is None:
            raise os_error(errno.ENODEV, "", messages.get_link(), name)
        if link.name != name or (mac and link.mac != mac):
            inside.execute(messages.set_identity(index=link.ifindex, name="" if link.name == name else name, mac=mac), subject=name)
    return link.ifindex


def _enable_child(plan: Plan, index: int) -> None:
    with Netlink() as inside:
        _execute_patiently(inside, _enabling(plan, index), plan["container_name"], errno.EADDRINUSE)


def _execute_patiently(netlink: Netlink, requests: list[messages.Message], name: str, taken: int) -> None:
    """Repeat requests that may be repeated, as long as they fail with errno `taken`, for a while.

    A container that is started again has the addresses of its last run, or the parent for itself, and the kernel may not have taken down
    that run's link: it does so in the background.
    """
    deadline = time.monotonic() + _PREDECESSOR_SECONDS
    while True:
        try:
            netlink.execute(*requests, subject=name)
        except OSError as error:
            if error.errno != taken or time.monotonic() > deadline:
                raise
        else:
            return
        time.sleep(0.002)


def _enabling(plan: Plan, index: int) -> list[messages.Message]:
    requests = []
    for text in plan["addresses"]:
        address, _, length = text.partition("/")
        requests.append(messages.new_address(link_index=index, address=address, prefix_length=int(length)))
    return [*requests, messages.set_link(index=index, is_up=True)]


def _gateways(plan: Plan) -> list[str]:
    return [gateway for gateway in (plan["gateway"], plan["gateway6"]) if gateway]


def _wants_ipv6(plan: Plan) -> bool:
    return any(":" in address for address in plan["addresses"])


def _has_ipv6() -> bool:
    # On a kernel booted with ipv6.disable=1 the directory is missing, and so is the address family.
    return os.access("/proc/sys/net/ipv6/conf", os.F_OK)


def _ensure_ipv6(link: str, *, is_on: bool) -> None:
    wanted = b"0" if is_on else b"1"
    name = f"net/ipv6/conf/{link}/disable_ipv6"
    try:
        fd = os.open(f"/proc/sys/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        is_as_wanted = os.read(fd, 8).strip() == wanted
    finally:
        os.close(fd)
    if not is_as_wanted:
        _write_sysctl(name, wanted)


def _write_sysctl(name: str, value: bytes) -> None:
    """Write a setting of the caller's namespace; nothing happens if this kernel lacks it, for then the feature is off already."""
    try:
        fd = os.open(f"/proc/sys/{name}", os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.write(fd, value)
    finally:
        os.close(fd)


def _apply_sysctl(name: str, value: str) -> None:
    """Give a link's setting this value; nothing is written where it has it. docker: the texts of libnetwork's osl. Raises `OSError`."""
    path = f"/proc/sys/{name}"
    try:
        is_file = stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        is_file = False
    if not is_file:
        raise OSError(f"{path} is not a sysctl file")
    try:
        with open(path, encoding="utf-8") as file:
            found = file.read().strip()
    except OSError as error:
        raise OSError(f"unable to read '{path}': {error.strerror}") from error
    if found != value:
        try:
            _write_sysctl(name, value.encode())
        except OSError as error:
            raise OSError(f"unable to write to '{path}': {error.strerror}") from error


def _delete_quietly(host: Netlink, name: str, error: OSError) -> None:
    try:
        host.execute(messages.delete_link(name=name), subject=name)
    except OSError as second:
        if second.errno != errno.ENODEV:
            error.add_note(f"and its removal failed: {second}")
