"""The two commands of the README, run and shown, on roots of their own that are gone afterwards.

`teul` starts an engine when none answers; this ends it too, and leaves the host as it was.
"""

from __future__ import annotations

import os
import select
import shlex
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

COMMANDS = (
    "teul image pack -t local/shell sh ls cat uname id ps hostname mount sleep env",
    "teul run --rm local/shell sh -c 'echo hello from $(hostname); uname -r; id; ps'",
)


def main() -> int:
    if os.geteuid() != 0:
        print("make demo: containers need root for now; run it as root", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="teul-demo-") as base:
        run_root = f"{base}/run"
        environment = {
            **{name: value for name, value in os.environ.items() if name not in {"TEUL_HOST", "DOCKER_HOST", "DOCKER_CONTEXT"}},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "TEUL_ROOT": f"{base}/root",
            "TEUL_RUN_ROOT": run_root,
        }
        try:
            for command in COMMANDS:
                print(f"$ {command}", flush=True)
                status = subprocess.run(shlex.split(command), env=environment, check=False).returncode
                if status:
                    return status
        finally:
            _stop_engine(f"{run_root}/docker.sock")
    return 0


def _stop_engine(socket_path: str) -> None:
    """Ask whoever listens on the socket to end, and wait until it has."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(socket_path)
        except (FileNotFoundError, ConnectionRefusedError):
            return
        pid, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    pidfd = os.pidfd_open(pid)
    signal.pidfd_send_signal(pidfd, signal.SIGTERM)
    _wait(pidfd, seconds=20)
    os.close(pidfd)


def _wait(pidfd: int, *, seconds: float) -> None:
    if not select.select([pidfd], [], [], seconds)[0]:
        raise TimeoutError(f"the engine did not end within {seconds:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
