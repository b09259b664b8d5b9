"""`teul serve`: wires the house together, opens its doors, and closes them again."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import socket
import stat
import sys
import time

from teul.daemon.config import EngineConfig, parse_arguments
from teul.daemon.detachment import leave_caller
from teul.daemon.directories import make_directories
from teul.daemon.door import FIRST_FD
from teul.daemon.handover import become_door, forget_record, give_up, listener_address, take_from_door, take_listeners
from teul.daemon.lock import LockTaken, RootLock
from teul.errors import Forbidden, TeulError

log = logging.getLogger(__name__)

_LOG_LIMIT_BYTES = 1 << 20
_TAKING_SECONDS = 10.0


def main(arguments: list[str]) -> int:
    """Run an engine until it is told to stop or has nothing to do; returns the exit code.

    An engine started on demand that finds another one in its place leaves quietly with 0: whoever asked has an engine.
    """
    try:
        listeners = take_listeners(os.environ)
        config = parse_arguments(arguments, os.environ)
        if listeners and not (config.on_demand and len(listeners) == len(config.hosts)):
            config = config.with_listeners(tuple(map(listener_address, listeners)))
    except TeulError as error:
        return _complain(error)
    if os.geteuid() != 0:
        return _complain(Forbidden("the engine needs root: without it no container can be started yet"))
    _configure_logging(debug=config.debug)
    if config.on_demand:
        leave_caller(first_fd=FIRST_FD + len(listeners))
        _shorten_log()
    os.umask(0o022)
    _raise_descriptor_limit()
    make_directories(config.root, config.run_root)
    try:
        with RootLock(config.root), RootLock(config.run_root):
            signals: list[int] = []
            left = asyncio.run(_serve(config, _listeners_by_host(config, listeners), signals))
            if signals:
                give_up(left, config.hosts)  # told to end when it was about to leave by itself
            elif left:
                become_door(left, config.hosts, root=config.root, run_root=config.run_root, arguments=arguments)
    except LockTaken as error:
        if listeners and config.on_demand:
            time.sleep(_TAKING_SECONDS)  # the engine that has the lock takes the sockets, and ends this process
        return 0 if config.idle_timeout_seconds is not None else _complain(error)
    except TeulError as error:
        return _complain(error)
    return 0


def _listeners_by_host(config: EngineConfig, listeners: list[socket.socket]) -> dict[str, socket.socket]:
    """Those that this process was started with, or else those that the door of an engine of the same root holds."""
    if listeners:
        forget_record(config.run_root)
        return dict(zip(config.hosts, listeners, strict=True))
    return take_from_door(config.run_root, config.hosts)


def _shorten_log() -> None:
    """Begin the log anew when it has become long: of an engine on demand, it is a file that nobody else looks after."""
    status = os.fstat(2)
    if stat.S_ISREG(status.st_mode) and status.st_size > _LOG_LIMIT_BYTES:
        os.ftruncate(2, 0)


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


async def _serve(config: EngineConfig, listeners: dict[str, socket.socket], signals: list[int]) -> list[socket.socket]:
    """What is returned are the sockets that are to outlive the engine; `signals` gets those that tell it to end meanwhile."""
    # Imported here: the loser of a race for the lock needs none of it.
    from teul.daemon.engine import Engine

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def tell(number: int) -> None:
        signals.append(number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, tell, number)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)
    async with Engine(config, listeners) as engine:
        return await engine.serve(stop)
