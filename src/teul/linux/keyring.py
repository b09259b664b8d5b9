"""The session keyring of the calling process: keyctl(2)."""

from __future__ import annotations

import ctypes
import errno

from teul.linux.syscalls import syscall

# linux/keyctl.h, linux/key.h
_KEYCTL_JOIN_SESSION_KEYRING, _KEYCTL_SETPERM = 1, 5
_POSSESSOR_ALL = 0x3F000000
_USER_VIEW, _USER_READ, _USER_SEARCH, _USER_LINK = 0x00010000, 0x00020000, 0x00080000, 0x00100000


def join_session_keyring(name: str) -> None:
    """Have the session keyring `name`; made anew if there is none, and left so that others of our user who know its name can join it.

    A kernel without keys has none to share.
    """
    text = ctypes.c_char_p(name.encode())
    try:
        key = syscall("keyctl", _KEYCTL_JOIN_SESSION_KEYRING, ctypes.cast(text, ctypes.c_void_p).value)
        syscall("keyctl", _KEYCTL_SETPERM, key, _POSSESSOR_ALL | _USER_VIEW | _USER_READ | _USER_SEARCH | _USER_LINK)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
