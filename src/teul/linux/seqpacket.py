"""Messages between processes: a JSON object each, with descriptors riding along, over a SOCK_SEQPACKET connection. stdlib only."""

from __future__ import annotations

import array
import errno
import json
import os
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

MAX_DESCRIPTORS = 253  # linux/net/scm.h, SCM_MAX_FD
_DESCRIPTOR_ROOM = socket.CMSG_LEN(MAX_DESCRIPTORS * 4)
# As plain numbers: `|` and `&` of an enum's members build new members, 5 us a time.
_MSG_SIZE = int(socket.MSG_PEEK | socket.MSG_TRUNC)
_MSG_CUT = int(socket.MSG_TRUNC | socket.MSG_CTRUNC)


def send_message(connection: socket.socket, message: Mapping[str, object], descriptors: list[int]) -> None:
    """Send one message. Raises `OSError` when the peer is gone (EPIPE) or busy (EAGAIN), or the message is too large (EMSGSIZE)."""
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    connection.sendmsg([json.dumps(message).encode()], ancillary)


class Cut(OSError):
    """A message or its descriptors did not fit; the descriptors that did arrive are closed."""


def receive_message(connection: socket.socket) -> tuple[Any, list[int]] | None:
    """Receive one message and its descriptors (close-on-exec); None at the end of the connection. Raises `Cut`, `ValueError`.

    Which document it is, the caller knows: a connection carries one kind in each direction.
    """
    # Room for the message that is there and no more: a buffer for the largest one would stay in the process's memory.
    size = connection.recv_into(bytearray(1), 0, _MSG_SIZE)
    data, ancillary, flags, _address = connection.recvmsg(size, _DESCRIPTOR_ROOM, socket.MSG_CMSG_CLOEXEC)
    descriptors = [fd for level, kind, raw in ancillary if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS) for fd in _unpack(raw)]
    if not data or flags & _MSG_CUT:
        for fd in descriptors:
            os.close(fd)
        if data:
            raise Cut(errno.EMSGSIZE, "a message was cut off")
        return None
    try:
        message = json.loads(data)
    except ValueError:
        for fd in descriptors:
            os.close(fd)
        raise
    return message, descriptors


def _unpack(raw: bytes) -> list[int]:
    numbers = array.array("i")
    numbers.frombytes(raw[: len(raw) - len(raw) % numbers.itemsize])
    return list(numbers)
