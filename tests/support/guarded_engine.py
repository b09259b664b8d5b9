"""`teul serve` under the guard of the event loop. An offence ends up in the engine's log, with the way to it; `Engine.close` looks there.

Arguments before `serve` are numbers for the engine's own constants, as "teul.daemon.engine._BALLAST_SECONDS=0.1".
"""

from __future__ import annotations

import atexit
import importlib
import os
import sys
import traceback

# Started by its path: the first entry is this directory, where its neighbours would shadow modules of other names.
sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from support.loop_guard import BlockingError, guarding  # noqa: E402 - after the path
from teul.cli.main import main  # noqa: E402


def _report(offence: BlockingError) -> None:
    # In one write, or lines of the log of other threads would stand between.
    frames = [f'  File "{frame.filename}", line {frame.lineno}, in {frame.name}\n' for frame in traceback.extract_stack()[:-3]]
    sys.stderr.write(f"BlockingError: {offence}\n{''.join(frames)}")


def _hurry(assignment: str) -> None:
    name, _, seconds = assignment.partition("=")
    module, _, constant = name.rpartition(".")
    if not isinstance(getattr(importlib.import_module(module), constant), float):  # or nobody would notice that it is called otherwise now
        raise TypeError(f"{name} is not a number of seconds")
    setattr(sys.modules[module], constant, float(seconds))


if __name__ == "__main__":
    while sys.argv[1] != "serve":
        _hurry(sys.argv.pop(1))
    with guarding(_report):
        status = main()
    # blockbuster writes into types of C's making, and the interpreter does not survive their being taken apart. Threads have been waited
    # for before this is called.
    atexit.register(os._exit, status)
