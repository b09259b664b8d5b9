"""The system calls that a process makes after it came under its seccomp filter, where it joins others' pid namespace (`Child._appear`)."""

from __future__ import annotations

import termios

from teul.linux.process import CLONE_PARENT

LAST_CALLS = (("clone", (CLONE_PARENT,)), ("setsid", ()), ("ioctl", (0, termios.TIOCSCTTY)))
