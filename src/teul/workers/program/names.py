"""Names in a layer's archive: as paths below its root, and those that say what of lower layers is hidden.

spec: OCI image-spec layer.md. docker: names that begin with a slash are taken as relative, since widely used builders write them.
"""

from __future__ import annotations

import errno
import os

from teul.workers.program.entries import Refused

_MAX_PATH_BYTES = 4096
WHITEOUT = b".wh."
OPAQUE = b".wh..wh..opq"
WHITEOUT_METADATA = b".wh..wh."


def normalize(name: bytes) -> bytes:
    """A name in the archive as a path below the root without "." and doubled slashes. Raises `Refused` for ".." and endless names."""
    path = name[2:] if name.startswith(b"./") else name
    path = path.strip(b"/")
    if b"//" in path or b"/." in path or path.startswith(b"."):
        parts = [part for part in path.split(b"/") if part not in (b"", b".")]
        if b".." in parts:
            raise Refused(f'invalid path "{os.fsdecode(name)}": is outside of the layer')
        path = b"/".join(parts)
    if len(path) >= _MAX_PATH_BYTES:
        raise Refused(f'invalid path "{os.fsdecode(name[:64])}…": {os.strerror(errno.ENAMETOOLONG).lower()}')
    return path
