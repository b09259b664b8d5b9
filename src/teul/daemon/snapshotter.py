"""Which form new layers get: decided once, when the engine starts, by trying it on the engine's root."""

from __future__ import annotations

import logging

from teul.daemon.config import DIRECTORY, EROFS
from teul.errors import System
from teul.snapshots import erofs
from teul.store.ballast import Ballast, is_full

log = logging.getLogger(__name__)


def choose_snapshotter(wanted: str, workspace: str, ballast: Ballast) -> str:
    """`EROFS` or `DIRECTORY`, by what is `wanted` and what the host mounts of files in the directory `workspace`. Blocking.

    Raises System if that form is insisted on which the host does not mount.
    """
    if wanted == DIRECTORY:
        return DIRECTORY
    refusal = _refusal(workspace, ballast)
    if not refusal:
        return EROFS
    if wanted == EROFS:
        raise System(f"layers cannot be mounted by their indexes: {refusal}", hint="use --snapshotter auto")
    log.info("layers are unpacked, for they cannot be mounted by their indexes: %s", refusal)
    return DIRECTORY


def _refusal(workspace: str, ballast: Ballast) -> str:
    try:
        return erofs.refusal(workspace)
    except OSError as error:
        if not is_full(error) or not ballast.release():
            return str(error)
    try:
        return erofs.refusal(workspace)
    except OSError as error:
        return str(error)
