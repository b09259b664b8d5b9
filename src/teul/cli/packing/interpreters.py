"""Interpreters whose programs do not run with the interpreter's own file and its libraries alone."""

from __future__ import annotations

import os
import re

from teul.cli.errors import CliError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_PYTHON = re.compile(r"python(3\.\d+)")
# Tests, what was compiled beside the source, what headers and static libraries need, and packages that are not the interpreter's own.
_LEFT_OUT = frozenset({"__pycache__", "test", "tests", "idlelib", "site-packages", "dist-packages"})
_OTHERS = re.compile(r"(perl|ruby|php|tclsh|lua|guile|node|Rscript|java)[0-9.]*")


def standard_library(real_path: str) -> str | None:
    """The directory of the standard library of the interpreter at `real_path`, where links end; None for what is no Python.

    Raises `CliError` for a Python without one: it would not start.
    """
    directory, name = os.path.split(real_path)
    match = _PYTHON.fullmatch(name)
    if match is None:
        return None
    # Where the interpreter looks itself, from its own place (Modules/getpath.py: the landmark is os.py).
    found = os.path.join(os.path.dirname(directory), "lib", f"python{match[1]}")
    if not os.path.isfile(os.path.join(found, "os.py")):
        raise CliError(f"cannot pack {real_path}: its standard library is not in {found} (Debian package libpython{match[1]}-stdlib)")
    return found


def library_files(directory: str) -> Iterator[str]:
    """The files of a standard library that programs load, sorted."""
    for place, directories, files in os.walk(directory):
        directories[:] = sorted(name for name in directories if name not in _LEFT_OUT and not name.startswith("config-"))
        yield from (os.path.join(place, name) for name in sorted(files))


def warning(real_path: str) -> str | None:
    """What to tell about an interpreter that loads files of its own which are not known here."""
    name = os.path.basename(real_path)
    if _OTHERS.fullmatch(name) is None:
        return None
    return f"{name} loads modules from directories of its own, which are not packed: add those that are needed with --path"
