"""Installs what the race needs from Debian, when it is not there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys


def ensure_installed(program: str, package: str) -> None:
    """Install `package` when `program` is not on the path. Services of the package are not started."""
    if shutil.which(program):
        return
    print(f"{program} is missing: installing {package} …", file=sys.stderr)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    subprocess.run(["apt-get", "update", "-q"], check=True, env=environment, stdout=subprocess.DEVNULL)
    command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", package]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    if not shutil.which(program):
        raise RuntimeError(f"{package} is installed, but there is no {program}")
