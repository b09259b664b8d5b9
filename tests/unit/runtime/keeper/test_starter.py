"""What a starter hears of the child that it has forked."""

from __future__ import annotations

import socket

from teul.runtime.keeper.starter import hear


def test_a_child_that_ends_without_having_listened_is_heard_to_its_last_word() -> None:
    """It may fail before it reads that its network is there; what it says of that is the error that the user sees."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        ours.send(b"network")
        theirs.send(b'{"step": "mount /proc"}')
        theirs.close()
        assert hear(ours) == (b'{"step": "mount /proc"}', [])
        assert hear(ours) == (b"", [])
