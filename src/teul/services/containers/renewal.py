"""Renewing containers: another container, of a newer image or with other options, takes the place of one, or nothing changes.

Everything is made before anything is stopped, for ports and static addresses are one container's only: the former container is stopped at
the last moment, the two exchange names, and the new one is started and watched for a while. Only then is the former one removed. If
anything fails on the way, the former one gets its name back, runs again, and the new one goes.

The intention stands in the new container's record (`Replacing`) from its creation until it is known to be good. So whatever kills an engine
in between, the next one knows what to take back (`resume`). A renewal is the engine's own task: a client that leaves does not stop it.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from teul import failpoints
from teul.aio import Tasks, run_to_end
from teul.errors import Conflict, InvalidParameter, NotFound, NotModified, Refusal, TeulError
from teul.model.container import Container, CreateContainer
from teul.model.image import Image
from teul.model.lifecycle import Status
from teul.model.network_config import NetworkingConfig
from teul.model.renewal import Generation, RenewRequest, Replacing, Settings
from teul.oci.digest import Digest
from teul.oci.platform import Platform
from teul.services.containers.generations import failed, find_generation, generations_of, kept_generations, succeeded
from teul.services.containers.lifecycle import Lifecycle
from teul.services.containers.links import Links
from teul.services.containers.names import Names
from teul.services.containers.registry import ContainerRegistry
from teul.services.containers.request.mounts import has_shallow_binds
from teul.services.containers.request.succession import (
    changed,
    describe_changes,
    needed_by,
    settings_of,
    without_auto_remove,
)
from teul.services.containers.service import Containers, Succession
from teul.services.containers.trial import Trial
from teul.services.events import Events, container_event
from teul.services.images.service import Images

log = logging.getLogger(__name__)

Tell = Callable[[str], None]

_HEALTHY_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Renewed:
    """How a renewal came out: the container that has the name now, and whether it is another one than before."""

    id: str
    renewed: bool


@dataclass(frozen=True, slots=True)
class Outdated:
    """A container whose image reference means another image by now."""

    container: Container
    image: Image


@dataclass(frozen=True, slots=True)
class _Plan:
    """One renewal: who is to be replaced, and by what."""

    former: Container
    image: Image
    reference: str
    settings: Settings
    before: Settings
    changes: Sequence[str] = ()
    timeout_seconds: int = _HEALTHY_SECONDS
    keep: bool = False
    was_running: bool = False


class Renewals:
    """The use cases. Used from the event loop only."""

    def __init__(
        self,
        registry: ContainerRegistry,
        *,
        containers: Containers,
        lifecycle: Lifecycle,
        images: Images,
        names: Names,
        links: Links,
        events: Events,
        tasks: Tasks,
        keep_generations: int,
    ) -> None:
        self._registry = registry
        self._containers = containers
        self._lifecycle = lifecycle
        self._images = images
        self._names = names
        self._links = links
        self._events = events
        self._tasks = tasks
        self._keep_generations = keep_generations
        self._trial = Trial(registry, containers, events)
        self._begun: set[str] = set()  # ids of those that are being replaced, also before a record says so

    # -- looking

    def history(self, reference: str) -> Sequence[Generation]:
        """The generations of the container's name, oldest first. Raises NotFound."""
        return generations_of(self._registry.get(reference))

    def outdated(self, containers: Sequence[Container]) -> list[Outdated]:
        """Those of `containers` whose image reference means another image by now. A reference that means none is not out of date."""
        found = []
        for container in containers:
            with suppress(NotFound, InvalidParameter):
                image = self._newest(container, container.image_reference)
                if str(image.image_id) != container.image_id:
                    found.append(Outdated(container, image))
        return found

    # -- changing

    async def renew(self, reference: str, request: RenewRequest, tell: Tell) -> Renewed:
        """Have another container take the place of this one; without changes and with the same image, only by `force`.

        `tell` gets a sentence about every step. Raises what is wrong with the request, and `Refusal` with the reason when the container is
        the former one still, or again. A caller that is cancelled does not stop it.
        """
        former = self._check(reference)
        image = self._newest(former, request.image or former.image_reference)
        changes = describe_changes(request)
        if str(image.image_id) == former.image_id and not changes and not request.force:
            return Renewed(former.id, renewed=False)
        if str(image.image_id) != former.image_id:
            changes.insert(0, f"image {image.image_id.short}")
        before = settings_of(former, lambda: self._images.of(former).config)
        plan = _Plan(
            former,
            image,
            request.image or former.image_reference,
            changed(before, request),
            before,
            changes,
            timeout_seconds=request.timeout or _HEALTHY_SECONDS,
            keep=request.keep,
            was_running=former.state.counts_as_running,
        )
        return await self._begin(plan, tell)

    async def roll_back(self, reference: str, number: int | None, request: RenewRequest, tell: Tell) -> Renewed:
        """As `renew`, to the image and the options of a former generation, the latest that is kept if there is no number."""
        former = self._check(reference)
        chosen = find_generation(former, number)
        assert chosen.settings is not None, "it is kept"
        image = self._images.get(Digest(chosen.image_id))
        if chosen.settings.manifest_digest:
            image = image.for_manifest(Digest(chosen.settings.manifest_digest))
        plan = _Plan(
            former,
            image,
            chosen.image_reference,
            chosen.settings,
            settings_of(former, lambda: self._images.of(former).config),
            [f"back to generation {chosen.number}"],
            timeout_seconds=request.timeout or _HEALTHY_SECONDS,
            keep=request.keep,
            was_running=former.state.counts_as_running,
        )
        return await self._begin(plan, tell)

    async def resume(self) -> None:
        """Take back what an earlier engine was in the middle of, and finish what it had decided. Each by itself; failures are logged."""
        for container in self._registry.all():
            try:
                if container.replacing is not None:
                    log.warning("the renewal of container %s was cut off: it is taken back", container.replacing.name)
                    await self._take_back(container, "the engine ended in the middle of it", ())
            except (TeulError, OSError, sqlite3.Error) as error:
                log.error("the renewal that %s came of could not be taken back: %s", container.name, error)
        for container in self._registry.all():
            try:
                if container.successor_id:
                    await self._settle(container)
            except (TeulError, OSError, sqlite3.Error) as error:
                log.error("container %s, which was replaced, stays for now: %s", container.name, error)

    def _check(self, reference: str) -> Container:
        container = self._registry.get(reference)
        if self._registry.is_unreadable(container.id):
            raise Conflict(f"container {container.id} cannot be renewed: {container.state.error}")
        if container.is_being_renewed or container.id in self._begun:
            raise Conflict(f"container {container.name} is being renewed already")
        match container.state.status:
            case Status.PAUSED:
                raise Conflict(f"container {container.name} is paused, unpause the container before it is renewed")
            case Status.REMOVING | Status.DEAD:
                raise Conflict(f"container {container.name} is marked for removal and cannot be renewed")
        other = needed_by(container, self._registry.all())
        if other is not None:
            raise Conflict(f"container {container.name} cannot be renewed: container {other.name} is tied to it by its id")
        return container

    def _newest(self, container: Container, reference: str) -> Image:
        """What `reference` means now, for the platform that the container has."""
        image = self._images.resolve(reference)
        descriptor = container.image_manifest
        if descriptor is None:
            return image
        if str(image.image_id) == container.image_id:
            return image.for_manifest(Digest(descriptor["digest"]))
        former = msgspec.convert(descriptor.get("platform") or {}, Platform)
        usual = image.chosen.platform
        return image if (former.os, former.architecture) == (usual.os, usual.architecture) else self._images.resolve(reference, former)

    async def _begin(self, plan: _Plan, tell: Tell) -> Renewed:
        if plan.timeout_seconds < 0:
            raise InvalidParameter(f"invalid timeout: {plan.timeout_seconds}")
        done: asyncio.Future[Renewed | TeulError] = asyncio.get_running_loop().create_future()
        self._begun.add(plan.former.id)
        self._tasks.start(self._carry_out(plan, tell, done), name=f"renew {plan.former.name}")
        outcome = await asyncio.shield(done)
        if isinstance(outcome, TeulError):
            raise outcome
        return outcome

    async def _carry_out(self, plan: _Plan, tell: Tell, done: asyncio.Future[Renewed | TeulError]) -> None:
        try:
            done.set_result(await self._outcome(plan, tell))
        finally:
            self._begun.discard(plan.former.id)
            if not done.done():
                done.cancel()  # the engine ends; the next one takes the rest back

    async def _outcome(self, plan: _Plan, tell: Tell) -> Renewed | TeulError:
        try:
            made = await self._make(plan)
        except TeulError as error:
            return error  # as it is: nothing has happened yet
        tell(f"Made container {made.id[:12]} of image {plan.image.image_id.short}")
        try:
            await self._replace(plan, made, tell)
        except Exception as error:
            if not isinstance(error, TeulError):
                log.exception("renewing container %s failed", plan.former.name)
            reason = error.message if isinstance(error, TeulError) else str(error)
            tell("Going back to the former container")
            return await self._give_up(plan, made, reason)
        return Renewed(made.id, renewed=True)

    async def _make(self, plan: _Plan) -> Container:
        """The new container, which is called as the former one will be while both are there."""
        former = plan.former
        self._images.get(plan.image.image_id)  # it may have gone since the plan was made
        aside = self._free_name(former.name)
        request = CreateContainer(
            name=aside,
            config=msgspec.structs.replace(plan.settings.config, image=plan.reference),
            host_config=plan.settings.host_config,
            networking=NetworkingConfig(endpoints_config=dict(plan.settings.attachments)),
            shallow_read_only=has_shallow_binds(former),
        )
        replacing = Replacing(predecessor_id=former.id, name=former.name, aside=aside, was_running=plan.was_running)
        succession = Succession(replacing, plan.image, plan.settings.mounts, plan.settings.attachments)
        created = await self._containers.create_successor(request, succession)
        return self._registry.get(created.id)

    async def _replace(self, plan: _Plan, made: Container, tell: Tell) -> None:
        former = plan.former
        failpoints.reach("containers.renew.created")
        await run_to_end(self._registry.change(former, successor_id=made.id))
        failpoints.reach("containers.renew.announced")
        if plan.was_running:
            tell(f"Stopping container {former.id[:12]}")
            with suppress(NotModified):  # it has ended meanwhile
                await self._lifecycle.stop(former.id)
        failpoints.reach("containers.renew.stopped")
        await self._exchange_names(former, made)
        failpoints.reach("containers.renew.exchanged")
        if plan.was_running:
            await self._lifecycle.start(made.id)
            failpoints.reach("containers.renew.started")
            tell(f"Started container {made.id[:12]}, waiting until it is known to be good")
            await self._trial.pass_(made, healthy_seconds=plan.timeout_seconds)
        dropped = await run_to_end(self._decide(plan, made))
        tell(f"Container {made.name} is {made.id[:12]} now")
        try:
            failpoints.reach("containers.renew.decided")
            await self._settle(former)
            for image_id in dropped:
                await self._images.release(Digest(image_id))
        except (TeulError, OSError, sqlite3.Error) as error:
            # The new one has the name for good; what is left of former ones can be removed by hand, and by the next engine.
            log.warning("container %s, which was replaced, stays for now: %s", former.name, error)
            tell(f"Container {former.id[:12]} stays for now: {error}")

    async def _decide(self, plan: _Plan, made: Container) -> set[str]:
        """Record that the new container is the one from now on. Returns the images that nothing holds any more on their account."""
        former = plan.former
        keep = kept_generations(made, self._keep_generations)
        held = set(former.image_ids)
        generations = succeeded(former, made, plan.before, changes=plan.changes, keep=keep, now_ns=time.time_ns())
        leaving = {"successor_id": "", "host_config": without_auto_remove(former.host_config)} if plan.keep else {}
        await self._registry.change_together(
            (made, {"replacing": None, "generations": generations}), (former, {"generations": [], **leaving}), frees=True
        )
        return held.difference(made.image_ids)

    async def _settle(self, former: Container) -> None:
        """Remove a container whose successor is known to be good; of one whose successor is not there any more only the mark goes."""
        if not former.successor_id:
            return
        successor = self._registry.find(former.successor_id)
        if successor is None:
            await run_to_end(self._registry.change(former, successor_id=""))
        elif successor.replacing is None:
            await self._lifecycle.remove(former.id, force=True)

    async def _give_up(self, plan: _Plan, made: Container, reason: str) -> TeulError:
        """Have the former container as it was, and say so."""
        try:
            await self._take_back(made, reason, plan.changes)
        except (TeulError, OSError, sqlite3.Error) as error:
            text = error.message if isinstance(error, TeulError) else str(error)
            return Refusal(f"container {plan.former.name} could not be renewed: {reason}; and it could not be taken back: {text}")
        held = "it runs as before" if plan.was_running else "it is as before"
        return Refusal(f"container {plan.former.name} could not be renewed, and {held}: {reason}")

    async def _take_back(self, made: Container, reason: str, changes: Sequence[str]) -> None:
        """End a new container that is not to be, give the former one its name, run it if it ran, and remove the new one. Idempotent.

        If the former one is gone (somebody has removed it) the new one stays.
        """
        replacing = made.replacing
        assert replacing is not None, made.name
        former = self._registry.find(replacing.predecessor_id)
        is_there = self._registry.exists(made.id)
        if former is None:
            if is_there:
                await run_to_end(self._registry.change(made, replacing=None))
            return
        if is_there and made.state.counts_as_running:
            with suppress(NotModified, NotFound):
                await self._lifecycle.stop(made.id, timeout_seconds=0)
        failpoints.reach("containers.renew.ended")
        await self._return_name(former, made, replacing)
        await run_to_end(self._forgive(former, made, reason, changes))
        failpoints.reach("containers.renew.returned")
        try:
            if replacing.was_running and not former.state.counts_as_running:
                with suppress(NotModified):
                    await self._lifecycle.start(former.id)
                failpoints.reach("containers.renew.restarted")
        finally:
            if self._registry.exists(made.id):
                with suppress(NotFound):
                    await self._lifecycle.remove(made.id, force=True, volumes=True)

    async def _forgive(self, former: Container, made: Container, reason: str, changes: Sequence[str]) -> None:
        """Note in the former container's record what became of the attempt."""
        first_line = reason.partition("\n")[0]
        generations = failed(former, made, reason=first_line, changes=changes, now_ns=time.time_ns())
        await self._registry.change_together((former, {"generations": generations, "successor_id": ""}), frees=True)

    async def _return_name(self, former: Container, made: Container, replacing: Replacing) -> None:
        if former.name != replacing.aside:
            return  # they have not exchanged names yet, or not any more
        if self._registry.exists(made.id) and made.name == replacing.name:
            await self._exchange_names(former, made)
        elif self._registry.find(replacing.name) is None:
            # The new one was removed, by somebody, and its name with it.
            await self._containers.rename(former.id, replacing.name)

    async def _exchange_names(self, one: Container, other: Container) -> None:
        await run_to_end(self._exchange_to_end(one, other))

    async def _exchange_to_end(self, one: Container, other: Container) -> None:
        old_names = one.name, other.name
        await self._registry.change_together((one, {"name": old_names[1]}), (other, {"name": old_names[0]}))
        for container, old_name in zip((one, other), old_names, strict=True):
            await self._links.renamed(container)
            await self._names.changed(container, container.endpoints)
            self._events.publish(container_event(container, "rename", oldName=f"/{old_name}"))

    def _free_name(self, name: str) -> str:
        number = 1
        while self._registry.find(f"{name}-{number}") is not None:
            number += 1
        return f"{name}-{number}"
