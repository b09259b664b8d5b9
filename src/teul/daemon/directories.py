"""The engine's directories: made if they are not there, and closed to others wherever they come from."""

from __future__ import annotations

import os
import stat

# security: unpacked layers have set-user-id programs and device nodes; records, archives and logs have secrets.
_ROOT_MODE = 0o710
_PRIVATE_MODE = 0o700
_PRIVATE = ("blobs", "blobs/sha256", "snapshots", "containers", "volumes", "tmp")


def make_directories(root: str, run_root: str) -> None:
    """Make both roots and what is in them, and take from those that exist every permission that the engine does not mean to give.

    The run root itself can be entered by everybody, since the API's socket lies in it; it cannot be written by others, who could put
    their own socket there, unless it is one that everybody shares, as /tmp is.
    """
    _make(root, _ROOT_MODE)
    for name in _PRIVATE:
        _make(f"{root}/{name}", _PRIVATE_MODE)
    _make(run_root, 0o755, keep_shared=True)
    _make(f"{run_root}/containers", _PRIVATE_MODE)


def _make(path: str, mode: int, *, keep_shared: bool = False) -> None:
    os.makedirs(path, mode=mode, exist_ok=True)
    present = stat.S_IMODE(os.stat(path).st_mode)
    if present & ~mode & 0o777 and not (keep_shared and present & stat.S_ISVTX):
        os.chmod(path, present & (mode | 0o7000))
