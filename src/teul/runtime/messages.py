"""What the engine tells the keeper: one JSON message per process to start, with descriptors riding along.

The shapes are plain dicts on the wire; this module names their keys once for both sides. stdlib only.

A message carries:
  kind        "create" (a container's first process), "exec" (one more process in it), "resume" (watch what an earlier
              monitor left)
  id          container or exec id; shown in the monitor's process name
  directory   <run>/containers/<id> (or …/exec-<exec id>), where config.json is; monitor.sock and exit.json appear there
  container_pid  the container's first process ("exec" and "resume")
  terminal    bool, with rows and columns
  stdin       "null" | "open" (stays open) | "once" (closes with its first client)
  log         {"path", "max_bytes", "max_files", "attrs"} or null
  cgroup      plan of linux.cgroups
  network     plan of linux.netlink or null
  attach      one object per attachment descriptor: {"stdin", "stdout", "stderr"}
Descriptors, in order: the control connection, then one per `attach`; for "resume" the kept descriptors come last.
"""

from __future__ import annotations

import array
import errno
import json
import os
import socket

MAX_DESCRIPTORS = 64
_DESCRIPTOR_ROOM = socket.CMSG_LEN(MAX_DESCRIPTORS * 4)

EXIT_FILE = "exit.json"
PROCESS_FILE = "pid.json"
SOCKET_FILE = "monitor.sock"
CONFIG_FILE = "config.json"


def send_message(connection: socket.socket, message: dict[str, object], descriptors: list[int]) -> None:
    """Send one message. Raises `OSError` when the peer is gone (EPIPE) or busy (EAGAIN), or the message is too large (EMSGSIZE)."""
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    connection.sendmsg([json.dumps(message).encode()], ancillary)


class Cut(OSError):
    """A message or its descriptors did not fit; what came of it is closed."""


def receive_message(connection: socket.socket) -> tuple[dict[str, object], list[int]] | None:
    """Receive one message and its descriptors (close-on-exec); None at the end of the connection. Raises `Cut`."""
    # Room for what is there and no more: a buffer for the largest would stay with the process.
    size = connection.recv_into(bytearray(1), 0, socket.MSG_PEEK | socket.MSG_TRUNC)
    data, ancillary, flags, _address = connection.recvmsg(size, _DESCRIPTOR_ROOM, socket.MSG_CMSG_CLOEXEC)
    descriptors = [fd for level, kind, raw in ancillary if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS) for fd in _unpack(raw)]
    if not data or flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        for fd in descriptors:
            os.close(fd)
        if data:
            raise Cut(errno.EMSGSIZE, "a launch message was cut off")
        return None
    try:
        message: dict[str, object] = json.loads(data)
    except ValueError:
        for fd in descriptors:
            os.close(fd)
        raise
    return message, descriptors


def _unpack(raw: bytes) -> list[int]:
    numbers = array.array("i")
    numbers.frombytes(raw[: len(raw) - len(raw) % numbers.itemsize])
    return list(numbers)
