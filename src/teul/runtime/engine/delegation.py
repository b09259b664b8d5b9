"""The engine's end of containers that another OCI runtime has made: having it give back what it keeps of them."""

from __future__ import annotations

import os
import subprocess
import sys

from teul.errors import System
from teul.runtime.messages import Delegation

# In a mount namespace of its own, in which the runtime finds the cgroups as it did when it made the container.
_PROGRAM = "import sys; sys.path[:] = {path!r}; from teul.runtime.child.invocation import delete; delete({delegation!r})"


def delete(delegation: Delegation) -> None:
    """Have the runtime delete the container, whose processes are ended if there are any. Blocking, idempotent. Raises System."""
    if not os.path.isdir(delegation["root"]) or not os.listdir(delegation["root"]):
        return  # it has not begun
    program = _PROGRAM.format(path=sys.path, delegation=dict(delegation))
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode:
        raise System(f"{delegation['name']} did not delete container {delegation['container']}: {done.stderr.strip()}")
