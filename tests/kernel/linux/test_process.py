"""What the kernel says of processes that are no more."""

from __future__ import annotations

import os
import signal

import pytest

from teul.linux import process


def test_a_process_whose_group_outlives_it_is_gone() -> None:
    """A shell that has ended, say, while what it has started in the background runs on."""
    end, its_end = os.pipe()
    leader = os.fork()
    if leader == 0:
        os.setsid()
        member = os.fork()
        if member == 0:
            signal.pause()
        os.write(its_end, member.to_bytes(4, "little"))
        os._exit(0)
    member = int.from_bytes(os.read(end, 4), "little")
    os.close(end)
    os.close(its_end)
    os.waitpid(leader, 0)
    try:
        assert os.getpgid(member) == leader, "the group must still be there for this to be a test"
        with pytest.raises(ProcessLookupError):
            process.open_pidfd(leader)
    finally:
        os.kill(member, signal.SIGKILL)


def test_a_number_that_is_no_process_is_refused() -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        process.open_pidfd(0)
