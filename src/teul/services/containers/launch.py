"""Starting a container: from its record to a running process, and back to nothing when a step fails."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import msgspec

from teul import failpoints
from teul.aio import run_blocking, run_to_end, undoing
from teul.errors import Conflict, InvalidParameter, NotFound, Refusal, System, Unavailable
from teul.linux import cgroups, seccomp
from teul.linux.cgroups.usage import CgroupUsage, read_usage
from teul.linux.netlink.links import Plan as LinkPlan
from teul.model.container import Container
from teul.model.image import Image
from teul.model.network import BRIDGE, Network
from teul.model.network_config import EndpointSettings
from teul.model.runtime import OWN_NAMES
from teul.network.allocation import Allocation, with_gateways
from teul.oci.runtime_spec import NamespaceKind, Spec
from teul.runtime.child.calls import LAST_CALLS
from teul.runtime.engine import delegation
from teul.runtime.engine.process import Process
from teul.runtime.engine.supervisor import PendingAttachment, Supervisor
from teul.runtime.messages import PROCESS_FILE, Delegation, Joined, Launch
from teul.services.containers import bundle as bundles
from teul.services.containers.attachments import gateway_priorities
from teul.services.containers.cdi import edits_of
from teul.services.containers.devices import gather_devices
from teul.services.containers.directories import EngineDirectories
from teul.services.containers.links import Links
from teul.services.containers.log_plan import check_server, plan_log
from teul.services.containers.request.log_drivers import FORWARDING
from teul.services.containers.request.mounts import mounts_of
from teul.services.containers.run import Runs
from teul.services.containers.sources import check_propagation, make_bind_sources, open_sources
from teul.services.containers.spec.build import ContainerPaths, build_spec, cgroups_path
from teul.services.containers.spec.cdi import apply_edits
from teul.services.containers.spec.devices import asks_for_devices
from teul.services.containers.spec.links import Link, link_environment
from teul.services.containers.spec.namespaces import donor_problem, namespace_donors
from teul.services.containers.spec.network_files import render_container_files, uses_resolver
from teul.services.host import HostFacts
from teul.services.images.service import Images
from teul.services.networks.service import Networks
from teul.services.volumes.service import Volumes
from teul.store.atomic import replace_file


class Launcher:
    """Carries out starts. Keeps compiled seccomp filters by what they were compiled from."""

    def __init__(
        self,
        directories: EngineDirectories,
        *,
        cgroup_parent: str,
        layout: cgroups.Layout,
        host: HostFacts,
        images: Images,
        networks: Networks,
        volumes: Volumes,
        supervisor: Supervisor,
        runs: Runs,
        find_container: Callable[[str], Container | None],
        links: Links,
    ) -> None:
        self.directories = directories
        self.host = host
        self._layout = layout
        self._cgroup_parent = cgroup_parent
        self._images = images
        self.networks = networks
        self.volumes = volumes
        self.links = links
        self._supervisor = supervisor
        self._runs = runs
        self._find_container = find_container
        self._filters: dict[str, tuple[str, bool]] = {}

    async def launch(self, container: Container, attach: list[PendingAttachment]) -> Process:
        """Start PID 1 and note the endpoints in the record.

        Raises `StartError` and others; then nothing is left behind, nor is when the caller is cancelled before the program runs.
        """
        async with undoing(partial(self._give_back, container, attach), "and it could not be cleaned up"):
            return await self._start(container, attach)

    async def adopt(self, container_id: str) -> Process | None:
        """The process that an earlier engine started for this container; None if no such process is found.

        Raises `Integrity` where the bundle does not say how to find it.
        """
        bundle = self.directories.bundle(container_id)
        try:
            launch = await run_blocking(bundles.read_launch, bundle)
        except FileNotFoundError:
            return None
        return await self._supervisor.adopt(launch)

    async def clean_up(self, container: Container) -> None:
        """Give back what a run held outside of its process, all of it, if one of them fails. Idempotent."""
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(run_blocking, bundles.remove_bundle, self.directories, container.id)
            if container.host_config.runtime not in OWN_NAMES:
                stack.push_async_callback(run_blocking, self._end_delegation, container.id)
            stack.push_async_callback(self.volumes.unmount, container)
            stack.push_async_callback(self._release_addresses, container)
            stack.push_async_callback(self.networks.ports.release, container.id)

    async def _release_addresses(self, container: Container) -> None:
        await self.links.left(container)
        await self.networks.egress.release(container.id)
        await self.networks.endpoints.release(container.id)
        failpoints.reach("containers.cleanup.released")

    async def _give_back(self, container: Container, attach: list[PendingAttachment]) -> None:
        container.endpoints = {}
        for pending in attach:
            pending.connection.close()
        await self.clean_up(container)

    def began_at_ns(self, container_id: str) -> int:
        """When the run that the bundle is of had its process, 0 if it has had none. Blocking."""
        try:
            return os.stat(f"{self.directories.bundle(container_id)}/{PROCESS_FILE}").st_mtime_ns
        except FileNotFoundError:
            return 0

    async def end_unwatched(self, container: Container) -> None:
        """End the processes of a container that no monitor and no engine can watch over, found by their cgroup. Idempotent."""
        await run_blocking(self.end_cgroup, self.cgroup_plan(container))

    def cgroup_plan(self, container: Container) -> cgroups.Plan:
        """The container's cgroup, without its limits."""
        return cgroups.plan(self._layout, self._cgroups_path(container))

    def usage(self, container: Container) -> CgroupUsage:
        """What the container's cgroup uses now. Blocking. Raises FileNotFoundError when the cgroup is gone."""
        return read_usage(self._layout, self._cgroups_path(container))

    def has_cgroup(self, container: Container) -> bool:
        """Whether the container's cgroup is there. Blocking."""
        return any(os.path.exists(directory) for directory in self.cgroup_plan(container)["directories"])

    def change_limits(self, container: Container, resources: dict[str, Any]) -> None:
        """Set OCI `resources` on the container's living cgroup, all of them or none. Blocking. Raises `OSError`."""
        cgroups.update(self._layout, self.cgroup_plan(container), resources)

    def orphan_plan(self, container_id: str) -> cgroups.Plan:
        """The cgroup of a container of which there is no record any more."""
        return cgroups.plan(self._layout, f"{self._cgroup_parent}/{container_id}")

    def cgroup_ids(self) -> set[str]:
        """The ids of the containers that have a cgroup below the engine's own, by what is on the host. Blocking."""
        return cgroups.children(self._layout, self._cgroup_parent)

    def end_cgroup(self, plan: cgroups.Plan) -> None:
        """End whatever is in a cgroup that nobody watches over any more, and remove it. Blocking, idempotent. Raises `OSError`."""
        cgroups.kill(plan)
        cgroups.remove(plan)

    def remove_cgroup_parent(self) -> None:
        """Remove the engine's own cgroup when no container is in it. Blocking, idempotent."""
        cgroups.prune(self._layout, self._cgroup_parent)

    def image_size(self, container: Container) -> int:
        """Bytes of the image's layers; 0 for an image that is gone."""
        try:
            return self._images.of(container).size_bytes
        except NotFound:
            return 0

    def _cgroups_path(self, container: Container) -> str:
        return cgroups_path(container.host_config, self._cgroup_parent, container.id)

    async def _start(self, container: Container, attach: list[PendingAttachment]) -> Process:
        image = self._images.of(container)
        donors = self._donors(container)
        if container.host_config.log_config.type in FORWARDING:
            await run_blocking(check_server, plan_log(container, self.directories, self.host.hostname))
        if "network" in donors:
            # docker: a container that joins another's network takes its names as well.
            donor = donors["network"].config
            container.config.hostname, container.config.domainname = donor.hostname, donor.domainname
        await self.volumes.mount(container)
        networks = await self._allocate(container)
        links = self.links.of(container)
        await self.links.open_ports()
        with contextlib.ExitStack() as stack:
            # security: taken now, by the descriptor that the donor's own start has given us: its pid may be another process's by then.
            pidfds = [stack.enter_context(_duplicate(self._runs.of(donor.id).process, donor)) for donor in donors.values()]
            # To its end: a bundle that is still being written could not be given back.
            launch, mounts = await run_to_end(run_blocking(self._prepare, container, image, donors, networks, stack, links=links))
            return await self._supervisor.start(launch, attach=attach, donors=pidfds, mounts=mounts)

    def _donors(self, container: Container) -> dict[NamespaceKind, Container]:
        """The running containers whose namespaces this one joins. Raises in Docker's words, by `donor_problem`."""
        donors: dict[NamespaceKind, Container] = {}
        for kind, reference in namespace_donors(container.host_config).items():
            donor = self._find_container(reference)
            if donor is None:
                raise System(f"No such container: {reference}")
            if (problem := donor_problem(kind, donor, container)) is not None:
                raise problem
            donors[kind] = donor
        return donors

    async def _allocate(self, container: Container) -> list[LinkPlan]:
        """Give the container its endpoints, noted in its record; returns the links to make."""
        endpoints = self.networks.endpoints
        container.endpoints = {}
        allocations: list[Allocation] = []
        for network, settings in self._wanted_networks(container):
            if not network.has_links:
                container.endpoints[network.name] = endpoints.nominal(network, container.id)
                continue
            taken = [endpoint.interface for endpoint in container.endpoints.values()]
            allocation = await endpoints.allocate(network, container.id, requested=settings, taken=taken)
            container.endpoints[network.name] = allocation.endpoint
            allocations.append(allocation)
        priorities = gateway_priorities(container)
        try:
            container.endpoints = await self.networks.ports.assign(container, container.endpoints, priorities)
        except System as error:
            # docker: daemon/container_operations.go, errSetupNetworking.
            kind = Refusal if isinstance(error, Refusal) else System
            raise kind(f"failed to set up container networking: {error.message}") from error
        await self.networks.egress.assign(container, container.endpoints)
        publishing = [name for name, endpoint in container.endpoints.items() if endpoint.ports]
        return with_gateways(allocations, priorities, publishing=publishing)

    def _wanted_networks(self, container: Container) -> list[tuple[Network, EndpointSettings]]:
        """The networks of a container that starts, in the order of its interfaces; its record has their names from now on.

        docker: a network that is not there is missed when the container starts; but where an engine has no default bridge, a container
        that would be on it has loopback. Raises NoSuchNetwork.
        """
        mode = container.host_config.network_mode
        found: dict[str, tuple[Network, EndpointSettings]] = {}
        missing: dict[str, EndpointSettings] = {}
        for reference, settings in container.wanted_networks.items():
            if reference == BRIDGE and not self.networks.has(BRIDGE):
                missing[BRIDGE] = settings
                continue
            network = self.networks.get(reference)
            settings.network_id = network.id
            found[network.name] = network, settings
        main = self.networks.get(mode).name if mode in container.wanted_networks and mode not in missing else mode
        container.attachments = {**missing, **{name: settings for name, (_network, settings) in found.items()}}
        return [found[name] for name in sorted(found, key=lambda name: (name != main, name))]

    def _prepare(
        self,
        container: Container,
        image: Image,
        donors: dict[NamespaceKind, Container],
        networks: list[LinkPlan],
        owner: contextlib.ExitStack,
        *,
        links: list[Link],
    ) -> tuple[Launch, list[int]]:
        """Write everything on disk that the child will need; returns what the keeper needs: words, and mounts, which `owner` closes.

        Blocking.
        """
        make_bind_sources(mounts_of(container))
        check_propagation(mounts_of(container))
        sources = owner.enter_context(open_sources(mounts_of(container), self._images))
        lower = [*owner.enter_context(self._images.lower(image)), self.directories.lowest_layer]
        layers = [layer for layer in lower if isinstance(layer, int)]
        host_files = {"host_hosts": bundles.read_host_file("/etc/hosts"), "host_resolv_conf": bundles.read_host_file("/etc/resolv.conf")}
        bundle = bundles.make_bundle(self.directories, container.id, render_container_files(container, links=links, **host_files))
        network_donor = donors.get("network")
        paths = ContainerPaths(
            bundle=bundle,
            directory=self.directories.container(container.id),
            cgroup=self._cgroups_path(container),
            lower=[layers.index(layer) if isinstance(layer, int) else layer for layer in lower],
            network_files=self.directories.container(network_donor.id) if network_donor is not None else None,
        )
        spec = build_spec(
            container,
            self.host,
            paths,
            devices=gather_devices(container.host_config) if asks_for_devices(container.host_config) else None,
            donor_pids={kind: donor.state.pid for kind, donor in donors.items()},
            linked=link_environment(container.name, links),
        )
        # The child takes the compiled filter; the filter's source, which is long and which nobody would read, stays out of the bundle.
        # Another runtime compiles its own.
        runtime = self._delegation(container, bundle)
        profile = spec["linux"].pop("seccomp", None) if runtime is None else None
        if profile is not None:
            spec["teul"]["seccomp_bpf"], spec["teul"]["seccomp_forks"] = self._compiled_filter(profile)
            spec["teul"]["seccomp_flags"] = seccomp.filter_flags(profile)
        if sources:
            spec["teul"]["sources"] = {destination: len(layers) + number for number, destination in enumerate(sources)}
        for edits in edits_of(container.host_config.device_requests or (), self.host.cdi_directories):
            apply_edits(spec, edits)
        given = [*layers, *sources.values()]
        launch = self._describe(container, spec, networks, [*donors], mounts=len(given))
        if runtime is not None:
            launch["runtime"], launch["new_pids"] = runtime, False
        bundles.write_bundle_files(bundle, spec, launch)
        if container.endpoints:
            bundles.write_endpoints(bundle, container.endpoints)
        failpoints.reach("containers.start.bundle")
        return launch, given

    def _describe(self, container: Container, spec: Spec, networks: list[LinkPlan], joins: list[Joined], *, mounts: int) -> Launch:
        config = container.config
        pid = next((item for item in spec["linux"]["namespaces"] if item["type"] == "pid"), None)
        height, width = container.host_config.console_size
        return {
            "kind": "create",
            "id": container.id,
            "keyring": f"teul.{secrets.token_hex(16)}",
            "directory": self.directories.bundle(container.id),
            "spill_directory": self.directories.container(container.id),
            "terminal": config.tty,
            "rows": height,
            "columns": width,
            "stdin": "null" if not config.open_stdin else "once" if config.stdin_once else "open",
            "log": plan_log(container, self.directories, self.host.hostname),
            "cgroup": cgroups.plan(self._layout, spec["linux"]["cgroupsPath"], spec["linux"].get("resources")),
            "kill_cgroup": pid is None or bool(pid.get("path")),
            "new_pids": pid is not None and not pid.get("path"),
            "joins": joins,
            "mounts": mounts,
            "networks": networks,
            "resolver": uses_resolver(container),
        }

    def _delegation(self, container: Container, bundle: str) -> Delegation | None:
        """Who makes the container, if it is another runtime than Teul's own. Raises InvalidParameter, System."""
        name = container.host_config.runtime
        if not self.host.runtimes.has(name):
            raise InvalidParameter(f"unknown or invalid runtime name: {name}")  # docker: the engine has other options than it had then
        runtime = self.host.runtimes.find(name)
        if runtime is None:
            return None
        path = shutil.which(runtime.path)
        if path is None:
            raise System(
                "failed to create task for container: failed to create shim task: OCI runtime create failed: "
                f'unable to retrieve OCI runtime error: exec: "{runtime.path}": executable file not found in $PATH: unknown'
            )
        return {"name": name, "path": os.path.abspath(path), "root": f"{bundle}/runtime", "container": container.id}

    def _end_delegation(self, container_id: str) -> None:
        """Have the runtime that has made a container give back what it has of it. Blocking, idempotent."""
        try:
            launch = bundles.read_launch(self.directories.bundle(container_id))
        except (FileNotFoundError, bundles.DamagedBundle):
            return  # there is none, or it is gone in part: then its cgroup is all that is left, and ours
        if "runtime" in launch:
            delegation.delete(launch["runtime"])

    def _compiled_filter(self, profile: dict[str, Any]) -> tuple[str, bool]:
        """The path of the compiled filter, made once per profile and read by every child; and whether a process can fork under it."""
        name = hashlib.sha256(msgspec.json.encode(profile)).hexdigest()
        if name not in self._filters:
            path = f"{self.directories.run}/seccomp/{name}.bpf"
            os.makedirs(os.path.dirname(path), exist_ok=True)
            try:
                program = seccomp.compile_filter(profile)
            except seccomp.LibraryMissing as error:
                raise Unavailable(f"containers need libseccomp: {error.strerror}", hint="apt-get install libseccomp2") from error
            replace_file(path, program, 0o644, durable=False)
            self._filters[name] = path, seccomp.permits(program, LAST_CALLS)
        return self._filters[name]


@contextlib.contextmanager
def _duplicate(process: Process | None, donor: Container) -> Iterator[int]:
    """A pidfd of the donor's first process, for as long as the context lasts. Raises Conflict when it has ended."""
    if process is None or process.pidfd < 0:
        raise Conflict(f"cannot join a non running container: {donor.id}")
    pidfd = os.dup(process.pidfd)
    try:
        yield pidfd
    finally:
        os.close(pidfd)
