"""The host before and after all tests: `leaks.py save FILE`, then `leaks.py compare FILE`, which names whatever was left and fails."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import fields
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support import host

PATIENCE_SECONDS = 15  # the kernel takes network namespaces and cgroups down in the background


def main(verb: str, path: str) -> int:
    if verb == "save":
        state = host.snapshot()
        Path(path).write_text(json.dumps({field.name: sorted(getattr(state, field.name)) for field in fields(state)}), encoding="utf-8")
        return 0
    before = host.HostState(**{name: frozenset(lines) for name, lines in json.loads(Path(path).read_text(encoding="utf-8")).items()})
    deadline = time.monotonic() + PATIENCE_SECONDS
    while left := host.difference(before, host.snapshot()):
        if time.monotonic() > deadline:
            print("The tests left something on the host:", *left, sep="\n  ", file=sys.stderr)
            return 1
        time.sleep(0.25)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
