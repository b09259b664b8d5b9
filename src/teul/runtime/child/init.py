"""`--init`: this process stays as PID 1, passes signals on to the program and reaps what is orphaned.

What docker-init (tini) does in Docker, without putting a binary into the container.
"""

from __future__ import annotations

import os
import signal
import socket

_NOT_FORWARDED = {signal.SIGCHLD, signal.SIGKILL, signal.SIGSTOP, signal.SIGTTIN, signal.SIGTTOU}


def become_init(sync: socket.socket, *, terminal: bool) -> None:
    """Fork; return in the child, which goes on to exec. The parent stays here until the child ends."""
    everything = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
    signal.pthread_sigmask(signal.SIG_BLOCK, everything)
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        if terminal:
            os.tcsetpgrp(0, os.getpid())  # SIGTTOU is blocked here; exec follows with an empty mask
        return
    sync.close()
    while True:
        received = signal.sigwaitinfo(everything)
        if received.si_signo == signal.SIGCHLD:
            _reap(child)
        elif received.si_signo not in _NOT_FORWARDED:
            try:
                os.kill(child, received.si_signo)
            except PermissionError:
                continue  # the program has become another user, and PID 1 may lack CAP_KILL; the rest of its work goes on


def _reap(child: int) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)
