"""Whether what is stored is what it was: every blob and archive against its digest, every index against its archive, files against records.

Nothing is held up by a check. What is read is hashed in threads, and indexes are made again by workers; what was stored or removed while it
was looked at is no damage. An unpacked layer is unpacked once more for the comparison, if its blob is whole. It is not repaired: containers
that run stand on its files by their paths.
"""

from __future__ import annotations

import asyncio
import filecmp
import os
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

from teul.aio import run_to_end
from teul.errors import Conflict, TeulError
from teul.oci.digest import Digest, find_digest
from teul.services.images.damage import ABSENT, Finding, Kind, Outcome, Owners, Progress, Sums
from teul.services.images.repair import Repair
from teul.services.images.store import ImageStore
from teul.store.atomic import remove_tree
from teul.store.layer_files import ARCHIVE_FILE, FILES_DIRECTORY, INDEX_FILE
from teul.store.metadata.images import Rows
from teul.store.tree_compare import first_difference
from teul.workers.layers import Limits

_LAYER_FILES = (ARCHIVE_FILE, INDEX_FILE, FILES_DIRECTORY)

Report = Finding | Progress | Outcome


class ImageCheck:
    """Checks of all that is stored. One instance per engine."""

    def __init__(self, store: ImageStore, *, limits: Limits | None = None) -> None:
        self._store = store
        self._limits = limits or Limits()
        self._alone = asyncio.Lock()

    def run(self, *, repair: bool = False) -> AsyncGenerator[Report, None]:
        """Look at everything: what is found as it is found, progress in between, and at the end the outcome.

        With `repair` what can be had again is, and what nothing refers to is removed. May be cancelled; what is repaired by then stays so.
        Raises Conflict while another check runs.
        """
        if self._alone.locked():
            raise Conflict("a check is already running")
        return self._run(repair=repair)

    async def _run(self, *, repair: bool) -> AsyncGenerator[Report, None]:
        async with self._alone:
            async with self._store.unchanged():  # or an image that is just being stored would count as left out of the catalog
                check = _Check(self._store, self._limits, await self._store.recorded(), repair=repair)
            blobs, layers = check.blobs, check.layers
            total = len(blobs) + len(layers)
            for number, digest in enumerate(blobs):
                await check.look_at_blob(digest)
                yield Progress(number + 1, total)
            findings: list[Finding] = []
            for number, diff_id in enumerate(layers):
                for finding in await check.layer(diff_id):
                    findings.append(finding)
                    yield finding
                yield Progress(len(blobs) + number + 1, total)
            for finding in (*await check.damaged_blobs(), *check.damaged_images(), *await check.unknown_files()):
                findings.append(finding)
                yield finding
            repaired = sum(bool(finding.repaired) for finding in findings)
            yield Outcome(len(blobs), sum(map(len, layers.values())), len(findings), repaired)


@dataclass(slots=True)
class _Forms:
    """The layers of one archive: indexed ones whose archive is `sound`, or `broken` and why; those that are not there; unpacked ones."""

    sound: list[Digest] = field(default_factory=list)
    broken: dict[Digest, str] = field(default_factory=dict)
    missing: list[Digest] = field(default_factory=list)
    unpacked: list[Digest] = field(default_factory=list)


class _Check:
    """One check."""

    def __init__(self, store: ImageStore, limits: Limits, recorded: Rows, *, repair: bool) -> None:
        self._store = store
        self._repairs = repair
        self._sums = Sums(store.slow)
        self._damaged: dict[Digest, str] = {}
        self._archives: dict[Digest, str] = {}  # where there is a whole archive, by diff id
        self._repair = Repair(store, limits, self._damaged)
        self._owners = Owners(store.catalog, recorded)
        self._left_out = [row.image_id for row in recorded.images if row.image_id not in store.catalog.images]
        self.blobs = sorted(recorded.blobs)
        self.layers: dict[Digest, list[Digest]] = {}
        for row in recorded.snapshots:
            self.layers.setdefault(row.diff_id, []).append(row.chain_id)

    async def look_at_blob(self, digest: Digest) -> None:
        why = await self._sums.verdict(self._store.content.path(digest), digest)
        if why and digest in self._store.catalog.blobs:
            self._damaged[digest] = why

    async def layer(self, diff_id: Digest) -> list[Finding]:
        """What is wrong with the layers of one archive. All their archives have to be looked at, and a whole one is the measure."""
        try:
            return await self._layer(diff_id)
        except FileNotFoundError:
            return await self._layer(diff_id)  # something was removed while it was looked at: by now the catalog says so

    async def _layer(self, diff_id: Digest) -> list[Finding]:
        forms = await self._forms(diff_id)
        async with self._store.workspace.directory() as place:
            findings = []
            stale: list[Digest] = []
            made: tuple[str, str] | None = None
            if forms.sound:
                archive = self._file(forms.sound[0], ARCHIVE_FILE)
                self._archives[diff_id] = archive
                directory = os.path.join(place, "index")
                try:
                    if await self._repair.remake_index(archive, diff_id, directory):
                        made = directory, "restored from the same layer of another image"
                        stale = await self._store.slow.run(self._stale, forms.sound, directory)
                except TeulError as error:
                    findings.append(self._finding("index", diff_id, forms.sound, INDEX_FILE, f"it cannot be checked: {error.message}"))
            elif forms.broken and self._repairs:
                made = await self._repair.remake_archive(diff_id, place)
            if forms.broken:
                repaired = await self._exchange([*forms.broken], made)
                if not repaired and self._repairs:
                    repaired = await self._drop(list(forms.broken))
                elif repaired:
                    self._archives[diff_id] = self._file(next(iter(forms.broken)), ARCHIVE_FILE)
                why = next(iter(forms.broken.values()))
                findings.append(self._finding("archive", diff_id, list(forms.broken), ARCHIVE_FILE, why, repaired=repaired))
            if stale and made is not None:
                there = INDEX_FILE in await self._store.slow.run(self._present, stale[0])
                why = "it is not the one that its archive gives" if there else ABSENT
                repaired = await self._exchange(stale, (made[0], "made again from its archive"))
                findings.append(self._finding("index", diff_id, stale, INDEX_FILE, why, repaired=repaired))
            for chain_id in forms.missing:
                repaired = await self._repair.remake_layer(chain_id, diff_id, place) if self._repairs else ""
                if not repaired and self._repairs:
                    repaired = await self._drop([chain_id])
                findings.append(self._finding("layer", chain_id, [chain_id], "", ABSENT, repaired=repaired))
            return [*findings, *await self._unpacked(diff_id, forms.unpacked, place)]

    async def _unpacked(self, diff_id: Digest, chains: list[Digest], place: str) -> list[Finding]:
        """Those of the unpacked layers `chains` that are not what unpacking makes of their archive."""
        findings: list[Finding] = []
        try:
            again = await self._repair.unpack_again(diff_id, place) if chains else None
        except TeulError as error:
            return [self._finding("layer", chains[0], chains, FILES_DIRECTORY, f"it cannot be checked: {error.message}")]
        if again is None:
            return findings
        for chain_id in chains:
            try:
                path = await self._store.slow.run(first_difference, again, self._file(chain_id, FILES_DIRECTORY))
                why = f"/{path} is not as in its archive" if path is not None else ""
            except OSError as error:
                why = f"its files cannot be read: {error.strerror}"
            if why and chain_id in self._store.catalog.snapshots:
                findings.append(self._finding("layer", chain_id, [chain_id], FILES_DIRECTORY, why))
        return findings

    async def damaged_blobs(self) -> list[Finding]:
        """To be asked for after the layers: an archive that was restored may be the blob."""
        findings = []
        for digest, why in self._damaged.items():
            if digest not in self._store.catalog.blobs:
                continue
            images, repaired = self._owners.of_blob(digest), ""
            if self._repairs:
                archives = [self._archives[digest]] if digest in self._archives else []
                repaired = await self._repair.restore_blob(digest, archives)
                repaired = repaired or await self._repair.drop(blob=digest, complete=not self._left_out)
            findings.append(Finding("blob", str(digest), self._store.content.path(digest), why, images, repaired))
        return findings

    def damaged_images(self) -> list[Finding]:
        """Images that were left out when the engine started."""
        path = self._store.content.path
        why = "its documents are damaged"
        return [Finding("image", str(image_id), path(image_id), why, self._owners.of_image(image_id)) for image_id in self._left_out]

    async def unknown_files(self) -> list[Finding]:
        """What lies among blobs and layers without a record."""

        async def look() -> list[Finding]:
            async with self._store.unchanged() as catalog:
                return await self._store.slow.run(self._unknown_files, set(catalog.blobs), set(catalog.snapshots))

        return await run_to_end(look())

    def _unknown_files(self, blobs: set[Digest], chains: set[Digest]) -> list[Finding]:
        layers = self._store.layers
        unknown = [path for path in self._store.content.files() if find_digest(":".join(path.split("/")[-2:])) not in blobs]
        unknown += [path for path in layers.places() if find_digest(f"sha256:{os.path.basename(path)}") not in chains]
        for chain_id in chains:
            directory = layers.place_of(chain_id)
            names = os.listdir(directory) if os.path.isdir(directory) else []
            unknown += [os.path.join(directory, name) for name in names if name not in _LAYER_FILES]
        findings = []
        for path in sorted(unknown):
            repaired = ""
            if self._repairs:
                remove_tree(path)
                repaired = "removed"
            findings.append(Finding("file", os.path.basename(path), path, "there is no record of it", (), repaired))
        return findings

    async def _forms(self, diff_id: Digest) -> _Forms:
        forms = _Forms()
        for chain_id in self.layers[diff_id]:
            present = await self._store.slow.run(self._present, chain_id)
            if FILES_DIRECTORY in present:
                forms.unpacked.append(chain_id)
                continue
            why = await self._sums.verdict(self._file(chain_id, ARCHIVE_FILE), diff_id)
            if chain_id not in self._store.catalog.snapshots:
                continue  # removed meanwhile
            if not present:
                forms.missing.append(chain_id)
            elif why:
                forms.broken[chain_id] = why
            else:
                forms.sound.append(chain_id)
        return forms

    def _present(self, chain_id: Digest) -> list[str]:
        return [name for name in _LAYER_FILES if os.path.exists(self._file(chain_id, name))]

    def _stale(self, chains: Sequence[Digest], directory: str) -> list[Digest]:
        """Those of `chains` whose index is another one than that in `directory`, or is not there."""
        made = os.path.join(directory, INDEX_FILE)
        found = []
        for chain_id in chains:
            try:
                if not filecmp.cmp(made, self._file(chain_id, INDEX_FILE), shallow=False):
                    found.append(chain_id)
            except OSError:
                found.append(chain_id)
        return [chain_id for chain_id in found if chain_id in self._store.catalog.snapshots]

    async def _exchange(self, chains: list[Digest], made: tuple[str, str] | None) -> str:
        if made is None or not self._repairs:
            return ""
        directory, what = made
        await self._repair.exchange(chains, directory)
        return what

    async def _drop(self, chains: list[Digest]) -> str:
        done = [await self._repair.drop(chain_id=chain_id, complete=not self._left_out) for chain_id in chains]
        return done[0] if all(done) else ""

    def _file(self, chain_id: Digest, name: str) -> str:
        return os.path.join(self._store.layers.place_of(chain_id), name)

    def _finding(self, kind: Kind, subject: Digest, chains: list[Digest], name: str, damage: str, *, repaired: str = "") -> Finding:
        path = self._file(chains[0], name).rstrip("/")
        return Finding(kind, str(subject), path, damage, self._owners.of_layers(set(chains)), repaired)
