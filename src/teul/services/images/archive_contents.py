"""The members of an image archive by their names, after a worker took them out and measured them. Pure but for reading documents.

Every blob that is looked at is held against the digest in its name or descriptor. Errors are InvalidArchive.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable

from teul.oci.descriptor import Descriptor
from teul.oci.digest import Digest, find_digest
from teul.workers.client import InvalidArchive
from teul.workers.layers import Member

MANIFEST_FILE = "manifest.json"
INDEX_FILE = "index.json"
_DOCUMENTS = frozenset({MANIFEST_FILE, INDEX_FILE, "oci-layout", "repositories"})
_MAX_LINKS = 16
_HEX = re.compile(r"[0-9a-f]{64}")


class ArchiveContents:
    """The members of an archive by name. Names are normalized; one that leads out of the archive is refused.

    What `find_stored` finds counts as a member where the archive has no blob of that digest.
    """

    def __init__(self, read: Callable[[Member], bytes], *, find_stored: Callable[[Digest], Member | None] | None = None) -> None:
        self._read = read
        self._find_stored = find_stored
        self._members: dict[str, Member] = {}

    def add(self, member: Member) -> None:
        """As in any tar archive a later member replaces an earlier one of its name. A second document raises `InvalidArchive`."""
        name = _inside(member.name)
        if name in _DOCUMENTS and name in self._members:
            raise InvalidArchive(f"invalid archive: duplicate {name}")
        self._members[name] = member

    def replace(self, name: str, file: Member) -> None:
        """Have `file` under that name, whatever there was."""
        self._members[_inside(name)] = file

    def find(self, name: str) -> Member | None:
        """The file called `name`, through links. Raises `InvalidArchive` for links that lead nowhere good."""
        for _ in range(_MAX_LINKS):
            member = self._members.get(_inside(name))
            if member is None:
                return self._stored(_inside(name))
            if member.type == "file":
                return member
            directory = posixpath.dirname(_inside(name)) if member.type == "symlink" and not member.target.startswith("/") else ""
            name = posixpath.join(directory, member.target.lstrip("/"))
        raise InvalidArchive(f'invalid archive: too many levels of links at "{name}"')

    def _stored(self, name: str) -> Member | None:
        digest = _digest_of_blob(name) if self._find_stored is not None else None
        return self._find_stored(digest) if self._find_stored is not None and digest is not None else None

    def get(self, name: str) -> Member:
        """As `find`, but the file must be there, and have the digest that its name claims, if it claims one."""
        member = self.find(name)
        if member is None:
            raise InvalidArchive(f"open {name}: no such file or directory")
        claimed = _claimed_digest(name)
        if claimed is not None and member.digest is not None and claimed.algorithm == member.digest.algorithm and claimed != member.digest:
            raise InvalidArchive(f"invalid archive: {name} has digest {member.digest}")
        return member

    def blob(self, descriptor: Descriptor) -> Member:
        """The blob that `descriptor` points at, held against the descriptor's digest and size."""
        member = self.find(f"blobs/{descriptor.digest.algorithm}/{descriptor.digest.hex}")
        if member is None:
            raise InvalidArchive(f"content digest {descriptor.digest}: not found")
        if member.digest != descriptor.digest:
            raise InvalidArchive(f"unexpected commit digest {member.digest}, expected {descriptor.digest}")
        if member.size_bytes != descriptor.size_bytes:
            raise InvalidArchive(f"unexpected commit size {member.size_bytes}, expected {descriptor.size_bytes}: {descriptor.digest}")
        return member

    def has(self, descriptor: Descriptor) -> bool:
        """Whether there is a blob of that name."""
        return self.find(f"blobs/{descriptor.digest.algorithm}/{descriptor.digest.hex}") is not None

    def read(self, member: Member, limit_bytes: int) -> bytes:
        """The bytes of the document that `member` is. Raises `InvalidArchive` if they are more than `limit_bytes`."""
        if member.size_bytes > limit_bytes:
            raise InvalidArchive(f"invalid archive: {member.name} is larger than {limit_bytes} bytes")
        return self._read(member)


def claims_digest(name: str) -> bool:
    """Whether a member of that name is held against it."""
    return _claimed_digest(name) is not None


def _claimed_digest(name: str) -> Digest | None:
    """The digest that a member is named after, as docker save and others do for configs and layers."""
    directory, base = posixpath.split(name)
    if directory.endswith(("blobs/sha512", "blobs/sha384")):
        return find_digest(f"{directory[-6:]}:{base}")
    stem = base.removesuffix(".json").removeprefix("sha256:")
    if _HEX.fullmatch(stem) is None or (directory and not directory.endswith("blobs/sha256")):
        return None
    return Digest(f"sha256:{stem}")


def _digest_of_blob(name: str) -> Digest | None:
    """The digest whose blob is called `name` in an OCI layout. spec: OCI image-spec image-layout.md, Blobs."""
    directory, _, rest = name.partition("/")
    algorithm, _, encoded = rest.partition("/")
    return find_digest(f"{algorithm}:{encoded}") if directory == "blobs" else None


def _inside(name: str) -> str:
    """`name` normalized. Raises `InvalidArchive` if it leads out of the archive."""
    path = posixpath.normpath("/".join(part for part in name.split("/") if part) or ".")
    if path == ".." or path.startswith("../"):
        raise InvalidArchive(f'invalid archive: "{name}" is outside of it')
    return path
