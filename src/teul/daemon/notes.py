"""What an engine notes in its root about itself: its id, and the boot of the machine that it was last started in. Blocks."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from typing import TypeVar

from teul.store.atomic import replace_file
from teul.store.ballast import Ballast, is_full

T = TypeVar("T")

log = logging.getLogger(__name__)


def relieved(ballast: Ballast, function: Callable[[str], T], root: str) -> T:
    """What an engine writes when it starts must find room on a full disk, or nobody could ever make any."""
    try:
        return function(root)
    except OSError as error:
        if not is_full(error) or not ballast.release():
            raise
    return function(root)


def has_rebooted(ballast: Ballast, root: str) -> bool:
    """As `_note_boot`. On a disk without room for the note, the next engine will take the machine for rebooted once more."""
    try:
        return relieved(ballast, _note_boot, root)
    except OSError as error:
        if not is_full(error):
            raise
        log.warning("the boot of this machine cannot be noted: %s", error)
        return True


def _note_boot(root: str) -> bool:
    """Whether the machine was started anew since an engine last had this root."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        boot_id = file.read()
    path = f"{root}/boot-id"
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            if file.read() == boot_id:
                return False
    except FileNotFoundError:
        pass  # the first engine here
    # Not durable: after a power cut the kernel has another boot id, and the file differs from it whatever became of the file.
    replace_file(path, boot_id.encode(), 0o644, durable=False)
    return True


def engine_id(root: str) -> str:
    """The UUID by which clients tell this engine from others: made when an engine first has this root, and then kept."""
    path = f"{root}/engine-id"
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return str(uuid.UUID(file.read().strip()))
    except FileNotFoundError:
        pass  # the first engine here
    except ValueError:
        log.error("%s holds no engine's id; this engine gets another one", path)
    identifier = str(uuid.uuid4())
    replace_file(path, f"{identifier}\n".encode(), 0o644, durable=True)
    return identifier
