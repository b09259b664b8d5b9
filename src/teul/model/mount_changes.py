"""A request to change what a container has mounted: a document of Teul's own."""

from __future__ import annotations

from teul.model.document import Document
from teul.model.mount import Mount


class MountChanges(Document):
    """Mounts to be taken away, by their places, and then those to be added, as HostConfig's Binds and Mounts.

    `force`: what is in use is taken away as well, and goes when nobody uses it any more.
    """

    remove: list[str] | None = None
    binds: list[str] | None = None
    mounts: list[Mount] | None = None
    force: bool = False
