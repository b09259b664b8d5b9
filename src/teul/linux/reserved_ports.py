"""Sockets that keep a port of the host from everybody else, and take nothing that comes for it.

A TCP socket is bound and does not listen, so who gets as far as that is refused, as if nobody were there. A UDP socket drops what it gets.
"""

from __future__ import annotations

import ctypes
import socket

_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_KINDS = {
    "tcp": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "udp": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    "sctp": (socket.SOCK_STREAM, 132),  # linux/in.h, IPPROTO_SCTP
}
_SO_ATTACH_FILTER = 26  # asm-generic/socket.h
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
    made.shutdown(socket.SHUT_RD)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)


def _drop_everything(made: socket.socket) -> None:
    """A filter that wants 0 bytes of each packet."""
    instruction = _Instruction(code=_BPF_RET_K, jt=0, jf=0, k=0)
    program = _Program(length=1, filter=ctypes.pointer(instruction))
    made.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, bytes(program))
