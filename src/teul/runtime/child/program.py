"""Finding the program to run, with the words Docker's clients look for ("executable file not found", "permission denied")."""

from __future__ import annotations

import os
import stat

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class ProgramError(Exception):
    """The program is not there or cannot be executed."""


def find(name: str, env: dict[str, str]) -> str:
    """The path to execute for argv[0] `name`. Go's exec.LookPath, whose texts runc passes on. Raises `ProgramError`."""
    if not name:
        raise ProgramError('exec: "": executable file not found in $PATH')
    if "/" in name:
        problem = _problem(name)
        if problem:
            raise ProgramError(f'exec: "{name}": {problem}')
        return name
    for directory in env.get("PATH", _DEFAULT_PATH).split(":"):
        path = os.path.join(directory or ".", name)
        if not _problem(path):
            return path
    raise ProgramError(f'exec: "{name}": executable file not found in $PATH')


def _problem(path: str) -> str | None:
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        return f"stat {path}: {os.strerror(error.errno or 0).lower()}"
    if stat.S_ISDIR(mode):
        return "is a directory"
    if not mode & 0o111 or not os.access(path, os.X_OK, effective_ids=True):
        return "permission denied"
    return None
