"""The composition root: every part of the engine, made and ended in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
import uuid
from types import TracebackType
from typing import Self

from aiohttp import web

from teul import __version__
from teul.aio import Tasks, run_blocking
from teul.api.app import create_app
from teul.api.http.connection import Runner
from teul.api.http.context import Services
from teul.api.http.tls import TlsSite
from teul.daemon.activity import Activity
from teul.daemon.config import EngineConfig
from teul.daemon.listeners import load_tls, open_listener
from teul.linux import cgroups, process, seccomp
from teul.model.container import Container
from teul.network.host import HostNetwork
from teul.network.names import names_for_root
from teul.oci.digest import Digest
from teul.runtime.engine.supervisor import Supervisor
from teul.services.containers.bundle import remove_bundle
from teul.services.containers.directories import EngineDirectories, sweep
from teul.services.containers.execs import Execs
from teul.services.containers.filesystem import Filesystems
from teul.services.containers.health import HealthChecks
from teul.services.containers.launch import Launcher
from teul.services.containers.registry import ContainerRegistry
from teul.services.containers.resources import ContainerResources
from teul.services.containers.service import Containers
from teul.services.events import Events
from teul.services.host import gather_host_facts
from teul.services.images.service import Images, ImageUser
from teul.services.networks.service import Networks
from teul.services.system import EngineFacts, System, exposure_warnings
from teul.store.metadata.database import Database

log = logging.getLogger(__name__)


class Engine:
    """A running engine; made with `async with`."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._stack = contextlib.AsyncExitStack()
        self._activity = Activity(on_quiet=process.give_back_memory)
        self._containers: Containers | None = None
        self._launcher: Launcher | None = None
        self._tls: ssl.SSLContext | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        await self._stack.aclose()

    async def serve(self, stop: asyncio.Event) -> None:
        """Return when `stop` is set, or the engine has been idle for as long as its configuration says."""
        timeout_seconds = self._config.idle_timeout_seconds
        if timeout_seconds is None:
            await stop.wait()
            return
        async with Tasks() as tasks:
            tasks.start(self._stop_when_idle(timeout_seconds, stop), name="idle exit")
            await stop.wait()

    async def _stop_when_idle(self, timeout_seconds: float, stop: asyncio.Event) -> None:
        await self._activity.wait_until_idle(timeout_seconds, lambda: self._containers is not None and self._containers.running() > 0)
        stop.set()

    async def _open(self) -> None:
        config, stack = self._config, self._stack
        if config.tls is not None:
            self._tls = await run_blocking(load_tls, config.tls)  # before anything is touched: a wrong path is the likeliest mistake
        # security: what is in this process's memory (registry passwords, keys) is nobody else's business.
        process.prctl(process.PR_SET_DUMPABLE, 0)
        tasks = await stack.enter_async_context(Tasks())
        process.share_malloc_arena()
        supervisor = Supervisor(tasks)
        await supervisor.open()
        stack.push_async_callback(supervisor.close)
        database = await run_blocking(Database, f"{config.root}/teul.db")
        stack.push_async_callback(run_blocking, database.close)
        layout = await run_blocking(cgroups.detect)
        events = Events()
        images = Images(config.root, database, events)
        await images.open()
        stack.push_async_callback(images.close)
        networks = await self._open_networks(database)
        stack.push_async_callback(self._leave_host)
        registry = ContainerRegistry(database)
        await registry.open()
        networks.containers = registry.all
        launcher = self._launcher = Launcher(
            EngineDirectories(config.root, config.run_root),
            cgroup_parent=config.cgroup_parent,
            layout=layout,
            host=await run_blocking(gather_host_facts, layout),
            images=images,
            networks=networks,
            supervisor=supervisor,
            find_container=registry.find,
        )
        containers = self._containers = Containers(registry, launcher, images, events, tasks)
        images.in_use = lambda image_id: _users(containers, image_id)
        await images.release_unused()
        await self._sweep(launcher, registry, networks)
        execs = Execs(containers, launcher, supervisor, events, tasks)
        health = HealthChecks(containers, execs, registry, events, tasks)
        await containers.open()
        stack.callback(containers.close)
        stack.push_async_callback(tasks.cancel)  # before what they use is closed
        filesystems = Filesystems(containers, launcher, images, events)
        resources = ContainerResources(containers, registry, launcher, events)
        health.resume()
        facts = EngineFacts(
            engine_id=await run_blocking(_engine_id, config.root),
            version=__version__,
            root=config.root,
            run_root=config.run_root,
            cgroups=layout,
            hosts=config.hosts,
            seccomp=seccomp.is_available(),
            debug=config.debug,
            tls=config.tls is not None,
            tls_verify=config.tls is not None and config.tls.verify,
        )
        system = System(facts, containers, images, events)
        await self._listen(Services(containers, filesystems, execs, images, networks, events, system, resources))
        await containers.start_by_policy(rebooted=await run_blocking(_note_boot, config.root))

    async def _open_networks(self, database: Database) -> Networks:
        config = self._config
        networks = Networks(database, HostNetwork(names_for_root(config.root)))
        await networks.open()

        async def close() -> None:
            running = self._containers is not None and self._containers.running() > 0
            await networks.close(remove=not running)

        self._stack.push_async_callback(close)
        return networks

    async def _leave_host(self) -> None:
        if self._launcher is not None:
            await run_blocking(self._launcher.remove_cgroup_parent)

    async def _sweep(self, launcher: Launcher, registry: ContainerRegistry, networks: Networks) -> None:
        """Remove what has no record: files, and processes of containers that were being made when an engine died."""
        known = {container.id for container in registry.all()}
        for container_id in await run_blocking(sweep, launcher.directories, known):
            log.warning("ending container %s, of which there is no record", container_id)
            plan = launcher.orphan_plan(container_id)
            await run_blocking(cgroups.kill, plan)
            await run_blocking(cgroups.remove, plan)
            await run_blocking(remove_bundle, launcher.directories, container_id)
        await networks.sweep({container.id for container in registry.all() if container.state.counts_as_running})

    async def _listen(self, services: Services) -> None:
        app = create_app(services)
        app.middlewares.append(self._activity.middleware())
        runner = Runner(app)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        for host in self._config.hosts:
            listener = await run_blocking(open_listener, host)
            if listener.family == socket.AF_UNIX:
                self._stack.push_async_callback(run_blocking, _unlink_quietly, host.removeprefix("unix://"))
            tls = None if listener.family == socket.AF_UNIX else self._tls
            await (web.SockSite(runner, listener) if tls is None else TlsSite(runner, listener, tls)).start()
        for warning in exposure_warnings(services.system.facts):
            log.warning("%s", warning.removeprefix("WARNING: "))
        log.info("teul %s answers at %s", __version__, ", ".join(self._config.hosts))


def _users(containers: Containers, image_id: Digest) -> list[ImageUser]:
    def uses(container: Container) -> bool:
        return container.image_id == str(image_id)

    return [ImageUser(container.id, container.state.counts_as_running) for container in containers.list() if uses(container)]


def _unlink_quietly(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _note_boot(root: str) -> bool:
    """Whether the machine was started anew since an engine last had this root."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        boot_id = file.read()
    path = f"{root}/boot-id"
    try:
        with open(path, encoding="ascii") as file:
            if file.read() == boot_id:
                return False
    except FileNotFoundError:
        pass  # the first engine here
    with open(path, "w", encoding="ascii") as file:
        file.write(boot_id)
    return True


def _engine_id(root: str) -> str:
    """Made once per root."""
    path = f"{root}/engine-id"
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except FileNotFoundError:
        identifier = str(uuid.uuid4())
        with open(path, "w", encoding="ascii") as file:
            file.write(identifier + "\n")
        return identifier
