"""What the interpreter loads late: nothing, once the files that this process sees are not the host's."""

from __future__ import annotations

import sys


def forbid_imports() -> None:
    """Let no module be loaded any more, for good.

    security: where a container's files are the root, a module that is loaded late, a codec say, would be the container's, as the library
    of name services was in Docker (CVE-2019-14271).
    """
    for place in (sys.meta_path, sys.path, sys.path_hooks):
        place.clear()
    sys.path_importer_cache.clear()
