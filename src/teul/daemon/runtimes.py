"""The options of `teul serve` that are about OCI runtimes, which are dockerd's. Pure.

docker: daemon/pkg/opts/runtime.go, daemon/runtime_unix.go (setupRuntimes).
"""

from __future__ import annotations

import argparse

from teul.errors import InvalidParameter
from teul.model.runtime import OWN_NAMES, OWN_RUNTIME, OciRuntime, Runtimes


def add_options(parser: argparse.ArgumentParser) -> None:
    """Have a parser know the options."""
    parser.add_argument(
        "--add-runtime", action="append", default=[], metavar="NAME=PATH", help="register an additional OCI compatible runtime"
    )
    parser.add_argument("--default-runtime", default=OWN_RUNTIME, metavar="NAME", help="default OCI runtime for containers")


def parse_runtimes(options: argparse.Namespace) -> Runtimes:
    """What the options mean. Raises InvalidParameter, in dockerd's words."""
    added: dict[str, OciRuntime] = {}
    for text in options.add_runtime:
        name, equals, path = text.partition("=")
        name, path = name.strip().lower(), path.strip()
        if not equals or not name or not path:
            raise InvalidParameter(f"invalid runtime argument: {text}")
        if name in OWN_NAMES:
            raise InvalidParameter(f"runtime name '{name}' is reserved")
        if name in added:
            raise InvalidParameter(f"runtime '{name}' was already defined")
        added[name] = OciRuntime(name, path)
    runtimes = Runtimes(tuple(added.values()), options.default_runtime)
    if not runtimes.has(runtimes.default):
        raise InvalidParameter(f"specified default runtime '{runtimes.default}' does not exist")
    return runtimes
