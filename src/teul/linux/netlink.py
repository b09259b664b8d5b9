"""The routing netlink socket, and the few exchanges that make a container's network.

`prepare_inside`, `create_veth` and `configure_inside` are on the path of every container start: one send with several messages,
of which only the last asks for an acknowledgement (the kernel answers in order, and reports a failure unasked). stdlib only.

A plan is a dict: `host_name`, `bridge`, `mac`, `mtu`, `container_name`, `addresses` (["172.17.0.2/16"]), `gateway` and
`gateway6` (None for none).
"""

from __future__ import annotations

import errno
import os
import socket
import time
from types import TracebackType
from typing import Any

from teul.linux import netlink_messages as messages
from teul.linux.netlink_messages import Link, Message, Prefix

Plan = dict[str, Any]

# linux/netlink.h
_SOL_NETLINK = 270
_NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK = 10, 11, 12

_RECEIVE_BYTES = 64 * 1024
_DUMP_ATTEMPTS = 10
_FORWARDING_SECONDS = 0.25
_LOOPBACK_INDEX = 1  # linux/net_namespace.h, LOOPBACK_IFINDEX


class Netlink:
    """An rtnetlink socket in the network namespace of the thread that opens it, and it stays there. Not for several threads at once."""

    __slots__ = ("_sequence", "_socket")

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK):
            self._socket.setsockopt(_SOL_NETLINK, option, 1)
        self._sequence = 0

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket; doing it twice is harmless."""
        self._socket.close()

    def execute(self, *requests: Message, subject: str) -> None:
        """Carry out `requests` in order; `subject` is what they are about, for the error's text.

        Raises `OSError` with the first failure, in the kernel's own words where it has some. The kernel goes on with later requests
        after a failed one: order them so that they then fail too, or undo.
        """
        first = self._sequence + 1
        last = self._sequence = self._sequence + len(requests)
        self._socket.send(
            b"".join(messages.encode(request, first + i, acknowledge=first + i == last) for i, request in enumerate(requests))
        )
        failure: OSError | None = None
        while True:
            for reply in messages.iter_replies(self._socket.recv(_RECEIVE_BYTES)):
                if reply.kind != messages.NLMSG_ERROR or not first <= reply.sequence <= last:
                    continue
                number, explanation = messages.parse_error(reply)
                if number and failure is None:
                    failure = _failure(number, explanation, requests[reply.sequence - first], subject)
                if reply.sequence == last:
                    if failure is not None:
                        raise failure
                    return

    def get(self, request: Message, *, subject: str) -> bytes:
        """Ask for one object and return its body. Raises `OSError` (ENODEV if there is none)."""
        sequence = self._sequence = self._sequence + 1
        self._socket.send(messages.encode(request, sequence))
        while True:
            for reply in messages.iter_replies(self._socket.recv(_RECEIVE_BYTES)):
                if reply.sequence != sequence:
                    continue
                if reply.kind != messages.NLMSG_ERROR:
                    return reply.body
                raise _failure(*messages.parse_error(reply), request, subject)

    def dump(self, request: Message) -> list[bytes]:
        """Ask for all objects of a kind. A list that changed while it was read is read again."""
        for _attempt in range(_DUMP_ATTEMPTS):
            bodies = self._dump_once(request)
            if bodies is not None:
                return bodies
        raise _failure(errno.EAGAIN, "the list kept changing", request, "dump")

    def get_link(self, *, index: int = 0, name: str = "") -> Link | None:
        """The link, or None."""
        try:
            return messages.parse_link(self.get(messages.get_link(index=index, name=name), subject=name or str(index)))
        except OSError as error:
            if error.errno == errno.ENODEV:
                return None
            raise

    def list_links(self, *, master: int = 0) -> list[Link]:
        """All links, or the ports of bridge `master`."""
        links = [messages.parse_link(body) for body in self.dump(messages.dump_links(master=master))]
        return [link for link in links if not master or link.master == master]

    def list_addresses(self) -> list[Prefix]:
        """Every address of every link."""
        return [messages.parse_address(body) for body in self.dump(messages.dump_addresses())]

    def list_routes(self) -> list[Prefix]:
        """Every unicast route, default routes included."""
        return [route for route in map(messages.parse_route, self.dump(messages.dump_routes())) if route is not None]

    def _dump_once(self, request: Message) -> list[bytes] | None:
        sequence = self._sequence = self._sequence + 1
        self._socket.send(messages.encode(request, sequence))
        bodies: list[bytes] = []
        interrupted = False
        while True:
            for reply in messages.iter_replies(self._socket.recv(_RECEIVE_BYTES)):
                if reply.sequence != sequence:
                    continue
                interrupted = interrupted or bool(reply.flags & messages.NLM_F_DUMP_INTR)
                if reply.kind in {messages.NLMSG_DONE, messages.NLMSG_ERROR}:
                    number, explanation = messages.parse_error(reply)
                    if number:
                        raise _failure(number, explanation, request, "dump")
                    return None if interrupted else bodies
                bodies.append(reply.body)


def prepare_inside(plan: Plan) -> None:
    """Right after the namespace was made, before `create_veth`: links born in it get no IPv6 unless the plan has an address for them.

    Docker's containers have IPv6 off on links without an address, too; without this a neighbour's router advertisement would
    configure one. Setting the default for links to come is cheap; switching a live link is not (`configure_inside` does it if need be).
    """
    if not _wants_ipv6(plan):
        _write_sysctl("net/ipv6/conf/default/disable_ipv6", b"1")


def create_veth(plan: Plan, netns_pid: int, host: Netlink | None = None) -> None:
    """Make the container's link: one end on the bridge and up, the other, down, in the namespace of process `netns_pid`.

    Runs in the host's namespace, or with a socket `host` that was opened there (`netns_pid` is counted in the caller's pid namespace).
    All or nothing. Raises `OSError`.
    """
    if host is None:
        with Netlink() as opened:
            create_veth(plan, netns_pid, opened)
        return
    name = plan["host_name"]
    bridge = host.get_link(name=plan["bridge"])
    if bridge is None:
        raise _failure(errno.ENODEV, "", messages.get_link(), plan["bridge"])
    requests = [
        messages.new_veth(name=name, mtu=plan["mtu"], peer_name=plan["container_name"], peer_mac=plan["mac"], peer_netns_pid=netns_pid),
        messages.set_link(name=name, is_up=True, master=bridge.ifindex),
    ]
    if _has_ipv6():
        # Before it is up, or the link-local address is on its way already.
        requests.insert(1, messages.set_no_link_local(name=name))
    try:
        host.execute(*requests, subject=name)
    except OSError as error:
        # EEXIST is another's link. After any other failure there is at most ours.
        if error.errno != errno.EEXIST:
            _delete_quietly(host, name, error)
        raise


def configure_inside(plan: Plan, host: Netlink | None = None) -> None:
    """In the container's namespace: loopback up, the link's addresses, the link up, default routes.

    With `host`, a socket opened in the host's namespace, it also waits until the bridge forwards what the link sends. Without, a
    program that is quick to connect (within a millisecond or so) may lose its first ARP request and wait a second for the next.
    """
    name = plan["container_name"]
    index = socket.if_nametoindex(name)
    if not _wants_ipv6(plan):
        _ensure_ipv6_off(name)
    requests = [messages.set_link(index=_LOOPBACK_INDEX, is_up=True)]
    for text in plan["addresses"]:
        address, _, length = text.partition("/")
        requests.append(messages.new_address(link_index=index, address=address, prefix_length=int(length)))
    requests.append(messages.set_link(index=index, is_up=True))
    # After the link is up, for only then is the gateway within reach.
    requests += [messages.new_default_route(link_index=index, gateway=gateway) for gateway in _gateways(plan)]
    with Netlink() as inside:
        inside.execute(*requests, subject=name)
    if host is not None:
        await_forwarding(plan, host)


def await_forwarding(plan: Plan, host: Netlink) -> None:
    """Wait until the bridge's port forwards and the bridge itself sends; give up silently after a quarter of a second.

    A link's carrier comes up when its second end does, but the bridge hears of it from a kernel worker that queues for the RTNL lock.
    Until then the port drops everything. # kernel: from 6.8 on RTM_GETLINK does that work at once, so the first question is the
    last; before, it has to be asked again.
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


def _gateways(plan: Plan) -> list[str]:
    return [gateway for gateway in (plan.get("gateway"), plan.get("gateway6")) if gateway]


def _wants_ipv6(plan: Plan) -> bool:
    return any(":" in address for address in plan["addresses"])


def _has_ipv6() -> bool:
    # Booted with ipv6.disable=1 the directory is missing, and so is the address family.
    return os.access("/proc/sys/net/ipv6/conf", os.F_OK)


def _ensure_ipv6_off(link: str) -> None:
    name = f"net/ipv6/conf/{link}/disable_ipv6"
    try:
        fd = os.open(f"/proc/sys/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        is_off = os.read(fd, 8).strip() == b"1"
    finally:
        os.close(fd)
    if not is_off:
        _write_sysctl(name, b"1")


def _write_sysctl(name: str, value: bytes) -> None:
    """Write a setting of the caller's namespace; one that this kernel does not have is off already."""
    try:
        fd = os.open(f"/proc/sys/{name}", os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.write(fd, value)
    finally:
        os.close(fd)


def _delete_quietly(host: Netlink, name: str, error: OSError) -> None:
    try:
        host.execute(messages.delete_link(name=name), subject=name)
    except OSError as second:
        if second.errno != errno.ENODEV:
            error.add_note(f"and its removal failed: {second}")


def _failure(number: int, explanation: str, request: Message, subject: str) -> OSError:
    text = f"{messages.NAMES[request[0]]} `{subject}`: {os.strerror(number)}"
    return OSError(number, f"{text} ({explanation})" if explanation else text)
