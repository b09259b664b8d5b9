"""The routing netlink socket: requests in, acknowledgements and dumps out. stdlib only."""

from __future__ import annotations

import errno
import os
import socket
from types import TracebackType

from teul.linux.netlink import messages
from teul.linux.netlink.messages import Link, Message, Prefix, Route

# linux/netlink.h
_SOL_NETLINK = 270
_NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK = 10, 11, 12

_RECEIVE_BYTES = 64 * 1024
_DUMP_ATTEMPTS = 10


class Netlink:
    """An rtnetlink socket, for good in the network namespace of the thread that opens it. Not for several threads at once."""

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
                    failure = os_error(number, explanation, requests[reply.sequence - first], subject)
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
                raise os_error(*messages.parse_error(reply), request, subject)

    def dump(self, request: Message) -> list[bytes]:
        """Ask for all objects of a kind. A list that changed while it was read is read again."""
        for _attempt in range(_DUMP_ATTEMPTS):
            bodies = self._dump_once(request)
            if bodies is not None:
                return bodies
        raise os_error(errno.EAGAIN, "the list kept changing", request, "dump")

    def get_link(self, *, index: int = 0, name: str = "") -> Link | None:
        """The link with that index or name, None if there is none."""
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

    def find_route(self, destination: str, *, source: str = "", input_index: int = 0) -> Route:
        """Where a packet from here, or one that has come in by a link, would go. Raises `OSError` where the kernel would drop it."""
        request = messages.get_route(destination=destination, source=source, input_index=input_index)
        return messages.parse_route_answer(self.get(request, subject=destination))

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
                        raise os_error(number, explanation, request, "dump")
                    return None if interrupted else bodies
                bodies.append(reply.body)


def os_error(number: int, explanation: str, request: Message, subject: str) -> OSError:
    """What the kernel answered to `request` as an error, in its own words (`explanation`) where it has some."""
    text = f"{messages.NAMES[request[0]]} `{subject}`: {os.strerror(number)}"
    return OSError(number, f"{text} ({explanation})" if explanation else text)
