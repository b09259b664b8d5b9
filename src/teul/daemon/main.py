"""`teul serve`: wires the house together, opens its doors, and closes them again."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import sys

from teul.daemon.config import EngineConfig, parse_arguments
from teul.daemon.detachment import leave_caller
from teul.daemon.directories import make_directories
from teul.daemon.lock import LockTaken, RootLock
from teul.errors import Forbidden, TeulError

log = logging.getLogger(__name__)


def main(arguments: list[str]) -> int:
    """Run an engine until it is told to stop or has nothing to do; returns the exit code.

    An engine started on demand that finds another one in its place leaves quietly with 0: whoever asked has an engine.
    """
    try:
        config = parse_arguments(arguments, os.environ)
    except TeulError as error:
        return _complain(error)
    if os.geteuid() != 0:
        return _complain(Forbidden("the engine needs root: without it no container can be started yet"))
    _configure_logging(debug=config.debug)
    if config.on_demand:
        leave_caller()
    os.umask(0o022)
    _raise_descriptor_limit()
    make_directories(config.root, config.run_root)
    try:
        with RootLock(config.root), RootLock(config.run_root):
            asyncio.run(_serve(config))
    except LockTaken as error:
        return 0 if config.idle_timeout_seconds is not None else _complain(error)
    except TeulError as error:
        return _complain(error)
    return 0


def _complain(error: TeulError) -> int:
    sys.stderr.write(f"teul serve: {error.message}\n" + (f"hint: {error.hint}\n" if error.hint else ""))
    return 1


def _configure_logging(*, debug: bool) -> None:
    logging.basicConfig(level=logging.DEBUG if debug else logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def _raise_descriptor_limit() -> None:
    """A running container costs the engine a handful of descriptors; a shell's usual 1024 would be the end at two hundred."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _serve(config: EngineConfig) -> None:
    # Imported here: the loser of a race for the lock needs none of it.
    from teul.daemon.engine import Engine

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)
    async with Engine(config) as engine:
        await engine.serve(stop)
