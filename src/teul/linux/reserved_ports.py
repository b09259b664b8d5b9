"""Sockets that keep a port of the host from everybody else, and take nothing that comes for it until they are told to.

A TCP socket is bound and does not listen, so who gets as far as that is refused, as if nobody were there. A UDP socket drops what it gets.
One that admits takes what comes, for whoever has it, or a copy of it, to read.
"""

from __future__ import annotations

import contextlib
import ctypes
import socket

_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_KINDS = {
    "tcp": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "udp": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    "sctp": (socket.SOCK_STREAM, 132),  # linux/in.h, IPPROTO_SCTP
}
_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27  # asm-generic/socket.h
_BACKLOG = 4096  # kernel: no more than net.core.somaxconn
_BPF_RET_K = 0x06  # linux/bpf_common.h


class _Instruction(ctypes.Structure):
    """linux/filter.h, struct sock_filter."""

    _fields_ = (("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32))


class _Program(ctypes.Structure):
    """linux/filter.h, struct sock_fprog."""

    _fields_ = (("length", ctypes.c_uint16), ("filter", ctypes.POINTER(_Instruction)))


def open_socket(version: int, protocol: str) -> socket.socket:
    """A socket of this IP version for tcp, udp or sctp. Raises `OSError` (EPROTONOSUPPORT from a kernel that has no SCTP)."""
    kind, number = _KINDS[protocol]
    made = socket.socket(_FAMILIES[version], kind | socket.SOCK_CLOEXEC, number)
    if version == 6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return made


def bind(made: socket.socket, address: str, port: int) -> None:
    """Take the port, on an address or on all of them. Raises `OSError`; EADDRINUSE if any other socket has it."""
    if made.proto != socket.IPPROTO_TCP:
        if made.proto == socket.IPPROTO_UDP:
            _drop_everything(made)
        made.bind((address, port))
        return
    # What is left of earlier connections to this port (TIME_WAIT) does not hinder who reuses addresses. But that lets others in, too, so it
    # is over as soon as the port is ours. kernel: who is let in follows from how the socket was when it was bound, or has begun to listen.
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((address, port))
    made.listen(1)
    refuse(made)


def admit(made: socket.socket) -> None:
    """Let a bound socket take what comes: connections wait until somebody accepts them, datagrams until they are read. Idempotent.

    From then on nobody who has the socket waits in it. Not for SCTP. Raises `OSError`.
    """
    made.setblocking(False)
    if made.proto == socket.IPPROTO_UDP:
        with contextlib.suppress(FileNotFoundError):  # it admits already
            made.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
        return
    # Who listens lets nobody in, whoever reuses addresses. Connections have this from who listens, and then what is left of them hinders
    # nobody who wants the port next.
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.listen(_BACKLOG)


def refuse(made: socket.socket) -> None:
    """Have a socket that admits take nothing any more, as it was when it was bound; what waited in a TCP socket is reset. Idempotent."""
    if made.proto == socket.IPPROTO_UDP:
        _drop_everything(made)
    elif made.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        made.shutdown(socket.SHUT_RD)


def _drop_everything(made: socket.socket) -> None:
    """A filter that wants 0 bytes of each packet."""
    instruction = _Instruction(code=_BPF_RET_K, jt=0, jf=0, k=0)
    program = _Program(length=1, filter=ctypes.pointer(instruction))
    made.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, bytes(program))
