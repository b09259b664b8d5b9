"""The composition root: every part of the engine, made and ended in order."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import socket
import ssl
from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import Self, TypeVar

from teul import __version__
from teul.aio import SlowWork, Tasks, run_blocking
from teul.api.app import create_app
from teul.api.http.connection import Runner
from teul.api.http.context import Services
from teul.api.http.origin import own_names
from teul.daemon.activity import Activity
from teul.daemon.config import DIRECTORY, EROFS, EngineConfig
from teul.daemon.disk_reserve import DiskReserve
from teul.daemon.entrance import Entrance
from teul.daemon.listeners import load_tls
from teul.daemon.notes import engine_id, has_rebooted, relieved
from teul.daemon.snapshotter import choose_snapshotter
from teul.daemon.use_cases import Core, Registries
from teul.linux import cgroups, process, seccomp
from teul.network.agent.client import NetworkAgent
from teul.network.agent.relays import AgentRelays
from teul.network.host import HostNetwork
from teul.network.ipam import DEFAULT_POOLS, local_pool
from teul.network.names import names_for_root
from teul.oci.digest import Digest
from teul.plugins.registry import Plugins
from teul.registry.client.registry_client import RegistryClient
from teul.registry.endpoints import parse_registries
from teul.registry.transport import Options
from teul.runtime.engine.supervisor import Supervisor
from teul.services.containers.bundle import remove_bundle
from teul.services.containers.directories import EngineDirectories, sweep
from teul.services.containers.execs import Execs
from teul.services.containers.health import HealthChecks
from teul.services.containers.launch import Launcher
from teul.services.containers.lifecycle import Lifecycle
from teul.services.containers.links import Links
from teul.services.containers.lowest_layer import make_lowest_layer
from teul.services.containers.names import Names
from teul.services.containers.network_files import NetworkFiles
from teul.services.containers.registry import ContainerRegistry
from teul.services.containers.removal import Removal
from teul.services.containers.renewal import Renewals
from teul.services.containers.run import Runs
from teul.services.containers.service import Containers
from teul.services.containers.supervision import Supervision
from teul.services.containers.volumes import ContainerVolumes
from teul.services.events import Events
from teul.services.host import gather_host_facts
from teul.services.images.origins import BlobOrigins
from teul.services.images.pull import ImagePuller
from teul.services.images.push import ImagePusher
from teul.services.images.registries import RemoteRegistries
from teul.services.images.service import Images
from teul.services.images.store import ImageStore
from teul.services.networks.relays import Relays
from teul.services.networks.service import Networks
from teul.services.system import EngineFacts, System, exposure_warnings
from teul.services.usage import Usage
from teul.services.volumes.drivers import Drivers, LocalDriver
from teul.services.volumes.local import VolumeFiles
from teul.services.volumes.service import Volumes
from teul.services.watching import DirectoryWatcher
from teul.store.ballast import Ballast
from teul.store.metadata.database import Database
from teul.store.workspace import Workspace

T = TypeVar("T")

_BALLAST_SECONDS = 5.0

log = logging.getLogger(__name__)


class Engine:
    """A running engine; made with `async with`."""

    def __init__(self, config: EngineConfig, inherited: Mapping[str, socket.socket]) -> None:
        """`inherited` are listening sockets by their address in the configuration."""
        self._config = config
        self._inherited = inherited
        self._entrance: Entrance | None = None
        self._leaves_names = config.finds_listeners
        self._stack = contextlib.AsyncExitStack()
        self._activity = Activity(on_quiet=process.give_back_memory)
        self._containers: Containers | None = None
        self._launcher: Launcher | None = None
        self._snapshotter = DIRECTORY
        self._ballasting: asyncio.Task[None] | None = None
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

    async def serve(self, stop: asyncio.Event) -> list[socket.socket]:
        """Return when `stop` is set, or the engine has been idle for as long as its configuration says.

        What is returned are the listening sockets that are to outlive it: those of an engine on demand that leaves by itself. The caller
        owns them, and clients wait in them.
        """
        timeout_seconds = self._config.idle_timeout_seconds
        left: list[socket.socket] = []
        if timeout_seconds is None:
            await stop.wait()
            return left
        async with Tasks() as tasks:
            tasks.start(self._stop_when_idle(timeout_seconds, stop, left), name="idle exit")
            await stop.wait()
        return left

    async def _stop_when_idle(self, timeout_seconds: float, stop: asyncio.Event, left: list[socket.socket]) -> None:
        assert self._entrance is not None
        while True:
            await self._activity.wait_until_idle(timeout_seconds, self._is_busy)
            await self._entrance.shut()
            if not self._activity.in_use and not self._is_busy():
                break
            await self._entrance.open()  # somebody came at the last moment, and has begun something
        if self._config.on_demand:
            left += [listener.dup() for listener in self._entrance.listeners]
            self._leaves_names = True
        stop.set()

    def _is_busy(self) -> bool:
        return self._containers is not None and self._containers.running() > 0

    async def _open(self) -> None:
        config, stack = self._config, self._stack
        slow, tasks = await self._begin()
        supervisor = await self._open_supervisor(tasks)
        ballast = Ballast(f"{config.root}/ballast")
        database = await self._open_database(ballast)
        layout = await run_blocking(cgroups.detect)
        events, image_usage = Events(), Usage[Digest]()
        image_store = await self._open_image_store(database, ballast, slow)
        registries = await self._open_registries(image_store, events)
        images, network_usage, volume_usage = Images(image_store, events, image_usage), Usage[str](), Usage[str]()
        volumes = await self._open_volumes(database, volume_usage, events, slow=slow, tasks=tasks)
        runs, agent = Runs(), NetworkAgent(tasks, config.run_root)
        networks = await self._open_networks(database, network_usage, events, _relays_of(agent, tasks, runs))
        stack.push_async_callback(self._leave_host)
        registry = ContainerRegistry(database, image_usage=image_usage, network_usage=network_usage, volume_usage=volume_usage)
        await registry.open()
        files = NetworkFiles(EngineDirectories(config.root, config.run_root))
        links = Links(registry, runs, files, networks.linked)
        launcher = self._launcher = await self._make_launcher(
            layout, images, networks, supervisor, volumes=volumes, runs=runs, registry=registry, links=links
        )
        container_volumes = ContainerVolumes(volumes, images, launcher.directories)
        removal = Removal(
            registry,
            runs,
            directories=launcher.directories,
            images=images,
            volumes=container_volumes,
            endpoints=networks.endpoints,
            events=events,
            tasks=tasks,
            slow=slow,
        )
        names = Names(registry, runs, networks, agent)
        supervision = Supervision(registry, runs, launcher=launcher, removal=removal, names=names, events=events, tasks=tasks)
        lifecycle = Lifecycle(registry, runs, launcher=launcher, removal=removal, supervision=supervision, events=events, slow=slow)
        containers = self._containers = self._open_containers(
            registry, runs, launcher, images, volumes=container_volumes, names=names, events=events, slow=slow
        )
        await self._sweep(launcher, registry, images)
        execs = Execs(registry, runs, launcher=launcher, supervisor=supervisor, events=events, tasks=tasks)
        health = HealthChecks(registry, runs, lifecycle=lifecycle, execs=execs, events=events, tasks=tasks)
        await self._take_over(registry, supervision, networks, volumes, links)
        await names.open()
        stack.push_async_callback(agent.close)
        stack.callback(supervision.close)
        stack.push_async_callback(tasks.cancel)  # before what the tasks use is closed
        health.resume()
        renewals = await self._open_renewals(registry, containers, lifecycle, images, names=names, links=links, events=events, tasks=tasks)
        core = Core(
            registry,
            runs,
            launcher,
            lifecycle,
            containers,
            execs,
            images,
            networks,
            volumes,
            container_volumes,
            files=files,
            links=links,
            names=names,
            events=events,
            renewals=renewals,
        )
        system = System(await self._gather_facts(ballast, layout), containers, images, events)
        services = core.services(image_store, image_usage, registries, system)
        await self._listen(services)
        self._keep_ballast(ballast, tasks)
        await supervision.start_by_policy(rebooted=await run_blocking(has_rebooted, ballast, config.root))

    async def _begin(self) -> tuple[SlowWork, Tasks]:
        """What comes before the host is touched."""
        if self._config.tls is not None:
            self._tls = await run_blocking(load_tls, self._config.tls)  # a wrong path is the likeliest mistake
        # security: what is in this process's memory (registry passwords, keys) is nobody else's business.
        process.prctl(process.PR_SET_DUMPABLE, 0)
        slow = await self._stack.enter_async_context(SlowWork())
        tasks = await self._stack.enter_async_context(Tasks())
        process.share_malloc_arena()
        return slow, tasks

    async def _take_over(
        self, registry: ContainerRegistry, supervision: Supervision, networks: Networks, volumes: Volumes, links: Links
    ) -> None:
        """Find the containers that run, and take from the host what belongs to none of them."""
        await supervision.open()
        # Not before it is known who runs: an engine that was killed in a start has left a container whose record says "created".
        live = [container for container in registry.all() if container.state.counts_as_running]
        await networks.sweep(live)
        await links.sweep()
        await volumes.sweep(live)

    async def _make_launcher(
        self,
        layout: cgroups.Layout,
        images: Images,
        networks: Networks,
        supervisor: Supervisor,
        *,
        volumes: Volumes,
        runs: Runs,
        registry: ContainerRegistry,
        links: Links,
    ) -> Launcher:
        config = self._config
        return Launcher(
            EngineDirectories(config.root, config.run_root),
            cgroup_parent=config.cgroup_parent,
            layout=layout,
            host=replace(await run_blocking(gather_host_facts, layout), runtimes=config.runtimes, cdi_directories=config.cdi_directories),
            images=images,
            networks=networks,
            volumes=volumes,
            supervisor=supervisor,
            runs=runs,
            find_container=registry.find,
            links=links,
        )

    async def _open_supervisor(self, tasks: Tasks) -> Supervisor:
        supervisor = Supervisor(tasks)
        await supervisor.open()
        self._stack.push_async_callback(supervisor.close)
        return supervisor

    async def _open_database(self, ballast: Ballast) -> Database:
        database = await run_blocking(Database, f"{self._config.root}/teul.db", relieve=ballast.release)
        self._stack.push_async_callback(run_blocking, database.close)
        return database

    async def _gather_facts(self, ballast: Ballast, layout: cgroups.Layout) -> EngineFacts:
        config = self._config
        return EngineFacts(
            engine_id=await run_blocking(relieved, ballast, engine_id, config.root),
            version=__version__,
            root=config.root,
            run_root=config.run_root,
            snapshotter=self._snapshotter,
            cgroups=layout,
            hosts=config.hosts,
            seccomp=seccomp.is_available(),
            debug=config.debug,
            log_driver=config.log_defaults.type,
            tls=config.tls is not None,
            tls_verify=config.tls is not None and config.tls.verify,
            runtimes=config.runtimes,
            cdi_directories=config.cdi_directories,
        )

    async def _open_registries(self, store: ImageStore, events: Events) -> Registries:
        config = self._config
        known = parse_registries(mirrors=config.registry_mirrors, insecure=config.insecure_registries)
        client = await self._stack.enter_async_context(RegistryClient(Options(known, config.certificate_directories, config.proxies)))
        origins = BlobOrigins()
        return Registries(
            ImagePuller(store, client, events, origins), ImagePusher(store, client, events, origins), RemoteRegistries(client)
        )

    async def _open_image_store(self, database: Database, ballast: Ballast, slow: SlowWork) -> ImageStore:
        workspace = Workspace(f"{self._config.root}/tmp", slow)
        await run_blocking(workspace.open)
        self._snapshotter = await run_blocking(choose_snapshotter, self._config.snapshotter, workspace.path, ballast)
        indexes, keeps_compressed = self._snapshotter == EROFS, self._config.keeps_compressed
        store = ImageStore(self._config.root, database, workspace, slow, indexes=indexes, keeps_compressed=keeps_compressed)
        await store.open()
        self._stack.push_async_callback(store.close)
        return store

    async def _open_volumes(self, database: Database, usage: Usage[str], events: Events, *, slow: SlowWork, tasks: Tasks) -> Volumes:
        files = VolumeFiles(f"{self._config.root}/volumes", f"{self._config.root}/tmp")
        drivers = Drivers(LocalDriver(files, slow), Plugins(self._config.plugin_directories))
        volumes = Volumes(database, drivers, usage, events, slow=slow, tasks=tasks)
        await volumes.open()
        return volumes

    async def _open_renewals(
        self,
        registry: ContainerRegistry,
        containers: Containers,
        lifecycle: Lifecycle,
        images: Images,
        *,
        names: Names,
        links: Links,
        events: Events,
        tasks: Tasks,
    ) -> Renewals:
        """Before anybody can ask for anything, and before restart policies are looked at, what was cut off is taken back."""
        renewals = Renewals(
            registry,
            containers=containers,
            lifecycle=lifecycle,
            images=images,
            names=names,
            links=links,
            events=events,
            tasks=tasks,
            keep_generations=self._config.keep_generations,
        )
        await renewals.resume()
        return renewals

    def _open_containers(
        self,
        registry: ContainerRegistry,
        runs: Runs,
        launcher: Launcher,
        images: Images,
        *,
        volumes: ContainerVolumes,
        names: Names,
        events: Events,
        slow: SlowWork,
    ) -> Containers:
        return Containers(
            registry,
            runs,
            launcher,
            images,
            volumes=volumes,
            names=names,
            events=events,
            watcher=self._open_watcher(),
            slow=slow,
            log_defaults=self._config.log_defaults,
        )

    def _open_watcher(self) -> DirectoryWatcher:
        watcher = DirectoryWatcher()
        self._stack.callback(watcher.close)
        return watcher

    async def _open_networks(self, database: Database, usage: Usage[str], events: Events, relays: Relays) -> Networks:
        config = self._config
        host = HostNetwork(names_for_root(config.root), settings_file=f"{config.run_root}/sysctls.json")
        pools = config.address_pools or DEFAULT_POOLS
        if not any(pool.base.version == 6 for pool in pools):
            pools = (*pools, local_pool(config.root))
        networks = Networks(
            database,
            host,
            usage,
            events,
            relays,
            pools=pools,
            default_bridge=config.default_bridge,
            published_ports=config.published_ports,
        )
        await networks.open()

        async def close() -> None:
            running = self._containers is not None and self._containers.running() > 0
            await networks.close(remove=not running)

        self._stack.push_async_callback(close)
        return networks

    def _keep_ballast(self, ballast: Ballast, tasks: Tasks) -> None:
        """Have the ballast made as soon as there is room for it, now and whenever it was given up."""
        loop = asyncio.get_running_loop()

        def on_release() -> None:
            loop.call_soon_threadsafe(begin)

        def begin() -> None:
            if self._ballasting is None or self._ballasting.done():
                self._ballasting = tasks.start(restore(), name="keep room for removals")

        async def restore() -> None:
            for attempt in itertools.count():
                if await run_blocking(ballast.restore):
                    return
                if attempt == 0:
                    log.warning("the disk that %s is on is full: there is no room kept for removals", self._config.root)
                await asyncio.sleep(_BALLAST_SECONDS)

        ballast.notify(on_release)
        begin()

    async def _leave_host(self) -> None:
        if self._launcher is not None:
            await run_blocking(self._launcher.remove_cgroup_parent)

    async def _sweep(self, launcher: Launcher, registry: ContainerRegistry, images: Images) -> None:
        """Make what all containers share, and remove what has no record: files, processes of containers that were being made when an
        engine died, and images without users.

        The host is looked at as well as the run root: of a container whose start was cut off early there may be a cgroup and nothing else.
        """
        await images.release_unused()
        await run_blocking(make_lowest_layer, launcher.directories.lowest_layer)
        known = {container.id for container in registry.all()}
        unknown = {*await run_blocking(sweep, launcher.directories, known), *(await run_blocking(launcher.cgroup_ids) - known)}
        for container_id in unknown:
            log.warning("ending container %s, of which there is no record", container_id)
            try:
                await run_blocking(launcher.end_cgroup, launcher.orphan_plan(container_id))
                await run_blocking(remove_bundle, launcher.directories, container_id)
            except OSError as error:
                log.error("something of container %s stays: %s", container_id, error)

    async def _listen(self, services: Services) -> None:
        app = create_app(services, names=own_names(self._config.hosts, node_name=os.uname().nodename))
        app.middlewares.append(self._activity.middleware())
        app.middlewares.append(DiskReserve(self._config.root, self._config.disk_reserve_bytes).middleware())
        runner = Runner(app)
        await runner.setup()
        entrance = self._entrance = Entrance(runner, self._config.hosts, self._inherited, self._tls)
        self._stack.push_async_callback(self._close_entrance, entrance)
        self._stack.push_async_callback(runner.cleanup)
        await entrance.open()
        for warning in exposure_warnings(services.system.facts):
            log.warning("%s", warning.removeprefix("WARNING: "))
        log.info("teul %s answers at %s", __version__, ", ".join(self._config.hosts))

    async def _close_entrance(self, entrance: Entrance) -> None:
        entrance.close()
        if not self._leaves_names:
            await run_blocking(entrance.remove_names)


def _relays_of(agent: NetworkAgent, tasks: Tasks, runs: Runs) -> Relays:
    relays = Relays(AgentRelays(agent), tasks, find_pidfd=runs.find_pidfd)
    agent.after_loss(relays.say_everything)
    return relays
