"""The user's terminal, and what is left of it afterwards."""

from __future__ import annotations

import os
import pty
import termios
from pathlib import Path

import pytest

from teul.client.terminal import HiddenInput


def echoes(fd: int) -> bool:
    return bool(termios.tcgetattr(fd)[3] & termios.ECHO)


def test_what_is_typed_is_hidden_for_a_while() -> None:
    master_fd, fd = pty.openpty()
    try:
        with HiddenInput(fd):
            assert not echoes(fd)
        assert echoes(fd)
        with pytest.raises(KeyboardInterrupt), HiddenInput(fd):
            raise KeyboardInterrupt
        assert echoes(fd)
    finally:
        os.close(master_fd)
        os.close(fd)


def test_what_is_no_terminal_hides_nothing(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file, pytest.raises(OSError, match="Inappropriate ioctl"), HiddenInput(file.fileno()):
        pass
